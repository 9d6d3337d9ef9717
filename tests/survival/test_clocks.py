"""Clocks that jump, summer time and the leap day: each window once, none missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor import chores


def windows(shop: Any) -> tuple[int, int, int]:
    """Return how many windows of the contract there are, how many their span has room for, and the rows counted."""
    width = shop.length // timedelta(microseconds=1)
    span = shop.ask(f"SELECT (max(end_us) - min(start_us)) / {width} FROM windows WHERE check_id = 'contract'")
    return shop.ask("SELECT count(*) FROM windows WHERE check_id = 'contract'"), span, shop.counted


def test_a_clock_that_jumps_back_judges_nothing_twice(shop: Any) -> None:
    shop.write(range(12))
    daemon = shop.daemon(4)
    shop.tick()
    shop.tick(8)
    assert windows(shop) == (5, 5, 50)
    shop.tick(2)
    shop.tick(5)
    assert windows(shop) == (5, 5, 50)
    assert daemon.lease.is_held, "nobody else has taken over"
    shop.tick(10)
    assert windows(shop) == (7, 7, 70)


def test_a_clock_that_jumps_ahead_catches_up_in_bounded_steps(shop: Any) -> None:
    shop.write(range(30))
    daemon = shop.daemon(4)
    shop.tick()
    shop.tick(22)
    assert windows(shop) == (7, 7, 70), "at most limits.catch_up_windows in one step"
    for _step in range(3):
        shop.tick()
    assert windows(shop) == (19, 19, 190)
    # And back to where it should have been.
    shop.tick(10)
    shop.tick(23)
    assert windows(shop) == (20, 20, 200)
    assert daemon.lease.is_held


def test_a_clock_that_ran_ahead_does_not_blind_the_check_of_the_present(shop: Any) -> None:
    text = (shop.folder / "recwatch.yml").read_text()
    shop.configure(text.replace("freshness: {enabled: false}", "freshness: {every: 1m}"))
    shop.write(range(30))
    daemon = shop.daemon(4)
    shop.tick()
    shop.tick(600)
    finished = "SELECT finished_us FROM runs WHERE check_id = 'freshness'"
    for minute in (10, 11):
        shop.tick(minute)
        now = shop.start + minute * timedelta(minutes=1)
        assert shop.ask(finished) == int(now.timestamp() * 1e6)
        assert {verdict.window.end for verdict in daemon.store.latest() if verdict.check == "freshness"} == {now}


def test_a_window_that_a_clock_judged_ahead_is_judged_again_once_it_is_over(shop: Any) -> None:
    text = (shop.folder / "recwatch.yml").read_text()
    shop.configure(
        text.replace("contract: {every: 1m, window: 1m, settle: 0s", "contract: {every: 1m, window: 1m, settle: 1m")
    )
    shop.write(range(5))
    daemon = shop.daemon(4)
    shop.tick()
    shop.tick(9)
    before = windows(shop)
    shop.write(range(5, 8))
    of = "windows WHERE check_id = 'contract' ORDER BY end_us DESC LIMIT 1"
    rows = f"SELECT json_extract(figures, '$.rows_then') FROM {of}"
    daemon.clock.move(-timedelta(seconds=30))
    daemon.run_each(chores.late_rows)
    assert shop.ask(rows) == 0, "it has not settled"
    daemon.clock.move(timedelta(minutes=5))
    daemon.run_each(chores.late_rows)
    assert shop.ask(rows) == 10
    assert windows(shop) == (before[0], before[1], before[2] + 30)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process lives in a zone with summer time."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def long_windows(shop: Any, length: str) -> None:
    text = (shop.folder / "recwatch.yml").read_text()
    shop.configure(text.replace("every: 1m, window: 1m", f"every: {length}, window: {length}"))


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("start", [datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 21, tzinfo=UTC)])
def test_summer_time_begins_and_ends_without_a_window_too_many_or_too_few(shop: Any, start: datetime) -> None:
    shop.start, shop.length = start, timedelta(hours=1)
    long_windows(shop, "1h")
    shop.write(range(7))
    shop.daemon(1)
    for hour in range(1, 8):
        shop.tick(hour)
    assert windows(shop) == (7, 7, 70)


def test_the_leap_day_is_a_day_like_others(shop: Any) -> None:
    shop.start, shop.length = datetime(2028, 2, 27, tzinfo=UTC), timedelta(days=1)
    long_windows(shop, "1d")
    shop.write(range(5))
    shop.daemon(1)
    for day in range(1, 6):
        shop.tick(day)
    assert windows(shop) == (5, 5, 50)
    leap = int(datetime(2028, 2, 29, tzinfo=UTC).timestamp() * 1e6)
    assert shop.ask(f"SELECT count(*) FROM windows WHERE check_id = 'contract' AND start_us = {leap}") == 1
