"""Thirty days of a daemon's life in one sitting: ``python benchmarks/soak.py [days]`` (Linux, half an hour).

The daemon's own code runs over small made data, minute by minute, with a clock that is moved on: every tick, each
evaluation, references, late rows, pruning, evidence, messages to a webhook, scrapes and pages over HTTP. After each
simulated day it prints what the process holds. Then the real schedule runs at a cadence of 1 s for some minutes, and
it prints how late jobs began.
"""

from __future__ import annotations

import gc
import os
import re
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from apscheduler.events import EVENT_JOB_MISSED, EVENT_JOB_SUBMITTED

from monitor import chores
from monitor.clock import ManualClock, SystemClock
from monitor.daemon import Daemon
from monitor.server import serve

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# Bounds on what may be added once the state holds all that it keeps.
MORE_BYTES, MORE_HANDLES, MORE_STATE = 25_000_000, 4, 1.1
DRIFT_SECONDS = 180

CONFIG = """\
pipeline: soak
state: sqlite:///FOLDER/state.db
server: {port: 0}
engines:
  shop: {url: "sqlite:///FOLDER/shop.sqlite"}
datasets:
  events:
    table: events
    engine: shop
    roles: {event_id: event_id, user: user_id, event_time: moment}
    users: users
  users:
    table: users
    engine: shop
    roles: {user: user_id}
  exports:
    files: FOLDER/exports/*.parquet
    roles: {event_id: event_id, user: user_id, item: item_id, event_time: moment}
    checks: {freshness: {every: 1h, max_age: 3h}, unknown_ids: {every: 1h, window: 1h}}
checks:
  ingestion: {enabled: false}
  density: {enabled: false}
  popularity: {enabled: false}
  freshness: {every: 1m}
  unknown_ids: {every: 5m, window: 5m, settle: 0s, min_rows: 1}
  contract: {every: 1h, window: 1h, settle: 0s, min_rows: 1}
  duplicates: {every: 1h, window: 1h, settle: 0s, min_rows: 1, look_back: 2h}
baselines: {span: 1h}
limits: {keep: KEEP, reopen: 30m}
evidence: {keep: KEEP}
tiers:
  soon:
    - {name: page_soon, severity: page, burn_rate: 2, long: 30m, short: 10m}
    - {name: page_slow, severity: page, burn_rate: 2, long: 3h, short: 2h}
slos:
  freshness: {tiers: soon, period: 3h}
  unknown_ids: {tiers: soon, period: 3h}
  contract: {enabled: false}
  duplicates: {enabled: false}
channels:
  hook: {type: webhook, url: "HOOK"}
notify: {every: 2m}
"""


@dataclass(frozen=True)
class Held:
    """What the process holds at the end of a simulated day.

    Args:
        at: The simulated moment.
        ticks: Ticks since the start.
        resident_bytes: Resident memory.
        files: Open file handles.
        threads: Threads.
        state_bytes: Size of the state's files.
        rows: Rows in the state by table.
        seconds: How long all of it took, of real time.
    """

    at: datetime
    ticks: int
    resident_bytes: int
    files: int
    threads: int
    state_bytes: int
    rows: dict[str, int]
    seconds: float


class Hook(ThreadingHTTPServer):
    """A webhook's other side; it counts."""

    def __init__(self) -> None:
        self.told = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.told += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()


def all_due(daemon: Daemon, minute: int, is_due: Callable[[timedelta], bool], evaluate_every: int = 1) -> int:
    """Do what the daemon's schedule does in one minute, now; return how many ticks of checks that were.

    Args:
        daemon: One whose schedule does not run.
        minute: How many minutes have passed since its start.
        is_due: Whether a tick of a cadence is due; one too many finds nothing to do.
        evaluate_every: Minutes between evaluations of the objectives.
    """
    ticks = 0
    daemon._beat()
    for dataset, checks in daemon.live.pipeline.checks.items():
        for every in filter(is_due, sorted({check.settings.every for check in checks})):
            daemon.tick(dataset, [check for check in checks if check.settings.every == every])
            ticks += 1
    renew, reopen = (partial(daemon.run_each, work) for work in (chores.renewals, chores.late_rows))
    works = ((evaluate_every, daemon.evaluate), (5, renew), (10, reopen), (60, partial(chores.prune, daemon)))
    for length, work in works:
        if minute % length == 0:
            work()
    return ticks


class Soak:
    """A daemon whose clock is moved by hand, its data, and those who look at it.

    Args:
        folder: An empty folder.
        keep: How long windows, verdicts and evidence are kept.
        fault_every: How often users are unknown for 20 minutes, and people are told.
    """

    def __init__(self, folder: Path, keep: timedelta, fault_every: timedelta) -> None:
        self.folder, self._fault_every, self.ticks, self._began = folder, fault_every, 0, time.monotonic()
        self.hook = Hook()
        (folder / "exports").mkdir()
        self._shop = sqlite3.connect(folder / "shop.sqlite", isolation_level=None)
        self._shop.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE users (user_id TEXT);"
            " CREATE TABLE events (event_id TEXT, user_id TEXT, moment TIMESTAMP);"
            " CREATE INDEX at ON events (moment); INSERT INTO users VALUES ('u0'), ('u1'), ('u2'), ('u3'), ('u4')"
        )
        self._exporter = duckdb.connect(config={"threads": 1})
        text = CONFIG.replace("FOLDER", str(folder)).replace("KEEP", f"{int(keep / HOUR)}h")
        text = text.replace("HOOK", f"http://127.0.0.1:{self.hook.server_address[1]}/")
        (folder / "recwatch.yml").write_text(text, encoding="utf-8")
        self.daemon = Daemon(folder / "recwatch.yml", ManualClock(START))
        self.server = serve(self.daemon)
        self.daemon.live.watch.start()
        self.daemon.live.watch.lead(True)
        self._minute = 0

    def minute(self) -> None:
        """Let one simulated minute pass: rows come, and all that is due is done."""
        self._write()
        self._minute += 1
        assert isinstance(self.daemon.clock, ManualClock)
        now = self.daemon.clock.move(MINUTE)
        self.ticks += all_due(self.daemon, self._minute, lambda every: (now - START) % every == timedelta(0), 2)
        for length, call in {15: self._scrape, 60: self._look}.items():
            if self._minute % length == 0:
                call()

    def _write(self) -> None:
        start = START + self._minute * MINUTE
        is_bad = (start - START) % self._fault_every >= self._fault_every - timedelta(minutes=20)
        rows = [
            (
                f"e{self._minute}-{n}",
                "ghost" if is_bad and n < 3 else f"u{n}",
                str(start.replace(tzinfo=None, second=n)),
            )
            for n in range(5)
        ]
        self._shop.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
        self._shop.execute("DELETE FROM events WHERE moment < ?", (str((start - 2 * HOUR).replace(tzinfo=None)),))
        if self._minute % 60 == 0:
            self._export(start)

    def _export(self, start: datetime) -> None:
        path = self.folder / "exports" / f"{start:%Y%m%dT%H}.parquet"
        self._exporter.execute(
            "COPY (SELECT 'x' || i AS event_id, 'u' || i % 5 AS user_id, 'i' || i % 9 AS item_id,"
            f" TIMESTAMP '{start:%Y-%m-%d %H:%M}' + INTERVAL (i) MINUTE AS moment FROM range(60) AS t(i))"
            f" TO '{path}' (FORMAT parquet)"
        )
        for old in sorted(path.parent.iterdir())[:-6]:
            old.unlink()

    def _scrape(self) -> None:
        self._get("metrics")

    def _look(self) -> None:
        page = self._get("")
        for path in re.findall(r'href="/?((?:checks?|evidence)[^"]+)"', page)[:3]:
            self._get(path)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(self.server.url + path.replace("&amp;", "&"), timeout=60) as answer:
            return str(answer.read().decode())

    def held(self) -> Held:
        """Return what the process holds now."""
        gc.collect()
        status = Path("/proc/self/status").read_text(encoding="ascii")
        with closing(sqlite3.connect(self.folder / "state.db")) as state:
            tables = [name for (name,) in state.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {name: state.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in sorted(tables)}
        return Held(
            self.daemon.clock.now(), self.ticks, int(status.split("VmRSS:")[1].split()[0]) * 1024,
            len(os.listdir("/proc/self/fd")), threading.active_count(),
            sum(path.stat().st_size for path in self.folder.glob("state.db*")), rows,
            time.monotonic() - self._began,
        )  # fmt: skip

    def lost_windows(self) -> int:
        """Return how many windows of those that are kept are not where the schedule wants them: the drift."""
        with closing(sqlite3.connect(self.folder / "state.db")) as state:
            spans = state.execute(
                "SELECT max(end_us) - min(start_us), count(*), max(end_us - start_us) FROM windows"
                " WHERE check_id <> 'freshness' GROUP BY dataset, check_id"
            ).fetchall()
        return sum(abs(span // width - windows) for span, windows, width in spans)

    def close(self) -> None:
        """End all of it."""
        self.server.close()
        self.daemon._scheduler.start(paused=True)
        self.daemon.stop()
        self._shop.close()
        self._exporter.close()
        self.hook.shutdown()
        self.hook.server_close()


def growth(settled: Held, last: Held) -> list[str]:
    """Return what grew beyond its bound after the state held all that it keeps."""
    found = []
    if last.resident_bytes > settled.resident_bytes + MORE_BYTES:
        found.append(f"memory from {settled.resident_bytes / 1e6:.0f} to {last.resident_bytes / 1e6:.0f} MB")
    for name in ("files", "threads"):
        if getattr(last, name) > getattr(settled, name) + MORE_HANDLES:
            found.append(f"{name} from {getattr(settled, name)} to {getattr(last, name)}")
    if last.state_bytes > settled.state_bytes * MORE_STATE:
        found.append(f"state from {settled.state_bytes / 1e6:.1f} to {last.state_bytes / 1e6:.1f} MB")
    for table, rows in last.rows.items():
        if rows > settled.rows[table] * MORE_STATE + 20:
            found.append(f"rows of {table} from {settled.rows[table]} to {rows}")
    return found


def late(folder: Path, seconds: float) -> tuple[list[float], int]:
    """Run the real schedule every second; return how late each tick began, in seconds, and how many were missed."""
    text = CONFIG.replace("FOLDER", str(folder)).replace("KEEP", "1h").replace("HOOK", "http://127.0.0.1:1/")
    text = text.replace("freshness: {every: 1m}", "freshness: {every: 1s}")
    (folder / "recwatch.yml").write_text(text, encoding="utf-8")
    daemon, found, missed = Daemon(folder / "recwatch.yml", SystemClock()), list[float](), list[Any]()

    def note(event: Any) -> None:
        job = daemon._scheduler.get_job(event.job_id)
        if job is not None and isinstance(job.func, partial) and job.func.args[-1] == "tick:0:00:01":
            found.extend((datetime.now(UTC) - at).total_seconds() for at in event.scheduled_run_times)

    daemon._scheduler.add_listener(note, EVENT_JOB_SUBMITTED)
    daemon._scheduler.add_listener(missed.append, EVENT_JOB_MISSED)
    daemon.start()
    time.sleep(seconds)
    daemon.stop()
    return found, len(missed)


def days(folder: Path, count: int) -> list[str]:
    """Print what each simulated day left behind; return what grew beyond its bound."""
    soak, taken = Soak(folder, keep=3 * DAY, fault_every=DAY), list[Held]()
    print("day   ticks  resident MB  files  threads  state MB  rows in the state  messages  lost windows  minutes")
    for day in range(1, count + 1):
        for _minute in range(24 * 60):
            soak.minute()
        taken.append(soak.held())
        now = taken[-1]
        print(
            f"{day:3d} {now.ticks:7,d} {now.resident_bytes / 1e6:12.1f} {now.files:6d} {now.threads:8d}"
            f" {now.state_bytes / 1e6:9.2f} {sum(now.rows.values()):18,d} {soak.hook.told:9d}"
            f" {soak.lost_windows():13d} {now.seconds / 60:8.1f}",
            flush=True,
        )
    soak.close()
    # A day after what is kept began to be forgotten.
    return growth(taken[min(4, count - 1)], taken[-1])


def main() -> None:
    """Print what the simulated days left behind, what grew, and how late the real schedule was."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    if count:
        with tempfile.TemporaryDirectory() as name:
            print("grew beyond its bound:", "; ".join(days(Path(name), count)) or "nothing", flush=True)
    with tempfile.TemporaryDirectory() as name:
        # Its data are wanted, not the state of its own days.
        Soak(Path(name), keep=HOUR, fault_every=DAY).close()
        (Path(name) / "state.db").unlink()
        delays, missed = late(Path(name), DRIFT_SECONDS)
    delays.sort()
    middle, most = delays[len(delays) // 2], delays[-1]
    print(
        f"the real schedule, every 1 s for {DRIFT_SECONDS} s: {len(delays)} ticks began {1000 * middle:.0f} ms late"
        f" in the middle, {1000 * delays[int(len(delays) * 0.99)]:.0f} ms at p99, {1000 * most:.0f} ms at most,"
        f" {missed} missed"
    )


if __name__ == "__main__":
    main()
