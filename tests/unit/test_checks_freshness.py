"""What freshness takes over from the tick before, and which sources are frequent enough to be judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from checks.baseline import Baseline
from checks.check import Outcome
from checks.freshness import Freshness, FreshnessSettings
from checks.measure import Counts, Merge, Tally
from checks.window import Window, micros

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MERGES = {"newest_event": Merge.MAX, "rows": Merge.SUM, "future": Merge.SUM}
# Limit 5 min, windows of an hour: a source of 84 rows an hour sends 7 within the limit.
CHECK = Freshness(FreshnessSettings())


def seen(ago: timedelta | None, rows: int, future: int = 0) -> Counts:
    return {"newest_event": None if ago is None else micros(NOW - ago), "rows": rows, "future": future}


def tally(end: datetime, **sources: Counts) -> Tally:
    newest = max((counts["newest_event"] or 0 for counts in sources.values()), default=None)
    whole = {"newest_event": newest, "rows": sum(int(counts["rows"] or 0) for counts in sources.values()), "future": 0}
    return Tally("events", Window(end - HOUR, end), whole, sources, {}, MERGES)


def outcomes(found: Tally) -> dict[str | None, tuple[Outcome, float | None]]:
    return {one.source: (one.outcome, one.value) for one in CHECK.judge(found, Baseline())}


def test_a_source_that_falls_silent_is_judged_by_what_it_usually_sends() -> None:
    before = tally(NOW - HOUR, web=seen(HOUR, 500), ios=seen(2 * HOUR, 84))
    now = CHECK.carry(before, tally(NOW, web=seen(MINUTE, 500)))
    expected = {None: (Outcome.GOOD, 60.0), "ios": (Outcome.BAD, 7200.0), "web": (Outcome.GOOD, 60.0)}
    assert outcomes(now) == expected
    # What it usually sends is not forgotten with the window after that, in which it sent nothing either.
    assert now.by_source["ios"]["rows"] == 0
    assert outcomes(CHECK.carry(now, tally(NOW, web=seen(MINUTE, 500)))) == expected


@pytest.mark.parametrize(("rows", "outcome"), [(84, Outcome.BAD), (83, Outcome.UNKNOWN)])
def test_a_source_is_frequent_with_seven_rows_within_its_limit(rows: int, outcome: Outcome) -> None:
    assert outcomes(tally(NOW, web=seen(MINUTE, 500), ios=seen(30 * MINUTE, rows)))["ios"] == (outcome, 1800.0)


def test_a_source_is_expected_until_it_was_silent_for_longer_than_it_is_remembered() -> None:
    day, tick = CHECK.settings.forget_source, timedelta(microseconds=1)
    before = tally(NOW - HOUR, old=seen(day, 500), older=seen(day + tick, 500), ahead=seen(None, 1, future=1))
    now = CHECK.carry(before, tally(NOW, web=seen(MINUTE, 500)))
    assert set(now.by_source) == {"web", "old"}, "a row that was dated ahead then is of the past"
    now = CHECK.carry(before, tally(NOW, web=seen(MINUTE, 500), ahead=seen(None, 1, future=1)))
    assert set(now.by_source) == {"web", "old", "ahead"}


def test_the_newest_row_stays_the_newest() -> None:
    before = tally(NOW - HOUR, web=seen(MINUTE, 500))
    now = CHECK.carry(before, tally(NOW, web=seen(10 * MINUTE, 500)))
    assert outcomes(now)[None] == outcomes(now)["web"] == (Outcome.GOOD, 60.0)
