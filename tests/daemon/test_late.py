"""What comes late, and what has changed since its window was judged: counted once, where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monitor import chores
from monitor.clock import ManualClock
from monitor.daemon import Daemon

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
EVENTS, SENT, REJECTED = "ts TIMESTAMP, app VARCHAR", "ts TIMESTAMP, app VARCHAR, n BIGINT", "ts TIMESTAMP, app VARCHAR"
CONFIG = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_time: ts, source: app}
    sent: sent
    rejected: rejected
  sent: {files: FOLDER/sent/*.parquet, roles: {event_time: ts, source: app, value: n}}
  rejected: {files: FOLDER/rejected/*.parquet, roles: {event_time: ts, source: app}}
checks:
  ingestion: {settle: 0s, min_rows: 1}
  contract: {every: 1m, window: 1m, settle: 0s, min_rows: 1}
  freshness: {enabled: false}
"""
Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Daemon] = []

    def begin(now: datetime, config: str = CONFIG) -> Daemon:
        for daemon in running[-1:]:
            close(daemon)
        path = tmp_path / "recwatch.yml"
        path.write_text(config.replace("FOLDER", str(tmp_path)))
        running.append(Daemon(path, ManualClock(now)))
        return running[-1]

    def close(daemon: Daemon) -> None:
        daemon.lease.release()
        daemon.live.pipeline.close()
        daemon.store.close()

    yield begin
    close(running[-1])


def put(folder: Path, name: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows, each with a time of day, as one Parquet file."""
    path = folder / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE made ({columns})")
        for at, *others in rows:
            places = ", ".join("?" * (1 + len(others)))
            connection.execute(f"INSERT INTO made VALUES ({places})", [at.replace(tzinfo=None), *others])
        connection.execute(f"COPY made TO '{path}' (FORMAT parquet)")


def run(daemon: Daemon, minutes: int) -> None:
    """Let minutes pass, each with its tick."""
    for _minute in range(minutes):
        for dataset, checks in daemon.live.pipeline.checks.items():
            daemon.tick(dataset, list(checks))
        daemon.clock.move(MINUTE)  # type: ignore[attr-defined]


def counted(daemon: Daemon, metric: str, **labels: str) -> int:
    """Return what counters hold, with what a new series holds back."""
    names = " AND ".join(["metric = ?", *(f"json_extract(labels, '$.{name}') = ?" for name in labels)])
    with daemon.store.reading() as connection:
        row = connection.exec_driver_sql(
            f"SELECT coalesce(sum(value + held), 0) FROM counters WHERE {names}", (metric, *labels.values())
        ).one()
    return int(row[0])


def windows(daemon: Daemon, check: str) -> list[tuple[int, int, int]]:
    """Return the start and end of each window in minutes since noon, and how often it was judged."""
    with daemon.store.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT start_us, end_us, version FROM windows WHERE check_id = ? ORDER BY 1", (check,)
        ).all()
    noon = NOON.timestamp() * 1e6
    return [(round((first - noon) / 6e7), round((last - noon) / 6e7), version) for first, last, version in rows]


INGESTED = "recwatch_ingest_events_total"


def test_counts_of_the_producer_and_rejects_that_come_late_are_counted(start: Start, tmp_path: Path) -> None:
    at = NOON + 10 * SECOND
    put(tmp_path, "events/a", EVENTS, [(at, "web")] * 90)
    put(tmp_path, "sent/a", SENT, [])
    put(tmp_path, "rejected/a", REJECTED, [])
    daemon = start(NOON + MINUTE)
    run(daemon, 2)
    assert counted(daemon, INGESTED) == 0, "of nothing that was sent nothing has landed"
    put(tmp_path, "sent/b", SENT, [(at, "web", 60), (at, "web", 40)])
    put(tmp_path, "rejected/b", REJECTED, [(at, "web")] * 10)
    for _again in range(2):
        daemon.run_each(chores.late_rows)
        assert counted(daemon, INGESTED, result="ok") == 90
        assert counted(daemon, INGESTED, result="failed") == 10
    assert [version for *_span, version in windows(daemon, "ingestion")] == [2, 1]
    assert {version for *_span, version in windows(daemon, "contract")} == {1}, "it has no part in what was sent"


def test_late_rows_count_where_the_rows_of_their_window_did(start: Start, tmp_path: Path) -> None:
    """A source that is told apart since does not take the rows of before with it: ``other`` keeps them."""
    times = [NOON + minute * MINUTE + 10 * SECOND for minute in range(90)]
    rows = [(at, "web") for at in times] + [(at, "ios") for at in times[5:]]
    put(tmp_path, "events/a", EVENTS, rows)
    put(tmp_path, "sent/a", SENT, [(at, app, 1) for at, app in rows])
    put(tmp_path, "rejected/a", REJECTED, [])
    daemon = start(NOON + MINUTE)
    run(daemon, 90)
    sources = {source: counted(daemon, INGESTED, source=source) for source in ("web", "ios", "other")}
    assert sources["web"] == 90
    assert sources["ios"] > 0, "it is told apart after the first hour"
    assert sum(sources.values()) == len(rows)
    put(tmp_path, "events/late", EVENTS, [(times[7] + SECOND, "ios")])
    put(tmp_path, "sent/late", SENT, [(times[7] + SECOND, "ios", 1)])
    daemon.run_each(chores.late_rows)
    sources["other"] += 1
    assert {source: counted(daemon, INGESTED, source=source) for source in sources} == sources
    again = start(NOON + 92 * MINUTE)
    put(tmp_path, "events/later", EVENTS, [(times[8] + SECOND, "ios")])
    put(tmp_path, "sent/later", SENT, [(times[8] + SECOND, "ios", 1)])
    again.run_each(chores.late_rows)
    sources["other"] += 1
    assert {source: counted(again, INGESTED, source=source) for source in sources} == sources, "after a restart, too"


def test_another_cadence_goes_back_to_the_grid_and_misses_nothing(start: Start, tmp_path: Path) -> None:
    put(tmp_path, "events/a", EVENTS, [(NOON + second * SECOND, "web") for second in range(0, 1_800, 10)])
    put(tmp_path, "sent/a", SENT, [])
    put(tmp_path, "rejected/a", REJECTED, [])
    run(start(NOON + MINUTE), 7)
    daemon = start(NOON + 8 * MINUTE, CONFIG.replace("every: 1m, window: 1m", "every: 5m, window: 5m"))
    run(daemon, 8)
    told = [(minute, minute + 1, 1) for minute in range(7)] + [(7, 10, 1), (10, 15, 1)]
    assert windows(daemon, "contract") == told
    valid = "recwatch_contract_rows_total"
    assert counted(daemon, valid) == 15 * 6
    daemon.run_each(chores.late_rows)
    assert windows(daemon, "contract") == told, "nothing is late"
    put(tmp_path, "events/late", EVENTS, [(NOON + minute * MINUTE + SECOND, "web") for minute in (3, 8, 12)])
    daemon.run_each(chores.late_rows)
    assert [version for *_span, version in windows(daemon, "contract")] == [1, 1, 1, 2, 1, 1, 1, 2, 2]
    assert counted(daemon, valid) == 15 * 6 + 3


CLICKS = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_time: ts, event_type: kind}
checks:
  click_through: {every: 1m, window: 1m, settle: 0s, min_rows: 1, shown_types: [view], hit_types: [click]}
  freshness: {enabled: false}
  ingestion: {enabled: false}
  contract: {enabled: false}
"""


def test_clicks_that_come_late_are_counted_once(start: Start, tmp_path: Path) -> None:
    kinds = "ts TIMESTAMP, kind VARCHAR"
    put(tmp_path, "events/a", kinds, [(NOON + minute * MINUTE, "view") for minute in range(4) for _each in range(10)])
    daemon = start(NOON + MINUTE, CLICKS)
    run(daemon, 4)
    put(tmp_path, "events/late", kinds, [(NOON + MINUTE + SECOND, "click")] * 3)
    for restarted in (False, False, True):
        again = start(NOON + 5 * MINUTE, CLICKS) if restarted else daemon
        again.run_each(chores.late_rows)
        assert [version for *_span, version in windows(again, "click_through")] == [1, 2, 1, 1]
        found = {result: counted(again, "recwatch_click_events_total", result=result) for result in ("shown", "hit")}
        assert found == {"shown": 40, "hit": 3}


def test_a_late_row_is_seen_in_a_window_that_is_empty_but_for_one_minute(start: Start, tmp_path: Path) -> None:
    """Minutes are counted one by one, as the windows of before were as short."""
    put(tmp_path, "events/a", EVENTS, [(NOON + minute * MINUTE, "web") for minute in (*range(7), 12)])
    put(tmp_path, "sent/a", SENT, [])
    put(tmp_path, "rejected/a", REJECTED, [])
    run(start(NOON + MINUTE), 7)
    daemon = start(NOON + 8 * MINUTE, CONFIG.replace("every: 1m, window: 1m", "every: 5m, window: 5m"))
    run(daemon, 8)
    put(tmp_path, "events/late", EVENTS, [(NOON + 12 * MINUTE, "web")])
    daemon.run_each(chores.late_rows)
    assert windows(daemon, "contract")[-1] == (10, 15, 2)
