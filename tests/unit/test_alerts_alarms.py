"""Alarms: how long a sign must hold, how long one that has gone is remembered, and since when one fires."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alerts.alarms import Alarm, firing, step
from alerts.evaluate import BURN, CHECK_OVERDUE, FRESHNESS_EMERGENCY, INGESTION_DOWN, NO_DATA, Sign
from alerts.message import Severity

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE, TICK = timedelta(minutes=1), timedelta(microseconds=1)
KEEP = 5 * MINUTE


def sign(alert: str) -> Sign:
    return Sign(alert, "events-x", Severity.PAGE, "", "events", "x", 1.0, 0.5)


@pytest.mark.parametrize(
    ("alert", "wait"),
    [(BURN, 0), (INGESTION_DOWN, 0), (FRESHNESS_EMERGENCY, 1), (NO_DATA, 5), (CHECK_OVERDUE, 5)],
)
def test_a_sign_fires_once_it_has_held_for_long_enough(alert: str, wait: int) -> None:
    alarms = step({}, [sign(alert)], NOON, KEEP)
    if wait:
        assert firing(alarms) == {}
        alarms = step(alarms, [sign(alert)], NOON + wait * MINUTE - TICK, KEEP)
        assert firing(alarms) == {}
        assert step(alarms, [], NOON + wait * MINUTE, KEEP) == {}, "what has not fired leaves nothing"
    since = NOON + wait * MINUTE
    alarms = step(alarms, [sign(alert)], since, KEEP)
    assert firing(alarms) == alarms == {sign(alert).key: Alarm(sign(alert), since, NOON)}
    worse = replace(sign(alert), value=2.0)
    assert step(alarms, [worse], since + MINUTE, KEEP) == {worse.key: Alarm(worse, since, NOON)}


@pytest.mark.parametrize("alert", [BURN, INGESTION_DOWN])
def test_what_flaps_fires_on_for_a_while_after_its_last_sign(alert: str) -> None:
    fires = step({}, [sign(alert)], NOON, KEEP)
    gone = step(fires, [], NOON + MINUTE, KEEP)
    assert gone == {sign(alert).key: Alarm(sign(alert), NOON, NOON, NOON + MINUTE)}
    still = step(gone, [], NOON + 6 * MINUTE - TICK, KEEP)
    assert still == gone
    assert step(still, [], NOON + 6 * MINUTE, KEEP) == {}
    assert step(still, [sign(alert)], NOON + 6 * MINUTE, KEEP) == fires, "the same alarm, back in time"


@pytest.mark.parametrize("alert", [FRESHNESS_EMERGENCY, NO_DATA, CHECK_OVERDUE])
def test_what_a_direct_rule_says_ends_with_its_sign(alert: str) -> None:
    fires = {sign(alert).key: Alarm(sign(alert), NOON, NOON)}
    assert step(fires, [], NOON + TICK, KEEP) == {}


def test_a_clock_that_ran_ahead_holds_nothing_back_and_keeps_nothing() -> None:
    ahead = {sign(NO_DATA).key: Alarm(sign(NO_DATA), None, NOON + 60 * MINUTE)}
    right = step(ahead, [sign(NO_DATA)], NOON, KEEP)
    assert firing(step(right, [sign(NO_DATA)], NOON + 5 * MINUTE, KEEP))
    gone = {sign(BURN).key: Alarm(sign(BURN), NOON, NOON, NOON + 60 * MINUTE)}
    assert step(step(gone, [], NOON, KEEP), [], NOON + 5 * MINUTE, KEEP) == {}
