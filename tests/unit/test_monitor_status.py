"""What the page and its JSON say about each check, and the one sentence about them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from checks import CATALOGUE
from checks.check import Outcome, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor.config import Config
from monitor.overview import ObjectiveStatus
from monitor.page import icon, left, moment, rest, value_and_limit
from monitor.records import Judged, SavedBaseline
from monitor.resolve import build
from monitor.runner import Disabled
from monitor.status import (
    MOST_LISTED,
    MOST_SHOWN,
    CheckStatus,
    State,
    Status,
    Watched,
    status,
    summary,
    without_secrets,
)
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
GOOD, BAD, UNKNOWN, ERROR = Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN, Outcome.ERROR


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/state.db", "shop")
    yield store
    store.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    events = {"files": "x.csv", "roles": {"event_time": "at"}, "checks": {"density": {"enabled": False}}}
    pipeline = build(Config.model_validate({"pipeline": "shop", "datasets": {"events": events}}))
    yield Watched(pipeline.config, pipeline.checks, {}, NOON - timedelta(hours=1))
    pipeline.close()


def commit(store: Store, check: str, *verdicts: Verdict, end: datetime = NOON, **more: Any) -> None:
    window = Window(end - MINUTE, end)
    found = [replace(verdict, check=check, window=window) for verdict in verdicts]
    failed = any(verdict.outcome is ERROR for verdict in found)
    tally = None if failed else Tally("events", window)
    store.commit(Judged(check, "events", window, found, end, 0.1, tally, advances=not failed, **more))


def verdict(outcome: Outcome = GOOD, value: float | None = 0.1, limit: float | None = 0.5, **more: Any) -> Verdict:
    return Verdict("", "events", Window(NOON - MINUTE, NOON), outcome, "unknown_ratio", value, limit, **more)


def look(store: Store, watched: Watched, now: datetime = NOON, **more: Any) -> dict[str, CheckStatus]:
    return {check.check: check for check in status(store, watched, now, **more).datasets["events"]}


def test_every_check_has_a_place_in_the_order_of_the_catalogue(store: Store, watched: Watched) -> None:
    found = look(store, watched)
    # Some are for a dataset only where they are named.
    assert list(found) == [check.id for check in CATALOGUE if check.settings_type().enabled]
    assert found["density"].state is State.DISABLED
    assert found["density"].says == "switched off in the configuration"
    assert {check.state for name, check in found.items() if name != "density"} == {State.WAITING}
    assert found["freshness"].says == "has not run yet, every 30 s"


def test_what_lacks_a_role_says_which(store: Store, watched: Watched) -> None:
    commit(store, "unknown_ids", verdict())
    lacking = Disabled("unknown_ids", "events", "needs the role user or item")
    found = look(store, replace(watched, disabled={("events", "unknown_ids"): lacking}))["unknown_ids"]
    assert (found.state, found.says) == (State.DISABLED, "needs the role user or item")
    assert found.subjects == (), "what it said before is no longer true"


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ([verdict()], State.GOOD),
        ([verdict(), verdict(UNKNOWN, source="rare")], State.GOOD),
        ([verdict(), verdict(BAD, source="ios")], State.BAD),
        ([verdict(entity="user"), verdict(BAD, entity="item")], State.BAD),
        ([verdict(UNKNOWN), verdict(source="ios")], State.UNKNOWN),
        ([verdict(feature="a"), verdict(ERROR, feature="b")], State.ERROR),
    ],
)
def test_a_check_is_as_bad_as_its_worst_part(
    store: Store, watched: Watched, verdicts: list[Verdict], state: State
) -> None:
    commit(store, "unknown_ids", *verdicts)
    assert look(store, watched)["unknown_ids"].state is state


def test_parts_come_worst_first_and_sources_after_them(store: Store, watched: Watched) -> None:
    commit(
        store, "unknown_ids",
        verdict(entity="item"), verdict(BAD, 0.9, entity="user"),
        verdict(source="web"), verdict(BAD, 0.6, source="ios"), verdict(BAD, 0.8, source="android"),
        verdict(UNKNOWN, source="tv"),
    )  # fmt: skip
    found = look(store, watched)["unknown_ids"]
    assert [subject.name for subject in found.subjects] == ["user", "item", "android", "ios"]
    assert [subject.name for subject in found.listed] == ["tv", "web"]
    assert found.unlisted == 0
    assert rest(found) == "2 more sources: 1 good, 1 unknown"


def test_what_fell_short_of_its_limit_by_most_comes_first(store: Store, watched: Watched) -> None:
    rates = {"half": 0.2, "nothing": 0.0, "nearly": 0.3, "twice": 0.9}
    limits = dict.fromkeys(rates, 0.4) | {"twice": 0.8}
    bad = [verdict(BAD, rate, limits[source], source=source) for source, rate in rates.items()]
    commit(store, "duplicates", verdict(BAD, 0.2, 0.4), *bad)
    shown = look(store, watched)["duplicates"].subjects
    assert [subject.name for subject in shown] == ["", "nothing", "half", "nearly", "twice"]


def test_many_parts_are_bounded_and_none_is_lost(store: Store, watched: Watched) -> None:
    commit(store, "feature_drift", *(verdict(BAD if n % 2 else GOOD, n, feature=f"f{n:02}") for n in range(60)))
    found = look(store, watched)["feature_drift"]
    assert len(found.subjects) == MOST_SHOWN
    assert len(found.listed) == MOST_LISTED
    assert found.unlisted == 60 - MOST_SHOWN - MOST_LISTED
    assert [subject.name for subject in found.subjects[:2]] == ["f59", "f57"], "bad ones first, and the farthest off"
    assert rest(found) == "54 more features: 6 good, 24 bad"


def test_only_the_dataset_and_its_parts_have_a_trend(store: Store, watched: Watched) -> None:
    for n in range(70):
        commit(store, "unknown_ids", verdict(value=n / 100), verdict(BAD, source="ios"), end=NOON - (69 - n) * MINUTE)
    whole, source = look(store, watched)["unknown_ids"].subjects
    assert [point.value for point in whole.trend] == [n / 100 for n in range(10, 70)]
    assert whole.trend[-1].end == NOON
    assert source.trend == ()


@pytest.mark.parametrize(("late", "state"), [(119, State.GOOD), (121, State.OVERDUE)])
def test_a_verdict_that_is_not_renewed_is_not_trusted(
    store: Store, watched: Watched, late: float, state: State
) -> None:
    """Freshness is due every 30 s: twice that and a minute, and it is overdue."""
    commit(store, "freshness", verdict())
    found = look(store, watched, NOON + timedelta(seconds=late))["freshness"]
    assert found.state is state
    assert ("old" in found.says) is (state is State.OVERDUE)


def test_after_a_restart_there_is_time_to_catch_up(store: Store, watched: Watched) -> None:
    commit(store, "freshness", verdict())
    now = NOON + timedelta(hours=3)
    assert look(store, replace(watched, read_at=now), now)["freshness"].state is State.GOOD


def test_an_error_tells_when_it_last_worked_and_no_password(store: Store, watched: Watched) -> None:
    commit(store, "freshness", verdict(), end=NOON - 10 * MINUTE)
    said = "cannot reach postgresql://me:hunter2@db/shop"
    commit(store, "freshness", replace(verdict(ERROR, None, None, reason=said), measure="none"))
    found = look(store, watched)["freshness"]
    assert found.error == found.subjects[0].reason == "cannot reach postgresql://me:***@db/shop"
    assert (found.finished_at, found.succeeded_at) == (NOON, NOON - 10 * MINUTE)


def test_references_are_told_where_a_check_has_one(store: Store, watched: Watched) -> None:
    span = Window(NOON - timedelta(days=7), NOON)
    store.save_baseline(SavedBaseline("events", "contract", span, NOON, True, {}, Tally("events", span)))
    found = look(store, watched)
    assert (found["contract"].reference, found["contract"].reference_pinned) == ((span.start, span.end), True)
    assert (found["popularity"].has_reference, found["popularity"].reference) == (True, None)
    assert not found["freshness"].has_reference


def test_a_stopped_schedule_outshouts_good_verdicts(store: Store, watched: Watched) -> None:
    commit(store, "freshness", verdict())
    found = status(store, watched, NOON, "the schedule has not moved for 61 s")
    assert found.state is State.ERROR
    assert found.sentence == "The checks have stopped: the schedule has not moved for 61 s"


def test_a_refused_configuration_is_a_problem_of_the_whole(store: Store, watched: Watched) -> None:
    assert status(store, watched, NOON).problems == ()
    (problem,) = status(store, replace(watched, read_problem="recwatch.yml:3:1: unknown key"), NOON).problems
    assert problem.endswith("stays in force: recwatch.yml:3:1: unknown key")


def test_verdicts_of_history_alone_are_not_shown(store: Store, watched: Watched) -> None:
    """A baseline leaves verdicts on past windows behind, though the check has yet to run."""
    window = Window(NOON - MINUTE, NOON)
    past = replace(verdict(BAD), check="freshness")
    store.commit_past(Judged("freshness", "events", window, [past], NOON, 0.1, Tally("events", window)))
    assert look(store, watched)["freshness"].state is State.WAITING


# -- sentences -----------------------------------------------------------------------------------


def checks(**states: State) -> list[CheckStatus]:
    return [
        CheckStatus(name.partition("__")[2] or "events", name.partition("__")[0], state, "")
        for name, state in states.items()
    ]


@pytest.mark.parametrize(
    ("found", "state", "sentence"),
    [
        ({"a": State.GOOD, "b": State.GOOD}, State.GOOD, "All 2 checks are good"),
        ({"a": State.GOOD}, State.GOOD, "The one check is good"),
        ({"a": State.GOOD, "b": State.DISABLED}, State.GOOD, "The one check is good"),
        ({"a": State.BAD, "b": State.GOOD}, State.BAD, "1 of 2 checks is bad: a on events"),
        ({"a": State.BAD}, State.BAD, "1 of 1 check is bad: a on events"),
        ({"a": State.BAD, "b": State.BAD}, State.BAD, "All 2 checks are bad: a, b on events"),
        ({"a": State.ERROR, "b": State.BAD, "c": State.UNKNOWN}, State.BAD, "1 of 3 checks is bad: b on events"),
        ({"a": State.ERROR, "b": State.UNKNOWN}, State.ERROR, "1 of 2 checks could not run: a on events"),
        ({"a": State.OVERDUE, "b": State.GOOD}, State.OVERDUE, "1 of 2 checks is overdue: a on events"),
        ({"a": State.UNKNOWN, "b": State.WAITING}, State.UNKNOWN, "1 of 2 checks could not judge: a on events"),
        ({"a": State.WAITING, "b": State.GOOD}, State.WAITING, "1 of 2 checks has not run yet: a on events"),
        ({"a": State.BAD, "b__clicks": State.BAD, "c": State.GOOD}, State.BAD,
         "2 of 3 checks are bad: a on events; b on clicks"),
        (dict.fromkeys("abcdefg", State.BAD), State.BAD,
         "All 7 checks are bad: a, b, c, d, e on events, and 2 more"),
        ({"a": State.DISABLED}, State.UNKNOWN, "No check can run: see the reason beside each"),
        ({}, State.UNKNOWN, "No check can run: see the reason beside each"),
    ],
)  # fmt: skip
def test_one_sentence_says_it(found: dict[str, State], state: State, sentence: str) -> None:
    assert summary(checks(**found)) == (state, sentence)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ("10 %", "at most 50 %")),
        ({"limit": None}, ("10 %", "")),
        ({"value": None, "limit": None}, ("\N{EN DASH}", "")),
        ({"value": 0.50001}, ("50.001 %", "at most 50 %")),
        ({"details": {"bound": "at least"}}, ("10 %", "at least 50 %")),
        ({"details": {"low": 0.2, "high": 0.4}}, ("10 %", "usual 20 % to 40 %")),
    ],
)
def test_a_limit_is_said_in_words(
    store: Store, watched: Watched, changes: dict[str, Any], said: tuple[str, str]
) -> None:
    commit(store, "freshness", replace(verdict(), **changes))
    assert value_and_limit(look(store, watched)["freshness"].subjects[0]) == said


def test_moments_of_another_day_have_their_date() -> None:
    assert moment(NOON, NOON + timedelta(hours=3)) == "12:00:00"
    assert moment(NOON, NOON + timedelta(hours=13)) == "2026-03-03 12:00"


def test_each_state_has_an_icon_that_is_part_of_the_page() -> None:
    icons = [icon(state) for state in (State.GOOD, State.BAD, State.ERROR, State.UNKNOWN)]
    assert len(set(icons)) == 4
    assert all(found.startswith("data:image/svg+xml,") and '"' not in found for found in icons)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("nothing to hide at 12:30:05", "nothing to hide at 12:30:05"),
        ("a://u:p@h and b://v:q@i/x", "a://u:***@h and b://v:***@i/x"),
        ("a://u:p/w@h", "a://u:***@h"),
        ("see http://host:8080/a, mail a@b", "see http://host:8080/a, mail a@b"),
        ("https://token@h/a and https://token:@h", "https://***@h/a and https://***:@h"),
        ("'https://hooks.slack.com/services/T0/B0/x' failed", "'https://hooks.slack.com/***' failed"),
        ("Max retries exceeded with url: /services/T0/B0/x (", "Max retries exceeded with url: /services/*** ("),
        ("https://chat.test/api/webhooks/12/x: 404", "https://chat.test/api/webhooks/*** 404"),
        ("db://h/s?sslpassword=p&sslmode=require", "db://h/s?sslpassword=***&sslmode=require"),
        ("https://h/x?a=1&X-Amz-Signature=s", "https://h/x?a=1&X-Amz-Signature=***"),
        ("https://h/x?design=s&span=week", "https://h/x?design=s&span=week"),
    ],
)
def test_passwords_are_masked(text: str, safe: str) -> None:
    assert without_secrets(text) == safe


def test_counts_add_up(store: Store, watched: Watched) -> None:
    commit(store, "freshness", verdict())
    commit(store, "contract", verdict(BAD))
    found: Status = status(store, watched, NOON)
    assert found.counts == {State.GOOD: 1, State.BAD: 1, State.WAITING: 5, State.DISABLED: 1}
    assert found.computed_at == NOON


@pytest.mark.parametrize(("ratio", "said"), [(0.5, "50 %"), (0.0, "0 %"), (-0.5, "overspent by 50 %")])
def test_a_budget_is_overspent_only_below_nothing(ratio: float, said: str) -> None:
    spent = ObjectiveStatus("events-x", "events", "x", State.GOOD, 0.99, "events", 3600.0, 0.995, ratio, {}, (), {})
    assert left(spent) == said
