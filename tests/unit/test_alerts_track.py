"""Sums over windows: against the plain way of adding up, and a hand-made history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from alerts import track as tracks
from alerts.burn import WORKBOOK
from alerts.slo import Kind, Slo
from alerts.track import Track
from checks.check import Outcome

START = datetime(2026, 3, 3, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
GOOD, BAD, UNKNOWN = Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN


@pytest.fixture(autouse=True, scope="module")
def _forgets_at_once() -> Iterator[None]:
    """A few runs are forgotten, too, which otherwise wait until there are many."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tracks, "_LEAST_FORGOTTEN", 1)
        yield


def slo(kind: Kind, interval: timedelta = MINUTE) -> Slo:
    return Slo("x", "events", "freshness", kind, 0.99, 28 * DAY, interval, WORKBOOK)


def test_a_slice_holds_until_the_next_run_and_no_longer_than_it_may() -> None:
    track = Track(slo(Kind.SLICES))
    track.add(START, GOOD, 0, 0)
    track.add(START + 2 * MINUTE, BAD, 0, 0)
    track.add(START + 3 * MINUTE, UNKNOWN, 0, 0)
    track.add(START + 8 * MINUTE, BAD, 0, 0)
    now = START + 60 * MINUTE
    seen = track.over(now, 60 * MINUTE)
    # Two minutes good, one bad, five unknown, and three of the 52 that nobody looked after the last run.
    assert seen.events == 360
    assert seen.bad_ratio == pytest.approx(4 / 6)
    assert seen.bad_checks == 2


def test_a_run_that_finished_before_the_last_finished_with_it() -> None:
    track = Track(slo(Kind.EVENTS))
    for minute, good, bad in [(0, 1, 0), (2, 1, 0), (1, 0, 3)]:
        track.add(START + minute * MINUTE, BAD if bad else GOOD, good, bad)
    assert track.over(START + MINUTE, MINUTE).events == 0
    seen = track.over(START + 2 * MINUTE, MINUTE)
    assert (seen.bad_ratio, seen.bad_checks, seen.events) == (0.75, 1, 4)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("before", range(18))
def test_what_is_forgotten_changes_no_window_after_it(kind: Kind, before: int) -> None:
    whole, short = Track(slo(kind)), Track(slo(kind))
    for track in (whole, short):
        for minute, outcome in [
            (0, BAD),
            (1, GOOD),
            (3, BAD),
            (4, GOOD),
            (8, UNKNOWN),
            (9, BAD),
            (10, GOOD),
            (15, BAD),
        ]:
            track.add(START + minute * MINUTE, outcome, minute, 2)
    short.forget(START + before * MINUTE)
    for start in range(before, 20):
        for end in range(max(start + 1, 15), 21):
            now, length = START + end * MINUTE, (end - start) * MINUTE
            assert short.over(now, length) == whole.over(now, length)
            assert short.last_known(now, length) == whole.last_known(now, length)


def test_nothing_seen_has_no_ratio() -> None:
    seen = Track(slo(Kind.SLICES)).over(START, 60 * MINUTE)
    assert (seen.bad_ratio, seen.bad_checks, seen.events) == (None, 0, 0)


Runs = list[tuple[int, Outcome, int, int]]
counts = some.integers(0, 50)
run_of = some.tuples(some.integers(0, 9), some.sampled_from([GOOD, BAD, UNKNOWN]), counts, counts)
runs_of = some.lists(run_of, max_size=40)


@given(runs_of, some.integers(1, 300), some.integers(0, 30))
def test_events_add_up(runs: Runs, minutes: int, forgotten: int) -> None:
    track, at, kept = Track(slo(Kind.EVENTS)), START, []
    for wait, outcome, good, bad in runs:
        at += wait * MINUTE
        track.add(at, outcome, good, bad)
        kept.append((at, outcome, good, bad))
    now, length = at + MINUTE, minutes * MINUTE
    track.forget(now - length - forgotten * MINUTE)
    inside = [run for run in kept if now - length < run[0] <= now]
    seen = track.over(now, length)
    assert seen.events == sum(run[2] + run[3] for run in inside)
    assert seen.bad_checks == sum(run[1] is BAD for run in inside)
    if seen.events:
        assert seen.bad_ratio == pytest.approx(sum(run[3] for run in inside) / seen.events)


@given(runs_of, some.integers(1, 300), some.integers(0, 30))
def test_slices_add_up(runs: Runs, minutes: int, forgotten: int) -> None:
    about = slo(Kind.SLICES)
    track, at, kept = Track(about), START, []
    for wait, outcome, _good, _bad in runs:
        at += wait * MINUTE
        track.add(at, outcome, 0, 0)
        kept.append((at, outcome))
    now, length = at + 5 * MINUTE, minutes * MINUTE
    track.forget(now - length - forgotten * MINUTE)
    sums = {GOOD: 0.0, BAD: 0.0, UNKNOWN: 0.0}
    nexts = [at for at, _ in kept[1:]] + [now] * bool(kept)
    for (begins, outcome), ends in zip(kept, nexts, strict=True):
        ends = min(ends, begins + about.hold)
        sums[outcome] += max(0.0, (ends - max(begins, now - length)).total_seconds())
    seen = track.over(now, length)
    assert seen.events == pytest.approx(sums[GOOD] + sums[BAD])
    if seen.events:
        assert seen.bad_ratio == pytest.approx(sums[BAD] / (sums[GOOD] + sums[BAD]))


@given(runs_of, some.sampled_from(list(Kind)), some.integers(0, 30), some.integers(0, 40))
def test_what_was_last_known_is_what_the_last_run_that_tells_said(
    runs: Runs, kind: Kind, later: int, forgotten: int
) -> None:
    track, at, told = Track(slo(kind)), START, []
    for wait, outcome, good, bad in runs:
        at += (wait + 1) * MINUTE
        track.add(at, outcome, good, bad)
        if kind is Kind.SLICES and outcome is not UNKNOWN:
            told.append((at, float(outcome is BAD)))
        if kind is Kind.EVENTS and good + bad:
            told.append((at, bad / (good + bad)))
    now, within = at + later * MINUTE, 60 * MINUTE
    # A slice that has not held for any time yet tells nothing.
    told = [run for run in told if kind is Kind.EVENTS or run[0] < now]
    track.forget(now - within - forgotten * MINUTE)
    found = track.last_known(now, within)
    if told and told[-1][0] > now - within:
        assert found == pytest.approx(told[-1][1])
    else:
        assert found is None
