"""Which windows are due: none skipped, none twice, bounded steps, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from checks.duplicates import Duplicates, DuplicatesSettings
from checks.freshness import Freshness, FreshnessSettings
from checks.ingestion import Ingestion, IngestionSettings
from checks.window import EPOCH, Cadence, Window
from monitor.schedule import due, given_up, newest

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DUPLICATES = Duplicates(DuplicatesSettings(settle=timedelta(0)))


def test_the_first_run_takes_the_newest_window_only() -> None:
    rounds = due([DUPLICATES], {}, NOON + timedelta(seconds=5), 60)
    assert [window for ((_check, window),) in rounds] == [Window(NOON - MINUTE, NOON)]


def test_downtime_is_caught_up_in_bounded_steps_oldest_first() -> None:
    now, after, seen = NOON + 10 * MINUTE, NOON, []
    while rounds := due([DUPLICATES], {"duplicates": after}, now, 4):
        assert len(rounds) <= 4
        seen += [window for ((_check, window),) in rounds]
        after = seen[-1].end
    assert seen == [Window(NOON + n * MINUTE, NOON + (n + 1) * MINUTE) for n in range(10)]


def test_freshness_does_not_look_into_the_past() -> None:
    check = Freshness(FreshnessSettings(every=MINUTE, window=timedelta(hours=1)))
    rounds = due([check], {"freshness": NOON}, NOON + 10 * MINUTE, 60)
    assert [window.end for ((_check, window),) in rounds] == [NOON + 10 * MINUTE]
    assert due([check], {"freshness": NOON + 10 * MINUTE}, NOON + 10 * MINUTE, 60) == []


def test_checks_on_the_same_window_share_a_round() -> None:
    other = Ingestion(IngestionSettings(settle=timedelta(0)))
    rounds = due([DUPLICATES, other], {"duplicates": NOON, "ingestion": NOON}, NOON + 2 * MINUTE, 60)
    assert [[check.id for check, _window in pairs] for pairs in rounds] == [["duplicates", "ingestion"]] * 2


def test_checks_that_settle_at_different_times_share_a_round_unless_one_is_behind() -> None:
    later = Ingestion(IngestionSettings(settle=timedelta(seconds=30)))
    now, marks = NOON + MINUTE + timedelta(seconds=10), {"duplicates": NOON, "ingestion": NOON - MINUTE}
    (pairs,) = due([DUPLICATES, later], marks, now, 60)
    assert [(check.id, window.end) for check, window in pairs] == [("ingestion", NOON), ("duplicates", NOON + MINUTE)]
    behind = due([DUPLICATES, later], {**marks, "ingestion": NOON - 3 * MINUTE}, now, 60)
    found = [[(check.id, (window.end - NOON) // MINUTE) for check, window in pairs] for pairs in behind]
    assert found == [[("ingestion", -2)], [("ingestion", -1)], [("ingestion", 0), ("duplicates", 1)]]


def test_a_window_waits_until_it_has_settled() -> None:
    cadence = Cadence(MINUTE, MINUTE, timedelta(minutes=2))
    assert cadence.newest(NOON).end == NOON - timedelta(minutes=2)
    assert cadence.due(NOON - timedelta(minutes=2), NOON + timedelta(seconds=59), 10) == ()


def test_windows_go_back_to_the_grid_when_it_was_another() -> None:
    after, now = NOON + 7 * MINUTE, NOON + 16 * MINUTE
    tiling, sliding = Cadence(5 * MINUTE, 5 * MINUTE), Cadence(5 * MINUTE, 10 * MINUTE)
    ends = [NOON + 10 * MINUTE, NOON + 15 * MINUTE]
    assert tiling.due(after, now, 9) == (Window(after, ends[0]), Window(*ends))
    assert sliding.due(after, now, 9) == tuple(Window(end - 10 * MINUTE, end) for end in ends)


def test_a_clock_that_jumps_back_makes_nothing_due() -> None:
    assert due([DUPLICATES], {"duplicates": NOON}, NOON - timedelta(hours=3), 60) == []


def test_windows_that_fail_for_too_long_are_given_up() -> None:
    assert given_up(Window(NOON - MINUTE, NOON), NOON + timedelta(hours=25), timedelta(hours=24))
    assert not given_up(Window(NOON - MINUTE, NOON), NOON + timedelta(hours=23), timedelta(hours=24))


def test_as_of_a_moment_freshness_ends_there_and_others_at_their_last_boundary() -> None:
    at = NOON + timedelta(seconds=42)
    assert newest(Freshness(FreshnessSettings()), at).end == at
    assert newest(DUPLICATES, at).end == NOON


@given(
    every=st.integers(1, 5_000),
    settle=st.integers(0, 5_000),
    ticks=st.lists(st.integers(0, 20_000), min_size=1, max_size=30),
    at_most=st.integers(1, 7),
)
def test_windows_tile_the_time_line_however_the_ticks_fall(
    every: int, settle: int, ticks: list[int], at_most: int
) -> None:
    cadence = Cadence(timedelta(seconds=every), timedelta(seconds=every), timedelta(seconds=settle))
    now, after, seen = NOON, None, []
    for tick in ticks:
        now += timedelta(seconds=tick)
        for window in cadence.due(after, now, at_most):
            assert window.end + cadence.settle <= now
            assert (window.end - EPOCH) % cadence.every == timedelta(0)
            seen.append(window)
            after = window.end
    assert all(first.end == second.start for first, second in pairwise(seen))
