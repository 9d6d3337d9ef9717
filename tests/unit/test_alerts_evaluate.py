"""When there is reason to alert: each condition at its bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alerts.burn import Tier
from alerts.evaluate import BURN, INGESTION_DOWN, Sign, burning, overdue, silent, stale
from alerts.message import Severity
from alerts.slo import Kind, Slo
from alerts.track import Track
from checks.check import Outcome

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# More than half must be bad: one half is what the budget allows.
TIER = Tier("page", "critical", HOUR, 5 * MINUTE, burn_rate=1)
SLO = Slo("x", "events", "unknown_ids", Kind.EVENTS, 0.5, 28 * DAY, MINUTE, (TIER,))
Run = tuple[float, int, int]


def signs(slo: Slo, runs: Iterable[Run], since: datetime = NOW - DAY, fires: Iterable[Sign] = ()) -> list[Sign]:
    """Return the signs of runs, each so many minutes ago with good and bad events."""
    track = Track(slo)
    for ago, good, bad in sorted(runs, reverse=True):
        outcome = Outcome.BAD if bad else Outcome.GOOD if good else Outcome.UNKNOWN
        track.add(NOW - ago * MINUTE, outcome, good, bad)
    return list(burning(track, since, NOW, {sign.key: sign for sign in fires}))


BAD = [(1.0, 1, 3), (50.0, 1, 3)]
BURNS = Sign(BURN, "x", Severity.PAGE, "page", "events", "unknown_ids", 0.75, 0.5)


def test_a_tier_burns_while_both_windows_are_worse_than_its_threshold() -> None:
    assert signs(SLO, BAD) == [BURNS]
    assert BURNS.key == "RecwatchSloBudgetBurn/x/page"
    assert signs(SLO, [(1, 1, 1), (50, 1, 3)]) == [], "the short window is at the threshold"
    assert signs(SLO, [(1, 1, 3), (50, 3, 1)]) == [], "the long window is at the threshold"
    assert signs(SLO, [(4.99, 1, 3), (59.99, 1, 3)]) == [BURNS]
    assert signs(SLO, [(5, 1, 3), (50, 1, 3)]) == [], "the short window holds nothing"


def test_so_many_bad_runs_and_events_are_enough() -> None:
    assert signs(replace(SLO, min_bad_checks=2), BAD) == [BURNS]
    assert signs(replace(SLO, min_bad_checks=3), BAD) == []
    assert signs(replace(SLO, min_events=8), BAD) == [BURNS]
    assert signs(replace(SLO, min_events=9), BAD) == []
    slices = replace(SLO, kind=Kind.SLICES, min_events=1_000_000)
    assert signs(slices, BAD) == [replace(BURNS, value=1.0)], "of time no events are counted"


def test_half_of_the_long_window_must_have_been_watched() -> None:
    assert signs(SLO, BAD, since=NOW - 30 * MINUTE) == [BURNS]
    assert signs(SLO, BAD, since=NOW - 29 * MINUTE) == []


def test_while_nothing_is_known_only_what_fires_goes_on() -> None:
    then = replace(BURNS, value=0.9)
    assert signs(SLO, [(6, 1, 3), (50, 1, 3)]) == []
    assert signs(SLO, [(6, 1, 3)], fires=[then]) == [then], "with the value that it had"
    assert signs(SLO, [(6, 1, 1)], fires=[then]) == [], "what was last known is at the threshold"
    assert signs(SLO, [(24 * 60 - 1, 1, 3)], fires=[then]) == [then]
    assert signs(SLO, [(24 * 60, 1, 3)], fires=[then]) == [], "a day is enough"
    week = replace(SLO, tiers=(replace(TIER, long=7 * DAY),))
    assert signs(week, [(6 * 24 * 60, 1, 3)], fires=[then]) == [then], "or as long as the tier looks back"


INGESTION = replace(SLO, check="ingestion", tiers=())
DOWN = Sign(INGESTION_DOWN, "x", Severity.PAGE, "", "events", "ingestion", 0.75, 0.5)


def test_ingestion_is_down_while_more_than_half_is_lost() -> None:
    assert signs(INGESTION, BAD) == [DOWN]
    assert signs(INGESTION, [(1, 1, 1), (50, 0, 9)]) == []
    assert signs(INGESTION, [(4.99, 1, 3), (50, 1, 3)]) == [DOWN]
    assert signs(INGESTION, [(5, 1, 3), (50, 1, 3)]) == []
    assert signs(replace(INGESTION, check="duplicates"), BAD) == []
    assert signs(replace(INGESTION, kind=Kind.SLICES), BAD) == []
    assert signs(INGESTION, [(1, 1, 3), (119, 0, 9)]) == [DOWN], "a bad run of two hours ago is the second one"
    assert signs(INGESTION, [(1, 1, 3), (120, 0, 9)]) == []
    then = replace(DOWN, value=0.9)
    assert signs(INGESTION, [(6, 1, 3)], fires=[then]) == [then]
    assert signs(INGESTION, [(24 * 60, 1, 3)], fires=[then]) == []


@pytest.mark.parametrize(
    # Without a good or bad run for a quarter of an hour, or three intervals; four times as long before the first.
    ("interval", "judged", "due"),
    [(1, True, 15), (5, True, 15), (6, True, 18), (1, False, 60), (6, False, 72)],
)
def test_an_objective_is_silent_after_longer_than_is_normal(interval: int, judged: bool, due: int) -> None:
    slo, tick = replace(SLO, interval=interval * MINUTE), timedelta(microseconds=1)
    for waited, signs in [(due * MINUTE, 0), (due * MINUTE + tick, 1)]:
        at = NOW - waited
        assert len(list(silent(slo, at if judged else None, at - HOUR if judged else at, NOW))) == signs


def test_a_feed_and_a_check_are_late_after_their_limits() -> None:
    tick = timedelta(microseconds=1)
    assert list(stale("events", NOW - HOUR, HOUR, NOW)) == []
    assert [sign.threshold for sign in stale("events", NOW - HOUR - tick, HOUR, NOW)] == [3600]
    # Two intervals and five minutes.
    assert list(overdue("events", "density", NOW - 125 * MINUTE, HOUR, NOW)) == []
    assert [sign.threshold for sign in overdue("events", "density", NOW - 125 * MINUTE - tick, HOUR, NOW)] == [7500]
