"""What a message says of its cause is about its own time: neither what was over by then, nor what came later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import pytest

from alerts.evaluate import BURN, CHECK_OVERDUE, NO_DATA
from alerts.message import Problem, Severity, State
from checks.check import Outcome, Verdict
from checks.measure import Tally
from checks.suspects import segments
from checks.window import Window, micros
from monitor import schema
from monitor.causes import Deviation
from monitor.records import Judged
from monitor.store import Store
from monitor.triage import brief

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FRESHNESS = ("lag_seconds", 60.0, "newest event is old")
SAID = {
    "unknown_ids": ("unknown_ratio", 0.01, "31 % of events: missing 31"),
    "duplicates": ("duplicate_ratio", 0.005, "copies"), "ingestion": ("failed_ratio", 0.02, "9 of 69 landed"),
    "freshness": FRESHNESS, "feature_drift": ("psi", 0.1, "device has moved"),
    "density": ("active_density", 0.0019, "632 cells"),
    "popularity": ("js_distance", 0.1, "head 62 %, was 48 %"),
    "feedback_loop": ("bias_ratio", 0.05, "head items have 62 % of the exposed events"),
}  # fmt: skip
DETAILS = {
    "unknown_ids": {"causes": {"missing": 31}}, "duplicates": {"retry": 9},
    "ingestion": {"landed": 9, "silent_drop": 60},
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "shop")) as store:
        yield store


def bad(
    store: Store,
    check: str,
    minutes: range,
    length: timedelta = MINUTE,
    times_its_limit: float = 30.0,
    outcome: Outcome = Outcome.BAD,
    sources: Sequence[str] = (),
) -> None:
    """Let a check be bad, or end otherwise, in windows that end at these minutes."""
    measure, limit, reason = SAID[check]
    about = {"unknown_ids": {"entity": "user"}, "feature_drift": {"feature": "device"}}.get(check, {})
    for minute in minutes:
        window = Window(NOON + minute * MINUTE - length, NOON + minute * MINUTE)
        verdict = Verdict(
            check, "events", window, outcome, measure, times_its_limit * limit, limit, reason=reason,
            details=DETAILS.get(check, {}), **about,
        )  # fmt: skip
        verdicts = [verdict, *(replace(verdict, source=source) for source in sources)]
        store.commit(Judged(check, "events", window, verdicts, window.end, 0.1, Tally("events", window)))


def collect(store: Store, minute: int, counted: tuple[int, int], whole: tuple[int, int]) -> None:
    """Keep evidence about unknown users of a segment of so many rows and bad ones, of so many in all."""
    (segment,) = segments({"app": [("8.2", *counted, 50, 0)]}, ("", *whole, 90, 0), 10)
    row = {"pipeline": "shop", "dataset": "events", "check_id": "unknown_ids", "subject": '{"entity":"user"}'}
    with store.writing() as connection:
        body, at = json.dumps({"segments": [asdict(segment)]}), micros(NOON + minute * MINUTE)
        connection.execute(schema.evidence.insert().values(**row, id=str(minute), outcome="bad", at_us=at, body=body))


def told(store: Store, check: str, minute: int, alert: str = BURN) -> str:
    now = NOON + minute * MINUTE
    problem = Problem(f"events-{check}", alert, Severity.PAGE, State.FIRING, "", now, check, "events")
    return "\n".join(brief(store, [problem], now))


@pytest.mark.parametrize(
    ("counted", "whole", "is_named"),
    [
        ((50, 3), (300, 9), False), ((500, 30), (3_000, 90), True), ((60, 40), (100, 40), True),
        ((60, 4), (100, 4), False), ((900, 99), (1_000, 100), False),
    ],
    ids=["few of a small one", "many of a small one", "all of a large one", "few of a large one", "hardly more often"],
)  # fmt: skip
def test_a_segment_is_named_that_chance_does_not_make(
    counted: tuple[int, int], whole: tuple[int, int], is_named: bool, store: Store
) -> None:
    bad(store, "unknown_ids", range(1, 4))
    collect(store, 2, counted, whole)
    said = told(store, "unknown_ids", 4)
    assert ("Segment: app 8.2" in said) == is_named
    assert ("times its share of all rows" in said) == is_named


def test_evidence_of_before_the_time_that_is_looked_at_is_about_something_else(store: Store) -> None:
    bad(store, "unknown_ids", range(1, 4))
    # What is looked at begins an hour before the alarm.
    collect(store, -57, (60, 40), (100, 40))
    assert "Segment" not in told(store, "unknown_ids", 4)
    collect(store, -56, (60, 40), (100, 40))
    assert "Segment: app 8.2: 100 % of them" in told(store, "unknown_ids", 4)


@pytest.mark.parametrize(
    ("sources", "said"),
    [(["ios"], "Segment: source ios\n"), (["web", "ios"], "Segment: source ios, web\n"), (["web", "ios", "tv"], "")],
)
def test_without_evidence_one_or_two_sources_that_are_bad_are_named(
    sources: list[str], said: str, store: Store
) -> None:
    bad(store, "unknown_ids", range(1, 4), sources=sources)
    found = told(store, "unknown_ids", 4)
    assert said in found
    assert ("Segment" in found) == bool(said)


@pytest.mark.parametrize(("worse", "said"), [(3.0, "0.0057"), (0.2, "0.00038")])
def test_the_worst_of_several_is_told_on_either_side_of_a_limit(store: Store, worse: float, said: str) -> None:
    side = 2.0 if worse > 1 else 0.8
    for minute, times in enumerate((side, worse, side), 1):
        bad(store, "density", range(minute, minute + 1), times_its_limit=times)
    text = told(store, "density", 4)
    assert f"density at worst {said}" in text
    assert "(at worst, 12:02:00 UTC)" in text.partition("\n")[0]


@pytest.mark.parametrize("first", [2.0, 3.0])
def test_where_no_window_was_worse_than_the_last_no_time_before_is_named(store: Store, first: float) -> None:
    bad(store, "density", range(1, 2), times_its_limit=first)
    bad(store, "density", range(2, 3), times_its_limit=3.0)
    assert "at worst" not in told(store, "density", 3)


def test_what_was_over_is_not_the_cause(store: Store) -> None:
    bad(store, "unknown_ids", range(1, 6))
    bad(store, "duplicates", range(8, 12))
    said = told(store, "duplicates", 12)
    assert said.startswith("Most likely retry storm: copies")
    assert "unknown_ids" not in said


def test_what_ends_as_the_alarm_begins_is_not_the_cause(store: Store) -> None:
    """A retry storm ends with the last window before the feed stalls."""
    bad(store, "duplicates", range(1, 6))
    bad(store, "ingestion", range(6, 9))
    bad(store, "freshness", range(7, 9))
    assert told(store, "ingestion", 9).startswith("Most likely stalled feed: newest event is old")


def test_what_ends_in_the_window_of_the_newest_event_is_not_the_cause_of_its_age(store: Store) -> None:
    """A retry storm goes on until the feed stalls, half a window before that window ends."""
    bad(store, "duplicates", range(10, 31))
    bad(store, "ingestion", range(30, 35))
    bad(store, "freshness", range(31, 35), 60 * MINUTE, times_its_limit=4.5)
    said = told(store, "freshness", 35)
    assert said.startswith("Most likely stalled feed: newest event is old")
    assert "duplicates" not in said


def test_what_was_over_before_the_newest_event_does_not_explain_its_age(store: Store) -> None:
    """The window of freshness reaches back for an hour; the feed stands still since the newest event."""
    bad(store, "unknown_ids", range(1, 6))
    bad(store, "freshness", range(30, 33), 60 * MINUTE, times_its_limit=3)
    assert told(store, "freshness", 33).startswith("Most likely stalled feed: newest event is old")
    bad(store, "unknown_ids", range(20, 33))
    said = told(store, "freshness", 33)
    assert said.startswith("Most likely stalled feed"), "a feed does not stand still for want of ids"
    assert "12:20:00 UTC  unknown_ids" in said


def test_what_came_later_is_not_the_cause_either(store: Store) -> None:
    bad(store, "duplicates", range(1, 6))
    bad(store, "unknown_ids", range(8, 12))
    assert told(store, "duplicates", 12).startswith("Most likely retry storm")


def test_what_is_upstream_and_bad_at_the_same_time_is(store: Store) -> None:
    bad(store, "unknown_ids", range(1, 12))
    bad(store, "ingestion", range(2, 12))
    assert told(store, "ingestion", 12).startswith("Most likely client release dropping ids")


def test_a_longer_window_holds_until_the_next_one(store: Store) -> None:
    bad(store, "feature_drift", range(1, 2), timedelta(hours=1))
    bad(store, "ingestion", range(30, 34))
    assert "feature_drift" in told(store, "ingestion", 34)


def test_a_longer_window_holds_no_longer_than_until_a_good_one(store: Store) -> None:
    """Each of its windows holds the bad data for another quarter of an hour."""
    bad(store, "feature_drift", range(0, 16, 5), 15 * MINUTE)
    bad(store, "feature_drift", range(20, 26, 5), 15 * MINUTE, 0.5, Outcome.GOOD)
    bad(store, "ingestion", range(27, 30))
    said = told(store, "ingestion", 30)
    assert said.startswith("Most likely events lost on the way")
    assert "feature_drift" not in said


def test_what_follows_from_the_alarm_is_not_its_cause_though_it_was_bad_before(store: Store) -> None:
    """Density is not judged again before the page, and what was wrong with it was something else."""
    bad(store, "density", range(-15, 1, 15), 15 * MINUTE, times_its_limit=2)
    bad(store, "unknown_ids", range(6, 9))
    said = told(store, "unknown_ids", 9)
    assert said.startswith("Most likely client release dropping ids")
    assert "density" in said, "it is on the timeline"


def test_an_earlier_spell_of_the_same_check_is_left_out(store: Store) -> None:
    bad(store, "ingestion", range(1, 3))
    bad(store, "ingestion", range(20, 23))
    said = told(store, "ingestion", 23)
    assert "12:20:00 UTC  ingestion" in said
    assert "(3 windows, until 12:22:00)" in said


def test_an_alarm_without_a_bad_verdict_of_its_own_tells_what_else_is_bad(store: Store) -> None:
    bad(store, "freshness", range(1, 6))
    assert told(store, "popularity", 6).startswith("Most likely stalled feed")
    assert told(store, "popularity", 600) == ""


def test_a_feedback_loop_is_named_where_popularity_has_not_moved(store: Store) -> None:
    bad(store, "feedback_loop", range(1, 4))
    assert told(store, "feedback_loop", 4).startswith("Most likely feedback loop: head items have 62 % of the exposed")
    bad(store, "popularity", range(1, 4))
    assert told(store, "feedback_loop", 4).startswith("Most likely catalogue narrows or ranking turns over: head 62 %")


def test_what_has_been_bad_for_long_does_not_explain_what_begins_now(store: Store) -> None:
    bad(store, "ingestion", range(1, 60), times_its_limit=2)
    bad(store, "unknown_ids", range(50, 60))
    said = told(store, "unknown_ids", 60)
    assert said.startswith("Most likely client release dropping ids")
    assert "ingestion" in said, "it is on the timeline"


def test_what_cannot_run_says_nothing_of_the_data(store: Store) -> None:
    for minute in range(1, 6):
        window = Window(NOON + (minute - 1) * MINUTE, NOON + minute * MINUTE)
        for check in ("freshness", "ingestion", "unknown_ids"):
            failed = Verdict(check, "events", window, Outcome.ERROR, "", reason="engine main: connection refused")
            store.commit(Judged(check, "events", window, [failed], window.end, 0.1))
    assert told(store, "ingestion", 6).startswith("Most likely check that cannot run: engine main: connection refused")


@pytest.mark.parametrize("alert", [CHECK_OVERDUE, NO_DATA])
def test_a_check_that_cannot_run_has_no_cause_in_the_data(alert: str, store: Store) -> None:
    bad(store, "freshness", range(1, 20))
    bad(store, "unknown_ids", range(1, 6))
    assert told(store, "unknown_ids", 20, alert) == "", "nothing is known of it"
    for minute in range(6, 20):
        window = Window(NOON + (minute - 1) * MINUTE, NOON + minute * MINUTE)
        failed = Verdict("unknown_ids", "events", window, Outcome.ERROR, "", reason="timed out after 30 s")
        store.commit(Judged("unknown_ids", "events", window, [failed], window.end, 0.1))
    assert told(store, "unknown_ids", 20, alert).startswith("Most likely check that cannot run: timed out after 30 s")


def test_an_age_that_was_over_is_not_the_cause_of_what_begins_after(store: Store) -> None:
    """The window of freshness reaches back for an hour, and is judged each minute."""
    bad(store, "freshness", range(20, 26), 60 * MINUTE, times_its_limit=3)
    bad(store, "duplicates", range(28, 33))
    said = told(store, "duplicates", 33)
    assert said.startswith("Most likely retry storm: copies")
    assert "freshness" not in said
    # Old again, after a newer event: that began by itself.
    bad(store, "freshness", range(40, 43), 60 * MINUTE, times_its_limit=3)
    assert "(3 windows, until 12:42:00)" in told(store, "freshness", 43)


def test_what_fell_short_is_not_told_as_far_below_a_limit(store: Store) -> None:
    window = Window(NOON, NOON + MINUTE)
    short = Verdict(
        "ingestion", "events", window, Outcome.BAD, "rows", 157.0, 451.0, reason="157 rows, 902 are usual"
    )  # fmt: skip
    store.commit(Judged("ingestion", "events", window, [short], window.end, 0.1, Tally("events", window)))
    assert "ingestion 157, less than 451: 157 rows, 902 are usual" in told(store, "ingestion", 2)


@pytest.mark.parametrize(
    ("value", "limit", "strain"),
    [(30, 10, 3), (5, 10, 2), (0, 10, inf), (3, 0, inf), (-3, 0, inf), (-10, -5, 2), (-1, 5, inf)],
)
def test_how_far_a_value_is_from_its_limit(value: float, limit: float, strain: float) -> None:
    window = Window(NOON, NOON + MINUTE)
    verdict = Verdict("signal", "events", window, Outcome.BAD, "x", value, limit)
    assert Deviation(verdict, window, window, 1).strain == strain


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        ({"landed": 0, "silent_drop": 60}, "stalled feed"),
        ({"landed": 1, "silent_drop": 60}, "events lost on the way"),
        ({"landed": 0, "silent_drop": 9, "rejected": 51}, "events rejected"),
        ({"landed": 0, "silent_drop": 0}, "less traffic"),
    ],
)
def test_that_nothing_lands_any_more_is_a_stalled_feed(
    details: dict[str, int], cause: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingestion pages minutes before freshness is too old."""
    monkeypatch.setitem(DETAILS, "ingestion", details)
    bad(store, "ingestion", range(1, 4))
    assert told(store, "ingestion", 4).startswith(f"Most likely {cause}")


def test_a_failure_that_was_over_before_is_not_the_cause(store: Store) -> None:
    for minute in range(1, 40):
        window = Window(NOON + (minute - 1) * MINUTE, NOON + minute * MINUTE)
        failed = Verdict("unknown_ids", "events", window, Outcome.ERROR, "", reason="engine main: connection refused")
        store.commit(Judged("unknown_ids", "events", window, [failed], window.end, 0.1))
    bad(store, "unknown_ids", range(40, 60))
    assert told(store, "unknown_ids", 60).startswith("Most likely client release dropping ids")


def test_a_check_that_cannot_run_any_more_keeps_what_it_had_found(store: Store) -> None:
    bad(store, "ingestion", range(1, 6))
    for minute in range(6, 20):
        window = Window(NOON + (minute - 1) * MINUTE, NOON + minute * MINUTE)
        failed = Verdict("ingestion", "events", window, Outcome.ERROR, "", reason="engine main: connection refused")
        store.commit(Judged("ingestion", "events", window, [failed], window.end, 0.1))
    said = told(store, "ingestion", 20)
    assert said.startswith("Most likely events lost on the way: 9 of 69 landed")
    assert "(5 windows, until 12:05:00)" in said
    assert "ingestion could not run: engine main: connection refused (14 windows, until 12:19:00)" in said
