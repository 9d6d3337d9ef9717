"""A shop with ten rows a minute, its daemon without the schedule, a clock moved by hand; a proxy that goes silent."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from checks.check import Outcome
from monitor.clock import ManualClock
from monitor.daemon import Daemon

MINUTE = timedelta(minutes=1)
ROWS = 10
CONFIG = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
server: {port: 0}
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_id: event_id, user: user_id, event_time: moment, ingested_at: moment}
checks:
  freshness: {enabled: false}
  ingestion: {enabled: false}
  density: {enabled: false}
  popularity: {enabled: false}
  duplicates: {enabled: false}
  feature_drift: {enabled: false}
  unknown_ids: {every: 1m, window: 1m, settle: 0s, min_rows: 1}
  contract: {every: 1m, window: 1m, settle: 0s, min_rows: 1}
limits: {catch_up_windows: 6}
"""


@dataclass
class Shop:
    """Files of one minute each, and daemons on one state."""

    folder: Path
    start: datetime = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
    length: timedelta = MINUTE
    daemons: list[Daemon] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "events").mkdir()
        self.configure(CONFIG)

    def configure(self, text: str) -> None:
        (self.folder / "recwatch.yml").write_text(text.replace("FOLDER", str(self.folder)))

    def path(self, number: int) -> Path:
        return self.folder / "events" / f"{number:04d}.parquet"

    def write(self, numbers: range | list[int], user: str = "'u' || i", moment: str = "") -> None:
        """Write the rows of some spans, by number, each as a file; the expressions are SQL."""
        with duckdb.connect() as engine:
            for number in numbers:
                at = f"TIMESTAMP '{(self.start + number * self.length).replace(tzinfo=None)}' + INTERVAL (i) SECOND"
                columns = f"'e{number}-' || i AS event_id, {user} AS user_id, {moment or at} AS moment"
                hidden = self.path(number).with_suffix(".new")
                engine.execute(f"COPY (SELECT {columns} FROM range({ROWS}) t(i)) TO '{hidden}' (FORMAT parquet)")
                hidden.rename(self.path(number))

    def daemon(self, at: int) -> Daemon:
        """Start a daemon at the end of a span."""
        self.daemons.append(Daemon(self.folder / "recwatch.yml", ManualClock(self.start + at * self.length)))
        return self.daemons[-1]

    def tick(self, to: int | None = None) -> Daemon:
        """Move the clock of the last daemon to the end of a span, and let everything run once."""
        daemon = self.daemons[-1]
        assert isinstance(daemon.clock, ManualClock)
        if to is not None:
            daemon.clock.move(self.start + to * self.length - daemon.clock.now())
        daemon._beat()
        for dataset, checks in daemon.live.pipeline.checks.items():
            daemon.tick(dataset, list(checks))
        return daemon

    @property
    def counted(self) -> int:
        """Rows that the contract has counted."""
        return int(self.ask("SELECT sum(value + held) FROM counters WHERE metric = 'recwatch_contract_rows_total'"))

    def ask(self, sql: str) -> int:
        with self.daemons[-1].store.reading() as connection:
            return int(connection.exec_driver_sql(sql).scalar() or 0)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The worst of the newest verdicts of each check."""
        found: dict[str, list[Outcome]] = {}
        for verdict in self.daemons[-1].store.latest():
            found.setdefault(verdict.check, []).append(verdict.outcome)
        order = (Outcome.ERROR, Outcome.BAD, Outcome.UNKNOWN, Outcome.GOOD)
        return {check: next(one for one in order if one in outcomes) for check, outcomes in found.items()}

    @property
    def reasons(self) -> str:
        return "\n".join(verdict.reason for verdict in self.daemons[-1].store.latest())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    for daemon in shop.daemons:
        daemon.live.evidence.close()
        daemon.live.pipeline.close()
        daemon.store.close()


class Proxy:
    """Passes bytes on between us and a server, until it is told to swallow them; connections stay open."""

    def __init__(self, port: int) -> None:
        self._port, self.swallows, self._ends = port, threading.Event(), list[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _address = self._listening.accept()
                theirs = socket.create_connection(("127.0.0.1", self._port))
                self._ends += [ours, theirs]
                for source, target in ((ours, theirs), (theirs, ours)):
                    self._threads.append(threading.Thread(target=self._pass, args=(source, target), daemon=True))
                    self._threads[-1].start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while found := source.recv(65_536):
                if not self.swallows.is_set():
                    target.sendall(found)

    def close(self) -> None:
        for end in (self._listening, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(timeout=10)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> str:
    """The URL of a server; PostgreSQL's, unless a test names another."""
    return str(request.getfixturevalue(getattr(request, "param", "postgresql")))


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    proxy = Proxy(int(server.rpartition(":")[2].partition("/")[0]))
    yield proxy
    proxy.close()
