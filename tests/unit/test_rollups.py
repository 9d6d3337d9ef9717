"""Verdicts by hours and days: each window once, however often it is judged, in whatever order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from checks.check import Outcome, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor import chores, rollups
from monitor.clock import ManualClock
from monitor.records import Judged
from monitor.rollups import DAY, HOUR, Counts
from monitor.store import Store

START = datetime(2026, 2, 28, 22, tzinfo=UTC)
STEP = timedelta(minutes=10)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/state.db", "shop")
    yield store
    store.close()


def commit(store: Store, n: int, outcome: Outcome, value: float = 0.0, after: timedelta = timedelta(0)) -> None:
    window = Window(START + n * STEP, START + (n + 1) * STEP)
    failed = outcome is Outcome.ERROR
    about = {} if failed else {"entity": "user"}
    details = {"low": 0.1, "high": 0.2 + n}
    verdicts = [Verdict("density", "events", window, outcome, "density", value, 0.5, details=details, **about)]
    if not failed:
        verdicts.append(Verdict("density", "events", window, Outcome.BAD, "density", 9.0, 0.5, source="ios", **about))
    tally = None if failed else Tally("events", window)
    finished = window.end + after
    store.commit(Judged("density", "events", window, verdicts, finished, 0.1, tally, advances=not failed))


def prune(store: Store, now: datetime, keep: timedelta) -> None:
    """Forget what is old, as the daemon does."""
    live = SimpleNamespace(
        config=SimpleNamespace(
            limits=SimpleNamespace(keep=keep, reopen=timedelta(hours=6)), evidence=SimpleNamespace(keep=keep)
        ),
        pipeline=SimpleNamespace(slos={}),
    )
    chores.prune(cast(Any, SimpleNamespace(store=store, clock=ManualClock(now), live=live)))


def hours(store: Store, length: timedelta = HOUR) -> dict[str, tuple[rollups.Bucket, ...]]:
    span = Window(START - timedelta(days=2), START + timedelta(days=2))
    return rollups.history(store, ("events", "density"), span, length)


def test_an_hour_and_a_day_hold_what_their_windows_said(store: Store) -> None:
    for n in range(18):
        commit(store, n, Outcome.BAD if n == 4 else Outcome.UNKNOWN if n == 5 else Outcome.GOOD, float(n))
    (users,) = hours(store).values()
    assert [bucket.span.start for bucket in users] == [START + n * HOUR for n in range(3)]
    assert users[0].counts == Counts(good=4, bad=1, unknown=1)
    assert (users[0].least, users[0].greatest, users[0].value) == (0.0, 4.0, 5.0), "unknown values are not judged"
    assert (users[1].limit, users[1].band) == (0.5, (0.1, 11.2))
    (days,) = hours(store, DAY).values()
    assert [(bucket.span.start.day, bucket.counts.total) for bucket in days] == [(28, 12), (1, 6)]
    assert (days[0].least, days[0].greatest, days[1].value) == (0.0, 11.0, 17.0)


def test_a_window_that_is_judged_again_counts_once(store: Store) -> None:
    for n in range(6):
        commit(store, n, Outcome.GOOD, float(n))
    commit(store, 2, Outcome.BAD, 50.0)
    (users,) = hours(store).values()
    assert users[0].counts == Counts(good=5, bad=1)
    assert (users[0].greatest, users[0].value) == (50.0, 5.0), "the newest is the newest window, not the newest run"


def test_an_error_gives_way_to_what_was_found_after_all(store: Store) -> None:
    commit(store, 0, Outcome.ERROR)
    assert {subject: found[0].counts for subject, found in hours(store).items()} == {"{}": Counts(error=1)}
    commit(store, 0, Outcome.GOOD, 1.0)
    assert {subject: found[0].counts for subject, found in hours(store).items()} == {
        '{"entity":"user"}': Counts(good=1)
    }
    assert len(hours(store, DAY)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_judged_in_whatever_order_the_sums_are_those_of_the_verdicts(store: Store, seed: int) -> None:
    dice, last = random.Random(seed), {}
    for _ in range(150):
        n, outcome = dice.randrange(60), dice.choice(list(Outcome))
        commit(store, n, outcome, dice.random())
        last[n] = outcome
    truth = Counter(((START + n * STEP).replace(minute=0), str(outcome)) for n, outcome in last.items())
    span = Window(START - DAY, START + DAY)
    found = rollups.cells(store, span, HOUR, HOUR)["events", "density"]
    counted = {
        (span.start + at * HOUR, name): getattr(counts, name)
        for at, counts in found.items()
        for name in rollups.OUTCOMES
    }
    assert {key: count for key, count in counted.items() if count} == truth
    # Days begin at midnight.
    by_days = rollups.cells(store, Window(START.replace(hour=0), START + DAY), DAY, DAY)["events", "density"]
    assert sum(by_days.values(), Counts()) == sum(found.values(), Counts())


def test_hours_go_before_days(store: Store) -> None:
    commit(store, 0, Outcome.GOOD)
    rollups.prune(store, START + timedelta(days=20), timedelta(days=90))
    assert (len(hours(store)), len(hours(store, DAY))) == (0, 1)
    rollups.prune(store, START + timedelta(days=100), timedelta(days=90))
    assert len(hours(store, DAY)) == 0


@pytest.mark.parametrize("days", [9, 10, 30])
@pytest.mark.parametrize("keep", [8, 90])
def test_what_is_filled_in_late_takes_nothing_from_a_day_whose_hours_are_gone(
    store: Store, days: int, keep: int
) -> None:
    for n in (*range(-12, -6), *range(6), 7):
        commit(store, n, Outcome.BAD if n < 0 else Outcome.GOOD, float(n))
    after = timedelta(days=days)
    now = START + after + 2 * STEP
    prune(store, now, timedelta(days=keep))
    before = hours(store, DAY).get('{"entity":"user"}', ())
    # One that was missing, and one that is judged again.
    commit(store, 6, Outcome.GOOD, 3.0, after)
    commit(store, 0, Outcome.BAD, 9.0, after)
    # Whatever is past is pruned again.
    prune(store, now, timedelta(days=keep))
    (day,) = hours(store, DAY).get('{"entity":"user"}', ()) or (None,)
    if keep < days:
        assert (before, day) == ((), None)
        return
    assert day is not None
    assert day.counts == Counts(good=7, bad=7)
    assert (day.least, day.greatest, day.value) == (-12.0, 9.0, 7.0)


def test_no_verdict_goes_before_its_day(store: Store) -> None:
    for n in (-6, 3):
        commit(store, n, Outcome.GOOD)
    now = START + timedelta(days=90)
    prune(store, now, timedelta(days=90))
    commit(store, 4, Outcome.GOOD, after=timedelta(days=90))
    ((day,),) = hours(store, DAY).values()
    assert day.counts == Counts(good=3)


def test_a_timeline_reads_only_its_span(store: Store) -> None:
    for n in (0, 30):
        commit(store, n, Outcome.GOOD)
    found = rollups.cells(store, Window(START, START + HOUR), HOUR, HOUR)
    assert found == {("events", "density"): {0: Counts(good=1)}}
    found = rollups.cells(store, Window(START, START + 6 * HOUR), HOUR, 3 * HOUR)
    assert found == {("events", "density"): {0: Counts(good=1), 1: Counts(good=1)}}
