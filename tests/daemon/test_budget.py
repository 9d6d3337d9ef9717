"""Scan budgets: enforced, owed, kept over restarts, renewed by the hour; what is put off is caught up, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from checks.check import Outcome
from monitor.budget import Allowance, Spent, about_scans, budget_statuses
from monitor.clock import ManualClock
from monitor.daemon import Daemon
from monitor.exposition import Exposition
from monitor.overview import overview, span_named
from monitor.server import app_of
from monitor.stream import LiveWriter, Stream, StreamSettings

START = datetime(2026, 3, 3, 12, 50, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STREAM = Stream(StreamSettings(events_per_second=10, users=500, items=50))
CONFIG = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
engines:
  files: {url: "duckdb:///:memory:", budget: {seconds_per_hour: 100, reserve: 0.2}}
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_id: event_id, event_time: event_time, ingested_at: ingested_at}
checks:
  freshness: {every: 1m}
  contract: {settle: 0s}
  duplicates: {enabled: false}
  ingestion: {enabled: false}
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[datetime], Daemon]]:
    running: list[Daemon] = []
    LiveWriter(STREAM, tmp_path, START - 10 * MINUTE).advance(START + 25 * MINUTE)
    (tmp_path / "recwatch.yml").write_text(CONFIG.replace("FOLDER", str(tmp_path)))

    def make(now: datetime) -> Daemon:
        for daemon in running:
            daemon.lease.release()
        daemon = Daemon(tmp_path / "recwatch.yml", ManualClock(now))
        running.append(daemon)
        return daemon

    yield make
    for daemon in running:
        daemon.live.pipeline.close()
        daemon.store.close()


def go(daemon: Daemon, by: timedelta = MINUTE) -> None:
    assert isinstance(daemon.clock, ManualClock)
    daemon.clock.move(by)
    for dataset, checks in daemon.live.pipeline.checks.items():
        daemon.tick(dataset, list(checks))


def spend(daemon: Daemon, seconds: float) -> None:
    daemon.live.pipeline.engines["files"].spend(seconds)
    daemon.scans.save()


def watermarks(daemon: Daemon) -> dict[str, datetime | None]:
    return {run.check: run.watermark for run in daemon.store.runs()}


def exposed(daemon: Daemon) -> dict[str, float]:
    found = Exposition(daemon.store, app_of(daemon).watched, daemon.clock).collect()
    return {
        "/".join((sample.name, sample.labels.get("reason", ""))).rstrip("/"): sample.value
        for family in found for sample in family.samples if "engine" in sample.labels
    }  # fmt: skip


def windows(daemon: Daemon, check: str) -> list[tuple[int, int]]:
    with daemon.store.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT end_us, version FROM windows WHERE check_id = ? ORDER BY end_us", (check,)
        ).all()
    return [(row[0] // 60_000_000, row[1]) for row in rows]


def counted(daemon: Daemon) -> int:
    with daemon.store.reading() as connection:
        statement = "SELECT sum(value + held) FROM counters WHERE metric = 'recwatch_contract_rows_total'"
        return int(connection.exec_driver_sql(statement).scalar() or 0)


def rows(folder: Path, start: datetime, end: datetime) -> int:
    span = [moment.replace(tzinfo=None) for moment in (start, end)]
    query = "SELECT count(*) FROM read_parquet(?) WHERE ingested_at >= ? AND ingested_at < ?"
    with duckdb.connect() as connection:
        found = connection.execute(query, [f"{folder}/events/*.parquet", *span]).fetchone()
    assert found is not None
    return int(found[0])


def test_what_is_put_off_is_caught_up_without_a_window_lost_or_doubled(
    start: Callable[[datetime], Daemon], tmp_path: Path
) -> None:
    daemon = start(START)
    go(daemon)
    spend(daemon, 85)
    # The reserve is for what can't be looked up later.
    go(daemon)
    assert watermarks(daemon) == {"freshness": START + 2 * MINUTE, "contract": START + MINUTE}
    spend(daemon, 20)
    for _minute in range(3):
        go(daemon)
    assert watermarks(daemon) == {"freshness": START + 2 * MINUTE, "contract": START + MINUTE}
    assert exposed(daemon)["recwatch_ticks_deferred_total/budget"] == 4
    assert exposed(daemon)["recwatch_engine_scan_budget_remaining_ratio"] == 0
    go(daemon, 6 * MINUTE)
    assert watermarks(daemon)["contract"] == START + 11 * MINUTE, "a new hour"
    judged = windows(daemon, "contract")
    assert [end for end, _version in judged] == list(range(judged[0][0], judged[0][0] + 11))
    assert {version for _end, version in judged} == {1}
    assert counted(daemon) == rows(tmp_path, START, START + 11 * MINUTE)


def test_what_was_never_asked_is_told_from_the_beginning(start: Callable[[datetime], Daemon]) -> None:
    daemon = start(START)
    told = [(one.metric, one.labels, one.value) for one in about_scans(daemon.store, daemon.live.config, START)]
    assert told == [
        ("recwatch_engine_scan_seconds_total", {"engine": "files"}, 0),
        *(
            ("recwatch_ticks_deferred_total", {"engine": "files", "reason": reason}, 0)
            for reason in ("budget", "queue")
        ),
        ("recwatch_engine_scan_budget_seconds", {"engine": "files"}, 100),
        ("recwatch_engine_scan_budget_remaining_ratio", {"engine": "files"}, 1),
    ]


def test_a_restart_does_not_give_the_hour_back(start: Callable[[datetime], Daemon]) -> None:
    daemon = start(START)
    go(daemon)
    spend(daemon, 120)
    again = start(START + 2 * MINUTE)
    assert again.scans.allowance("files") is Allowance.NONE
    go(again, timedelta(0))
    assert watermarks(again) == dict.fromkeys(("freshness", "contract"), START + MINUTE)
    later = start(START + 10 * MINUTE)
    assert later.scans.allowance("files") is Allowance.ALL
    status = budget_statuses(later.store, later.live.config, START + 10 * MINUTE)[0]
    assert 20 < status.spent_seconds < 25, "what was overspent is owed"


def test_a_used_up_budget_is_seen_everywhere(
    start: Callable[[datetime], Daemon], caplog: pytest.LogCaptureFixture
) -> None:
    daemon = start(START)
    go(daemon)
    before = exposed(daemon)["recwatch_engine_scan_seconds_total"]
    assert before > 0, "what statements took was measured and written down"
    spend(daemon, 120)
    go(daemon)
    go(daemon)
    assert caplog.text.count("scan_budget_used_up") == 1
    now = daemon.clock.now()
    found = overview(daemon.store, app_of(daemon).watched(), now, None, span_named("24h"))
    assert "checks are deferred until 13:00 UTC" in found.status.problems[0]
    assert exposed(daemon)["recwatch_engine_scan_seconds_total"] == pytest.approx(before + 120)
    assert exposed(daemon)["recwatch_engine_scan_budget_seconds"] == 100
    late = overview(daemon.store, app_of(daemon).watched(), now + 6 * MINUTE, None, span_named("24h"))
    states = {check.state.value for check in late.status.datasets["events"] if check.check in ("freshness", "contract")}
    assert states == {"overdue"}, "never healthy for long"
    go(daemon, 10 * MINUTE)
    assert "scan_budget_renewed" in caplog.text or daemon.scans.allowance("files") is Allowance.ALL
    assert {verdict.outcome for verdict in daemon.store.latest()} & {Outcome.ERROR} == set()


def test_an_engine_without_a_budget_is_never_put_off(start: Callable[[datetime], Daemon], tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_text(path.read_text().replace(", budget: {seconds_per_hour: 100, reserve: 0.2}", ""))
    daemon = start(START)
    spend(daemon, 10_000)
    go(daemon)
    assert watermarks(daemon)["contract"] == START + MINUTE
    assert "recwatch_engine_scan_budget_seconds" not in exposed(daemon)


@pytest.mark.parametrize(
    ("hours", "owed"), [(0, 250.0), (1, 150.0), (2, 50.0), (3, 0.0)], ids=["now", "next", "then", "paid"]
)
def test_debts_are_paid_hour_by_hour(hours: int, owed: float) -> None:
    assert Spent(10, 250.0, 900.0).at(10 + hours, 100.0) == Spent(10 + hours, owed, 900.0)
