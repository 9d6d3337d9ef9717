"""From runs to messages: what is told, once, whatever happens to the process in between."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
import sqlalchemy as sa

from alerts.console import Console
from alerts.evaluate import BURN, FRESHNESS_EMERGENCY, INGESTION_DOWN
from alerts.message import Alert, Severity, State
from alerts.notifier import DeliveryError, Memory
from alerts.slack_blocks import blocks, reply
from alerts.wording import headline, text
from checks.check import Sample
from checks.window import Window, micros
from monitor import chores, objectives, outbox, schema, silences
from monitor.alerting import Alerting
from monitor.clock import SystemClock
from monitor.config import Config
from monitor.config_alerting import MaintenanceConfig
from monitor.delivery import MOST_WAIT, Bucket, Delivery, deliver
from monitor.outbox import Remembered
from monitor.overview import incidents_lately
from monitor.resolve import build
from monitor.runner import Runner
from monitor.silences import Silence, maintenance
from monitor.store import Store
from monitor.watch import Watch
from tests.alerting.conftest import START

OpenShop = Callable[..., Any]
MINUTE = timedelta(minutes=1)


def test_an_outage_is_told_and_its_end(open_shop: OpenShop) -> None:
    shop = open_shop()
    told = shop.play("+" * 30 + "-" * 15 + "+" * 40)
    assert [(alert.state, alert.severity) for alert in told] == [
        (State.FIRING, Severity.PAGE),
        (State.RESOLVED, Severity.PAGE),
    ]
    first, last = told
    (problem,) = first.problems
    assert (problem.value, problem.limit, problem.tier) == ("11.7 min", "5 min", "page_fast")
    assert problem.sentence.endswith("of the time was bad over the last 1 h; the last run was bad")
    assert 0 < problem.burn_rate < 100
    assert 0 < last.problems[0].budget_spent_ratio < 1
    assert last.problems[0].budget_left_ratio < first.problems[0].budget_left_ratio + 1e-9


@pytest.mark.parametrize("is_there", [True, False], ids=["judged", "failed"])
def test_a_run_and_what_it_says_of_its_objective_finish_at_one_time(tmp_path: Path, is_there: bool) -> None:
    """Or the first bad run is looked for from a moment at which it had just ended."""
    if is_there:
        (tmp_path / "events.csv").write_text("at\n2026-03-03T12:00:00Z\n")
    events = {"files": f"{tmp_path}/events.csv", "roles": {"event_time": "at"}}
    config = Config.model_validate({"pipeline": "shop", "datasets": {"events": events}})
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{tmp_path}/state.db", "shop")) as store:
        check = next(check for check in pipeline.checks["events"] if check.id == "freshness")
        window = Window(START - MINUTE, START)
        (judged,) = Runner(pipeline, store, SystemClock()).run("events", [(check, window)])
    assert judged.failed != is_there
    assert [point.at for point in judged.points] == [judged.finished_at]


def test_what_did_not_land_is_part_of_what_an_incident_spent(open_shop: OpenShop) -> None:
    roles = {"event_time": "at", "user": "u", "item": "i"}
    sends = {"files": "y.csv", "roles": {"event_time": "at", "value": "n"}}
    each = {"every": "1m", "window": "1m", "settle": "0s"}
    shop = open_shop(
        datasets={"events": {"files": "x.csv", "roles": roles, "sent": "sends"}, "sends": sends},
        checks={"freshness": each, "ingestion": each},
    )
    told = []
    for minute in range(60):
        shop.clock.move(MINUTE)
        is_down = 10 <= minute < 40
        shop.commit(
            "ingestion", "-" if is_down else "+", good=100 if is_down else 1_000, total=1_000, limit=0.01,
            value=0.9 if is_down else 0.0, measure="failed_ratio",
        )  # fmt: skip
        told += shop.alerting.evaluate(shop.clock.now())
    pages = [alert for alert in told if alert.severity is Severity.PAGE]
    assert [(problem.alert, problem.value, problem.limit) for problem in pages[0].problems] == [
        (INGESTION_DOWN, "54 %", "50 %")
    ]
    # Nine tenths of 30 minutes of 28 days, of which one in a thousand may be bad.
    (end,) = (problem for problem in pages[-1].problems if problem.alert == INGESTION_DOWN)
    assert end.budget_spent_ratio == pytest.approx(0.9 * 30 / (28 * 24 * 60) / 0.001, rel=0.1)
    assert (end.value, end.limit) == ("90 %", "50 %")


def test_a_page_that_goes_on_while_runs_are_good_says_so(open_shop: OpenShop) -> None:
    shop = open_shop()
    (first,) = shop.play("+" * 30 + "-" * 15)
    shop.clock.move(MINUTE)
    shop.commit("freshness", "+", value=3)
    shop.alerting.evaluate(shop.clock.now())
    (incident,) = shop.alerting.memory.board.incidents
    (member,) = incident.members.values()
    calm = shop.alerting._context(shop.clock.now()).describe(member.found, State.FIRING, member.found.since, None)
    assert (first.problems[0].is_calm, calm.is_calm) == (False, True)
    header = blocks(replace(first, problems=(calm,)))[0]["text"]["text"]
    assert ", the last run was good, " in header
    assert "3 s" not in header, "that is no reason for a page"


def test_an_end_tells_what_was_worst_and_for_how_long(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 30 + "-" * 12)
    shop.clock.move(MINUTE)
    shop.commit("freshness", "-", value=1_500, limit=900, reason="newest event is 25 min old")
    assert shop.play("-" * 3) == []
    for _minute in range(40):
        shop.clock.move(MINUTE)
        shop.commit("freshness", "+", value=60, reason="newest event is 1 min old")
        if told := shop.alerting.evaluate(shop.clock.now()):
            break
    (end,) = told[0].problems
    assert (end.value, end.limit) == ("25 min", "15 min"), "the worst value, though other runs had lower limits"
    assert end.sentence == (
        "bad for 16 min, until 12:46 UTC, 03 Mar; at worst newest event is 25 min old; the last run was good"
    )
    assert shop.play("+" * 30 + "!" * 20)
    (end,) = (problem for alert in shop.play("+" * 20) for problem in alert.problems)
    assert (end.value, end.limit) == ("", ""), "a run that was good says nothing of those that failed"


def test_an_end_mixes_no_figures_of_two_runs(open_shop: OpenShop) -> None:
    shop = open_shop(slos={"unknown_ids": {"objective": 0.99, "tiers": "workbook"}})
    shop.commit("unknown_ids", "+", shop.clock.now() - timedelta(days=7))

    def play(runs: int, good: int) -> list[Alert]:
        told = []
        for _run in range(runs):
            shop.clock.move(MINUTE)
            said = f"{100 - good} ids are unknown"
            shop.commit(
                "unknown_ids", "-", good=good, value=1 - good / 100, limit=0.01, reason=said, sources=("ios", "web")
            )
            told += shop.alerting.evaluate(shop.clock.now())
        return [alert for alert in told if alert.severity is Severity.PAGE]

    play(40, 100)
    (first,) = play(20, 50)
    assert any(said.startswith("source ios: ") for said in first.problems[0].contributors)
    (last,) = play(20, 98)
    (end,) = last.problems
    assert "at worst 50 ids are unknown; the last run was bad: 2 ids are unknown" in end.sentence
    assert end.contributors == ()


def test_an_alarm_upstream_explains_another(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.commit("unknown_ids", "+", shop.clock.now() - timedelta(days=7))
    told = []
    for what in "+" * 240 + "-" * 40:
        shop.clock.move(MINUTE)
        shop.commit("freshness", what)
        shop.commit("unknown_ids", what)
        told += shop.alerting.evaluate(shop.clock.now())
    pages = [alert for alert in told if alert.severity is Severity.PAGE]
    assert {problem.check for alert in pages for problem in alert.problems} == {"freshness"}
    assert any("page of events-unknown_ids-user, which freshness explains" in alert.consequences for alert in pages)


def test_a_message_says_when_the_trouble_began_long_before_its_alarm(open_shop: OpenShop) -> None:
    shop = open_shop(slos={"unknown_ids": {"objective": 0.99, "tiers": "workbook"}})
    shop.commit("unknown_ids", "+", shop.clock.now() - timedelta(days=7))

    def play(runs: int, good: int) -> list[Alert]:
        told = []
        for _run in range(runs):
            shop.clock.move(MINUTE)
            shop.commit("unknown_ids", "-" if good < 100 else "+", good=good)
            told += shop.alerting.evaluate(shop.clock.now())
        return [alert for alert in told if alert.severity is Severity.PAGE]

    play(240, 100)
    began = shop.clock.now()
    told = play(60, 80)
    assert told[0].started - began > 30 * MINUTE
    assert told[0].began == told[0].problems[0].began == began
    assert f"; bad since {began:%H:%M}, alarm at {told[0].started:%H:%M} UTC" in headline(told[0])
    play(3, 100)
    told += play(30, 80) + play(120, 100)
    assert [alert.state for alert in told] == [State.FIRING, State.RESOLVED]
    assert {alert.began for alert in told} == {began}


def test_a_restart_neither_forgets_nor_repeats(open_shop: OpenShop) -> None:
    shop = open_shop()
    told = shop.play("+" * 30 + "-" * 12)
    assert len(told) == 1
    shop.restart()
    assert shop.play("-" * 5) == [], "it was told"
    shop.restart(after=2 * MINUTE)
    (last,) = shop.play("+" * 30)
    assert (last.key, last.state) == (told[0].key, State.RESOLVED)


def test_what_nobody_saw_is_not_taken_for_good_or_bad(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 30 + "-")
    shop.restart(after=60 * MINUTE)
    track = shop.alerting._tracks["events-freshness"]
    assert shop.play("+") == []
    assert track.over(shop.clock.now(), 50 * MINUTE).events < 120, "the bad run does not hold through the downtime"


def test_what_was_found_bad_is_not_over_because_the_check_cannot_run(open_shop: OpenShop) -> None:
    shop = open_shop()
    told = shop.play("+" * 30 + "-" * 15)
    told += shop.play("!" * 40)
    assert {alert.state for alert in told if alert.severity is Severity.PAGE} == {State.FIRING}
    assert told[-1].change.endswith(
        "kept quiet: RecwatchSloNoData of events-freshness, as its check cannot judge any more"
    )
    assert "the last run failed: cannot connect" in told[-1].problems[0].sentence
    (end,) = [alert for alert in shop.play("+" * 20) if alert.state is State.RESOLVED]
    assert end.problems[0].sentence.endswith("; the last run was good")


def test_an_end_for_want_of_a_check_does_not_claim_that_all_is_good(open_shop: OpenShop) -> None:
    shop = open_shop()
    assert len(shop.play("+" * 30 + "-" * 15)) == 1
    shop.reload("freshness")
    shop.clock.move(6 * MINUTE)
    shop.alerting.evaluate(shop.clock.now())
    shop.clock.move(6 * MINUTE)
    (end,) = shop.alerting.evaluate(shop.clock.now())
    assert (end.state, end.problems[0].sentence) == (State.RESOLVED, "events-freshness is not watched any more")
    assert end.change == "events-freshness is not watched any more"
    assert "RESOLVED" not in text(end)
    assert "Resolved" not in str(blocks(end)) + reply(end)


def test_an_objective_that_is_disabled_is_not_watched_any_more(open_shop: OpenShop) -> None:
    shop = open_shop()
    assert len(shop.play("+" * 30 + "-" * 15)) == 1
    shop.extra["slos"] = {"freshness": {"enabled": False}}
    shop.reload()
    (end,) = shop.play("-" * 15)
    assert headline(end).startswith("NOT WATCHED shop: freshness of events, after ")
    (listed,) = incidents_lately(shop.store, shop.clock.now())
    assert (listed.is_open, listed.is_watched) == (False, False)
    assert end.change == "events-freshness is not watched any more"


def test_an_overdue_check_stays_so_through_reloads_and_restarts(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+")
    (told,) = shop.play("!" * 20)
    assert told.problems[0].alert == "RecwatchCheckOverdue"
    shop.reload()
    assert shop.play("!" * 20) == []
    shop.restart(after=90 * MINUTE)
    assert shop.play("!" * 5) == []
    assert [alert.state for alert in shop.play("+")] == [State.RESOLVED]


def test_a_check_is_not_overdue_for_the_time_without_a_daemon(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 5)
    shop.restart(after=90 * MINUTE)
    (early,) = shop.play("!" * 6)
    assert [problem.alert for problem in early.problems] == ["RecwatchSloNoData"]
    (later,) = shop.play("!" * 10)
    assert {problem.alert for problem in later.problems} == {"RecwatchSloNoData", "RecwatchCheckOverdue"}


def test_a_feed_that_is_looked_at_once_an_hour_is_no_emergency_between(open_shop: OpenShop) -> None:
    shop = open_shop(every={"freshness": "1h"})
    gauge = "recwatch_newest_event_timestamp_seconds"
    told = []
    for minute in range(6 * 60):
        shop.clock.move(MINUTE)
        if minute % 60 == 0 and minute < 180:
            newest = Sample(gauge, {"dataset": "events", "source": "(all)"}, shop.clock.now().timestamp() - 60)
            shop.commit("freshness", "+", gauges=(newest,))
        told += [
            (minute, problem.alert) for alert in shop.alerting.evaluate(shop.clock.now()) for problem in alert.problems
        ]
    emergencies = [minute for minute, alert in told if alert == "RecwatchFreshnessEmergency"]
    assert emergencies[0] == 120 + 125 + 1, "once two runs and max_age have passed, for a minute"


def test_all_that_is_said_of_a_feed_that_stopped_agrees(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 30)
    newest = shop.clock.now()
    stopped = Sample(
        "recwatch_newest_event_timestamp_seconds", {"dataset": "events", "source": "(all)"}, newest.timestamp()
    )
    told = []
    for minute in range(1, 40):
        shop.clock.move(MINUTE)
        shop.commit("freshness", "-" if minute > 5 else "+", value=60 * minute, gauges=(stopped,))
        told += shop.alerting.evaluate(shop.clock.now() + timedelta(seconds=20))
    emergency, burn = (
        next(problem for problem in told[-1].problems if problem.alert == alert)
        for alert in (FRESHNESS_EMERGENCY, BURN)
    )
    assert emergency.began == burn.began == told[-1].began == newest + 5 * MINUTE
    assert (
        emergency.sentence == f"the newest event is {emergency.value} old, more than {emergency.limit} is an emergency"
    )
    assert emergency.limit == "30 min"


def test_what_a_clock_dated_ahead_pages_once_and_not_after_each_restart(open_shop: OpenShop) -> None:
    shop = open_shop(slos={"unknown_ids": {"tiers": "workbook"}})
    shop.commit("unknown_ids", "+", shop.clock.now() - timedelta(days=7))

    def play(minutes: str, **fields: Any) -> list[Alert]:
        told = []
        for what in minutes:
            shop.clock.move(MINUTE)
            shop.commit("unknown_ids", what, **fields)
            told += shop.alerting.evaluate(shop.clock.now())
        return [alert for alert in told if alert.severity is Severity.PAGE]

    play("+" * 60)
    shop.clock.move(timedelta(hours=12))
    assert play("-" * 20, good=0)
    shop.clock.move(-timedelta(hours=12))
    play("+" * 180)
    assert {incident.severity for incident in shop.alerting.memory.board.incidents} <= {Severity.TICKET}
    for _restart in range(3):
        shop.restart(after=MINUTE)
        assert play("+" * 20) == []


def test_a_time_that_nobody_evaluated_keeps_what_happened_in_it(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 120)
    for _minute in range(90):
        shop.clock.move(MINUTE)
        shop.commit("freshness", "-")
    shop.restart()
    assert [alert.severity for alert in shop.play("-")] == [Severity.PAGE]
    track = shop.alerting._tracks["events-freshness"]
    assert track.over(shop.clock.now(), 60 * MINUTE).bad_ratio == 1


def test_a_channel_that_is_gone_for_a_while_hears_of_the_end(open_shop: OpenShop) -> None:
    both = {"pager": {"type": "console"}, "chat": {"type": "console"}}
    shop = open_shop(channels=both)
    shop.play("+" * 30 + "-" * 12)
    for channels in ({"chat": {"type": "console"}}, {}, both):
        shop.extra["channels"] = channels
        shop.reload()
        shop.play("-")
    (end,) = shop.play("+" * 30)
    assert end.state is State.RESOLVED
    assert outbox.lengths(shop.store) == {"pager": 2, "chat": 2}


def test_a_daemon_that_began_ahead_calls_checks_overdue_once_its_clock_is_right(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.clock.move(timedelta(days=1))
    shop.restart()
    shop.play("+" * 5)
    shop.clock.move(-timedelta(days=1))
    shop.play("+" * 5)
    shop.restart()
    told = [problem.alert for alert in shop.play("!" * 30) for problem in alert.problems]
    assert "RecwatchCheckOverdue" in told


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=1)], ids=["an hour", "a day"])
def test_a_clock_that_ran_ahead_for_a_while_hides_nothing(open_shop: OpenShop, ahead: timedelta) -> None:
    shop = open_shop()
    shop.play("+" * 60)
    shop.clock.move(ahead)
    shop.play("+-+")
    shop.clock.move(-ahead)
    shop.play("+" * 60)
    told = [alert for alert in shop.play("-" * 20) if alert.severity is Severity.PAGE]
    assert [alert.state for alert in told] == [State.FIRING]
    told = [alert for alert in shop.play("+" * 40) if alert.severity is Severity.PAGE]
    assert [alert.state for alert in told] == [State.RESOLVED]


def test_the_past_wakes_nobody(open_shop: OpenShop) -> None:
    """After downtime, or a backfill, bad windows of the past spend budget and are not told."""
    shop = open_shop()
    shop.play("+" * 30)
    now = shop.clock.now()
    for minutes in range(60, 20, -1):
        shop.commit("freshness", "-", now - minutes * MINUTE - 30 * MINUTE)
    assert shop.alerting.evaluate(now) == []
    slos = shop.pipeline.slos
    assert objectives.spent(shop.store, slos, now)["events-freshness"].bad == 40 * 60
    counted = [
        s for s in shop.store.counters() if s.metric == "recwatch_slo_checks_total" and s.labels["result"] == "bad"
    ]
    assert sum(sample.value for sample in counted) == 0


def test_the_first_judgement_of_a_window_stands(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 5)
    for _again in range(3):
        shop.commit("freshness", "-")
    assert objectives.spent(shop.store, shop.pipeline.slos, shop.clock.now())["events-freshness"].bad == 0


def test_a_run_that_could_not_judge_gives_way_to_one_that_can(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 5)
    shop.clock.move(MINUTE)
    shop.commit("freshness", "?")
    shop.commit("freshness", "-")
    assert objectives.spent(shop.store, shop.pipeline.slos, shop.clock.now())["events-freshness"].bad == 60


def test_a_silence_keeps_people_quiet_until_it_ends(open_shop: OpenShop) -> None:
    shop = open_shop()
    now = shop.clock.now()
    silence = Silence(0, "events-fresh*", now, now + 60 * MINUTE, "known", "me")
    number = silences.add(shop.store, silence)
    assert silences.current(shop.store, now) == [replace(silence, id=number)]
    assert shop.play("+" * 30 + "-" * 12) == []
    assert silences.end(shop.store, number, shop.clock.now())
    assert len(shop.play("-")) == 1
    assert not silences.end(shop.store, number, shop.clock.now()), "it has ended already"
    assert silences.current(shop.store, shop.clock.now()) == []


def test_a_silence_is_in_force_from_its_start_until_its_end_for_what_it_names(open_shop: OpenShop) -> None:
    now, tick = START, timedelta(microseconds=1)
    silence = Silence(1, "events-fresh*", now, now + 60 * MINUTE, "known", "me")
    for at, holds in [(now - tick, False), (now, True), (silence.end - tick, True), (silence.end, False)]:
        assert silence.covers("events-freshness", at) is holds
    assert not silence.covers("events-density", now)
    # Those still to come are told, too; the first to end comes first.
    store = open_shop().store
    found = [silences.add(store, replace(silence, start=now + start * MINUTE, end=now + end * MINUTE))
             for start, end in [(0, 60), (30, 40), (-60, 0)]]  # fmt: skip
    assert [one.id for one in silences.current(store, now)] == [found[1], found[0]]
    assert [silences.end(store, number, now) for number in (found[2], found[1])] == [False, True]


@pytest.mark.parametrize(
    ("window", "hushed"),
    [
        ({"reason": "move", "start": "2026-03-03T12:00:00Z", "end": "2026-03-03T13:00:00Z"}, True),
        ({"reason": "move", "start": "2026-03-03T13:00:00Z", "end": "2026-03-03T14:00:00Z"}, False),
        ({"reason": "move", "start": "2026-03-03", "end": "2026-03-04", "slos": ["events-density"]}, False),
        ({"reason": "nightly", "cron": "0 12 * * *", "for": "1h"}, True),
        ({"reason": "nightly", "cron": "0 2 * * *", "for": "1h"}, False),
        ({"reason": "tuesdays, as cron counts", "cron": "0 12 * * 2", "for": "1h"}, True),
        ({"reason": "mondays", "cron": "0 12 * * 0-1,3-7", "for": "1h"}, False),
        ({"reason": "often", "cron": "*/5 * * * *", "for": "30m"}, True),
    ],
)
def test_maintenance_windows(window: dict[str, Any], hushed: bool, open_shop: OpenShop) -> None:
    shop = open_shop(maintenance=[window])
    at = shop.clock.now() + 30 * MINUTE
    assert bool(maintenance(shop.config.maintenance, "events-freshness", at)) is hushed


@pytest.mark.parametrize(
    "window",
    [
        {"reason": "move", "start": "2026-03-03T12:00:00Z", "end": "2026-03-03T13:00:00Z"},
        {"reason": "daily", "cron": "0 12 * * *", "for": "1h"},
    ],
)
def test_a_maintenance_window_holds_from_its_start_until_its_end(window: dict[str, Any]) -> None:
    windows, tick = [MaintenanceConfig.model_validate(window)], timedelta(microseconds=1)
    noon, end = datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(2026, 3, 3, 13, tzinfo=UTC)
    for at, holds in [(noon - tick, False), (noon, True), (end - tick, True), (end, False)]:
        assert bool(maintenance(windows, "events-freshness", at)) is holds, at


def test_old_points_and_hours_are_forgotten(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 30)
    objectives.prune(shop.store, shop.clock.now() - 5 * MINUTE, shop.clock.now() + MINUTE)
    with shop.store.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.slo_points)).scalar() <= 6
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.slo_hours)).scalar() == 0


# -- the outbox ----------------------------------------------------------------------------------


class Flaky:
    """A notifier that fails as it is told to, and may be killed after it delivered."""

    kind: ClassVar[str] = "flaky"
    rate_per_second: ClassVar[float] = 1_000.0
    burst: ClassVar[int] = 1_000

    def __init__(self, *errors: BaseException) -> None:
        self.got: list[tuple[str, int]] = []
        self.errors = list(errors)

    def deliver(self, alert: Alert, memory: Memory) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.got.append((alert.key, alert.transition))
        memory["last"] = str(alert.transition)


def test_what_waits_is_delivered_in_order_and_once(open_shop: OpenShop) -> None:
    shop, flaky = open_shop(), Flaky()
    told = shop.play("+" * 30 + "-" * 12 + "+" * 30)
    passing = DeliveryError("busy", permanent=False)
    flaky.errors = [passing, passing, DeliveryError("slow down", permanent=False, retry_after_seconds=100.0)]
    waits = []
    while (item := outbox.first(shop.store, "here")) is not None:
        if item.next_at > shop.clock.now():
            waits.append((item.next_at - shop.clock.now()).total_seconds())
            shop.clock.move(item.next_at - shop.clock.now())
        deliver(shop.store, shop.clock, flaky, item)
    assert flaky.got == [(alert.key, alert.transition) for alert in told]
    assert 1.5 < waits[0] < 2.5 < waits[1] < 5 < waits[2]
    assert waits[2] >= 99
    counted = {s.labels["result"]: s.value for s in shop.store.counters() if s.metric == "recwatch_notifications_total"}
    assert sum(counted.values()) <= len(told), "the first value of a counter is held back, so that it has an increase"


def test_what_a_clock_that_ran_ahead_has_put_off_is_delivered(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 30)
    shop.clock.move(timedelta(days=1))
    assert len(shop.play("-" * 12)) == 1
    deliver(shop.store, shop.clock, Flaky(DeliveryError("busy", permanent=False)), outbox.first(shop.store, "here"))
    shop.clock.move(-timedelta(days=1))
    stream = io.StringIO()
    delivery = Delivery(shop.store, shop.clock, {"here": Console("here", stream)})
    delivery.lead(True)
    assert delivery._next("here", delivery._notifiers["here"], Bucket(1.0, 1))
    assert outbox.first(shop.store, "here") is None
    assert stream.getvalue()


def test_a_message_that_was_put_off_waits_as_long_as_it_should_and_no_longer(open_shop: OpenShop) -> None:
    shop, channel, tick = open_shop(), Flaky(), timedelta(microseconds=1)
    assert len(shop.play("+" * 30 + "-" * 12)) == 1
    delivery = Delivery(shop.store, shop.clock, {"here": channel})
    delivery.lead(True)
    asked = Flaky(DeliveryError("busy", permanent=False, retry_after_seconds=600.0))
    deliver(shop.store, shop.clock, asked, outbox.first(shop.store, "here"))
    assert outbox.first(shop.store, "here").next_at == shop.clock.now() + 10 * MINUTE
    shop.clock.move(10 * MINUTE - tick)
    assert not delivery._next("here", channel, Bucket(1.0, 1))
    shop.clock.move(tick)
    assert delivery._next("here", channel, Bucket(1.0, 1))
    assert len(channel.got) == 1


def test_no_message_waits_longer_than_the_longest_wait(open_shop: OpenShop) -> None:
    shop, channel, tick = open_shop(), Flaky(), timedelta(microseconds=1)
    assert len(shop.play("+" * 30 + "-" * 12)) == 1
    delivery = Delivery(shop.store, shop.clock, {"here": channel})
    delivery.lead(True)
    asked = Flaky(DeliveryError("busy", permanent=False, retry_after_seconds=1e9))
    deliver(shop.store, shop.clock, asked, outbox.first(shop.store, "here"))
    assert outbox.first(shop.store, "here").next_at == shop.clock.now() + MOST_WAIT
    assert not delivery._next("here", channel, Bucket(1.0, 1))
    shop.clock.move(-tick)
    assert delivery._next("here", channel, Bucket(1.0, 1)), "a clock that ran ahead has put it off"


def test_whatever_goes_wrong_a_channel_goes_on(open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, stream, there, failures = open_shop(), io.StringIO(), outbox.first, [TypeError("no such field")]

    def first(store: Any, channel: str) -> outbox.Item | None:
        if failures:
            raise failures.pop()
        return there(store, channel)

    shop.play("+" * 30 + "-" * 12)
    monkeypatch.setattr(outbox, "first", first)
    monkeypatch.setattr("monitor.delivery.LOOKS_EVERY_SECONDS", 0.05)
    delivery = Delivery(shop.store, shop.clock, {"here": Console("here", stream)})
    delivery.lead(True)
    delivery.start()
    ends = time.monotonic() + 20
    while not stream.getvalue() and time.monotonic() < ends:
        time.sleep(0.02)
    delivery.close()
    assert stream.getvalue()
    assert not failures


def test_what_waits_for_channels_of_another_pipeline_is_not_given_up(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 30 + "-" * 12)
    with closing(Store(shop.url, "films")) as films:
        assert outbox.readdress(films, ["there"], lambda _alert: ["there"], shop.clock.now()) == 0
    assert outbox.lengths(shop.store) == {"here": 1}


def test_a_channel_that_is_renamed_hears_of_the_end(open_shop: OpenShop) -> None:
    shop, flaky = open_shop(), Flaky()
    shop.play("+" * 30 + "-" * 12)
    deliver(shop.store, shop.clock, flaky, outbox.first(shop.store, "here"))
    shop.extra["channels"] = {"there": {"type": "console"}}
    shop.reload()
    (end,) = shop.play("+" * 30)
    item = outbox.first(shop.store, "there")
    assert [incident.channels for incident in shop.alerting.memory.board.incidents] == []
    assert (item.alert.transition, item.alert.state) == (2, State.RESOLVED)
    assert outbox.first(shop.store, "here") is None
    assert item.alert.key == end.key


@pytest.mark.parametrize(
    ("before", "after", "own", "told"),
    [
        (("gone", "kept"), ("kept", "fresh"), (), {"kept", "fresh"}),
        (("all", "team-a"), ("all", "team-b"), ("team-a", "team-b"), {"team-b"}),
    ],
)
def test_who_takes_the_place_of_a_channel_hears_everything(
    before: tuple[str, ...], after: tuple[str, ...], own: tuple[str, ...], told: set[str], open_shop: OpenShop
) -> None:
    def extra(channels: tuple[str, ...], at: int) -> dict[str, Any]:
        found: dict[str, Any] = {"channels": {name: {"type": "console"} for name in channels}}
        return {**found, "slos": {"freshness": {"channels": [own[at]]}}} if own else found

    shop = open_shop(**extra(before, 0))
    shop.play("+" * 30 + "-" * 12)
    shop.extra = extra(after, 1)
    shop.reload()
    watch = Watch(shop.store, shop.pipeline, shop.clock)
    watch._readdress(shop.alerting, shop.clock.now())
    shop.play("+" * 30)
    sent = outbox.history(shop.store, shop.clock.now() - timedelta(days=1))
    assert [entry.alert.transition for entry in sent] == [2, 1]
    for entry in sent:
        assert {name for name, state in entry.channels.items() if state == "queued"} == told


def test_what_waits_for_a_channel_that_is_gone_goes_to_the_others(open_shop: OpenShop) -> None:
    shop = open_shop(channels={"here": {"type": "console"}, "too": {"type": "console"}})
    shop.play("+" * 30 + "-" * 12)
    deliver(shop.store, shop.clock, Flaky(), outbox.first(shop.store, "too"))
    moved = outbox.readdress(shop.store, ["too", "there"], lambda alert: ("too", "there"), shop.clock.now())
    assert moved == 1
    assert outbox.lengths(shop.store) == {"there": 1}, "the other one has it"
    (sent,) = outbox.history(shop.store, shop.clock.now() - timedelta(days=1))
    assert sent.channels == {"here": "refused", "there": "queued", "too": "delivered"}
    assert sent.errors == {"here": "there is no such channel any more"}
    of = schema.counters.c
    # What was never exposed is held back at 0 first.
    counted = sa.select(of.labels, of.value + of.held).where(of.metric == "recwatch_notifications_total")
    with shop.store.reading() as connection:
        told = {tuple(json.loads(labels).values()): n for labels, n in connection.execute(counted)}
    assert told == {("here", "refused"): 1, ("too", "delivered"): 1}
    assert outbox.readdress(shop.store, ["too", "there"], lambda alert: ("too", "there"), shop.clock.now()) == 0


def test_what_is_refused_for_good_does_not_hold_up_the_rest(open_shop: OpenShop) -> None:
    shop, flaky = open_shop(), Flaky()
    told = shop.play("+" * 30 + "-" * 12 + "+" * 30)
    flaky.errors = [DeliveryError("refused", permanent=True)]
    while (item := outbox.first(shop.store, "here")) is not None:
        deliver(shop.store, shop.clock, flaky, item)
    assert flaky.got == [(alert.key, alert.transition) for alert in told[1:]]
    sent = outbox.history(shop.store, shop.clock.now() - timedelta(days=1))
    assert [entry.channels["here"] for entry in sent] == ["delivered"] * (len(told) - 1) + ["refused"]


def test_a_broken_notifier_is_tried_again(open_shop: OpenShop) -> None:
    shop, flaky = open_shop(), Flaky()
    shop.play("+" * 30 + "-" * 12)
    flaky.errors = [RuntimeError("a bug, with s3cret details")]
    item = outbox.first(shop.store, "here")
    said = deliver(shop.store, shop.clock, flaky, item)
    assert said == "here: RuntimeError"
    assert outbox.first(shop.store, "here").attempts == 1


def test_a_kill_between_delivery_and_note_repeats_one_message_and_loses_none(open_shop: OpenShop) -> None:
    shop, flaky = open_shop(), Flaky()
    told = shop.play("+" * 30 + "-" * 12 + "+" * 30)
    item = outbox.first(shop.store, "here")
    flaky.deliver(item.alert, Remembered(shop.store, "here", item.alert.key))
    # Killed here. The next process finds the message again, and what the channel remembers.
    again = outbox.first(shop.store, "here")
    assert again.id == item.id
    assert dict(Remembered(shop.store, "here", again.alert.key)) == {"last": "1"}
    while (item := outbox.first(shop.store, "here")) is not None:
        deliver(shop.store, shop.clock, flaky, item)
    assert set(flaky.got) == {(alert.key, alert.transition) for alert in told}


def test_channels_have_threads_of_their_own(open_shop: OpenShop) -> None:
    shop, stream = open_shop(), io.StringIO()
    shop.play("+" * 30 + "-" * 12 + "+" * 30)
    delivery = Delivery(shop.store, shop.clock, {"here": Console("here", stream)})
    delivery.start()
    delivery.lead(True)
    delivery.wake()
    for _wait in range(200):
        if outbox.first(shop.store, "here") is None:
            break
        with suppress(TimeoutError):
            delivery._stopping.wait(0.05)
    delivery.close()
    assert stream.getvalue().count("shop: freshness of events") == 2


@pytest.mark.parametrize("happens", ["it stands by", "it ends"])
def test_what_waits_for_its_rate_is_not_told_by_who_may_not_any_more(happens: str, open_shop: OpenShop) -> None:
    shop, channel, bucket = open_shop(), Flaky(), Bucket(1.0, 1)
    assert len(shop.play("+" * 30 + "-" * 12 + "+" * 30)) == 2
    delivery = Delivery(shop.store, shop.clock, {"here": channel})
    delivery.lead(True)
    assert delivery._next("here", channel, bucket)
    end = partial(delivery.lead, False) if happens == "it stands by" else partial(delivery.close, 0)
    threading.Timer(0.02, end).start()
    assert not delivery._next("here", channel, bucket)
    assert len(channel.got) == 1
    assert outbox.lengths(shop.store) == {"here": 1}


def test_what_is_being_sent_while_channels_change_is_sent_once(open_shop: OpenShop) -> None:
    shop, began, may_end = open_shop(), threading.Event(), threading.Event()
    told = shop.play("+" * 30 + "-" * 12 + "+" * 30)

    class Slow(Flaky):
        def deliver(self, alert: Alert, memory: Memory) -> None:
            began.set()
            assert may_end.wait(20)
            super().deliver(alert, memory)

    slow, quick = Slow(), Flaky()
    before, after = (Delivery(shop.store, shop.clock, {"here": channel}) for channel in (slow, quick))
    before.start()
    before.lead(True)
    before.wake()
    assert began.wait(20)
    after.start(before)
    assert not after._stopping.wait(0.1)
    assert (slow.got, quick.got) == ([], [])
    may_end.set()
    ends = time.monotonic() + 20
    while outbox.lengths(shop.store) and time.monotonic() < ends:
        time.sleep(0.01)
    after.close()
    assert [number for _key, number in slow.got + quick.got] == [alert.transition for alert in told] == [1, 2]
    assert len(slow.got) == 1


@pytest.mark.parametrize("wrong", [(), (TypeError("no such field"),)], ids=["without work", "that fails"])
def test_a_channel_looks_for_work_now_and_then(
    wrong: tuple[Exception, ...], open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, looks, looked = open_shop(), list[str](), threading.Event()

    def look(_store: Store, channel: str) -> None:
        looks.append(channel)
        looked.set()
        for error in wrong:
            raise error

    monkeypatch.setattr(outbox, "first", look)
    delivery = Delivery(shop.store, shop.clock, {"here": Flaky()})
    delivery.lead(True)
    delivery.start()
    assert looked.wait(20)
    time.sleep(0.1)
    assert looks == ["here"]
    delivery.close()


def test_a_bucket_allows_a_burst_and_then_its_rate() -> None:
    bucket = Bucket(10.0, 3)
    waits = [bucket.wait_seconds() for _ in range(5)]
    assert waits[:3] == [0.0] * 3
    assert 0.05 < waits[3] <= 0.1
    assert 0.15 < waits[4] <= 0.2


def test_what_was_told_is_forgotten_after_a_while_and_what_waits_is_not(open_shop: OpenShop) -> None:
    shop, flaky = open_shop(), Flaky()
    shop.play("+" * 30 + "-" * 12 + "+" * 30)
    outbox.prune(shop.store, shop.clock.now() + MINUTE)
    assert outbox.first(shop.store, "here") is not None
    while (item := outbox.first(shop.store, "here")) is not None:
        deliver(shop.store, shop.clock, flaky, item)
    outbox.prune(shop.store, shop.clock.now() + MINUTE)
    assert outbox.history(shop.store, shop.clock.now() - timedelta(days=9)) == []
    with shop.store.reading() as connection:
        for table in (schema.transitions, schema.outbox, schema.memories):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0, table.name


def test_what_others_told_meanwhile_is_read_though_an_evaluation_was_under_way(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, made = open_shop(), list[bool]()
    watch = Watch(shop.store, shop.pipeline, shop.clock)

    class Interrupted(Alerting):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(True)
            if len(made) == 1:
                # Another thread learns that this daemon does not lead, and then that it does.
                watch.lead(False)
                watch.lead(True)

    monkeypatch.setattr("monitor.watch.Alerting", Interrupted)
    for _evaluation in range(3):
        watch.evaluate()
    assert len(made) == 2


def test_a_channel_remembers_an_incident_for_as_long_as_it_is_open(open_shop: OpenShop) -> None:
    shop, flaky = open_shop(), Flaky()
    (first,) = shop.play("+" * 30 + "-" * 12)
    deliver(shop.store, shop.clock, flaky, outbox.first(shop.store, "here"))

    def prune() -> None:
        shop.clock.move(shop.config.limits.keep + timedelta(days=1))
        live = SimpleNamespace(config=shop.config, pipeline=shop.pipeline)
        chores.prune(cast(Any, SimpleNamespace(store=shop.store, clock=shop.clock, live=live)))

    prune()
    assert dict(Remembered(shop.store, "here", first.key)) == {"last": "1"}
    assert outbox.newest(shop.store, first.key) == first
    shop.restart()
    ends = [alert for alert in shop.play("+" * 20) if alert.key == first.key]
    assert [alert.state for alert in ends] == [State.RESOLVED]
    while (item := outbox.first(shop.store, "here")) is not None:
        deliver(shop.store, shop.clock, flaky, item)
    prune()
    assert not Remembered(shop.store, "here", first.key)


def test_an_open_incident_stays_on_the_page_however_old_it_is(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.play("+" * 30 + "-" * 12)
    shop.clock.move(timedelta(days=8))
    (incident,) = incidents_lately(shop.store, shop.clock.now())
    assert (incident.is_open, incident.title) == (True, "freshness of events")
    shop.restart()
    shop.play("+" * 8)
    shop.clock.move(timedelta(days=8))
    assert incidents_lately(shop.store, shop.clock.now()) == ()


def test_a_message_links_to_the_evidence_of_its_subject(open_shop: OpenShop) -> None:
    shop = open_shop(notify={"external_url": "https://watch.example/"})
    shop.play("+" * 30)
    row = {"pipeline": "shop", "dataset": "events", "check_id": "freshness", "outcome": "bad", "body": "{}"}
    with shop.store.writing() as connection:
        for name, subject, age in (("old", "{}", 3 * 24 * 60), ("right", "{}", 1), ("other", '{"source":"ios"}', 0)):
            at = micros(shop.clock.now() - age * MINUTE)
            connection.execute(schema.evidence.insert().values(**row, id=name, subject=subject, at_us=at))
    told = shop.play("-" * 15)
    assert [link.url for link in told[0].links if link.text == "Evidence"] == ["https://watch.example/evidence/right"]
