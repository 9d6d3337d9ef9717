"""A made-up recommender that breaks on cue, with the daemon beside it: what ``recwatch demo`` shows."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alerts.message import Alert
from checks.check import Outcome, Verdict
from checks.window import Window
from monitor import outbox
from monitor.baselines import Builder
from monitor.clock import SystemClock
from monitor.faults import Dirt, Fault
from monitor.load import load
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store
from monitor.stream import LiveWriter, Stream, StreamSettings

HISTORY = timedelta(minutes=12)
# Fewer events late by a minute than the stream has by itself: the demo can't wait for them.
SETTINGS = StreamSettings(events_per_second=200, users=20_000, items=2_000, dirt=Dirt(late_ratio=0.004))

CONFIG = """\
# Written by recwatch demo. Cadences are seconds where a real pipeline has minutes and hours.
pipeline: demo
state: sqlite:///state.db
server: {{port: {port}}}

datasets:
  events:
    files: {folder}/events/*.parquet
    roles:
      event_id: event_id
      user: user_id
      item: item_id
      event_type: event_type
      event_time: event_time
      ingested_at: ingested_at
      value: value
      source: source
    features: [value, device, app_version, position]
    users: users
    items: items
    sent: sent
    rejected: rejected
  users:
    files: {folder}/users.parquet
    roles: {{user: user_id, valid_from: created_at}}
  items:
    files: {folder}/items.parquet
    roles: {{item: item_id, valid_from: created_at, valid_to: retired_at}}
  sent:
    files: {folder}/sent/*.parquet
    roles: {{event_time: bucket_start, source: source, value: sent}}
  rejected:
    files: {folder}/rejected/*.parquet
    roles: {{event_id: event_id, event_time: event_time, ingested_at: ingested_at, source: source}}

checks:
  freshness: {{every: 2s, window: 2m, max_age: 8s}}
  ingestion: {{every: 5s, window: 5s, settle: 4s, max_failed_ratio: 0.03}}
  unknown_ids: {{every: 5s, window: 5s, settle: 2s}}
  contract: {{every: 5s, window: 5s, settle: 2s}}
  duplicates: {{every: 5s, window: 5s, settle: 2s, look_back: 10m}}
  density: {{every: 15s, window: 1m, settle: 2s, look_back: 10m}}
  feature_drift: {{every: 15s, window: 1m, settle: 2s}}
  popularity: {{every: 15s, window: 1m, settle: 2s}}
  click_through: {{every: 15s, window: 15s, settle: 2s, shown_types: [view], hit_types: [click]}}

# A day's windows in half a minute: real ones are hours long, and are there without any of this.
tiers:
  page-soon:
    - {{name: page_soon, severity: page, burn_rate: 5, long: 20s, short: 10s}}
  ticket-soon:
    - {{name: ticket_soon, severity: ticket, burn_rate: 3, long: 20s, short: 10s}}
  ticket-later:
    - {{name: ticket_later, severity: ticket, burn_rate: 3, long: 60s, short: 30s}}
slos:
  freshness: {{tiers: page-soon}}
  ingestion: {{tiers: page-soon, objective: 0.95}}
  contract: {{tiers: page-soon, objective: 0.95}}
  events-contract-schema: {{tiers: page-soon, objective: 0.99}}
  unknown_ids: {{tiers: page-soon}}
  duplicates: {{tiers: ticket-soon}}
  density: {{tiers: ticket-later}}
  feature_drift: {{tiers: ticket-later}}
  popularity: {{tiers: ticket-later}}
  click_through: {{tiers: ticket-later}}
channels:
  console: {{type: console}}
notify: {{every: 1s, keep_firing: 3s}}
"""


@dataclass(frozen=True)
class Act:
    """One thing that goes wrong in the demo: what happens, and which check has to notice."""

    kind: str
    says: str
    check: str
    starts: float
    ends: float
    strength: float | None = None

    def fault(self, start: datetime, span: timedelta) -> Fault:
        """Return the fault of this act in a play that starts then and lasts so long."""
        return Fault(self.kind, start + self.starts * span, start + self.ends * span, self.strength)


ACTS = (
    Act("missing_users", "an iOS release drops user ids", "unknown_ids", 0.16, 0.36),
    Act("retry_storm", "a retry storm sends events again", "duplicates", 0.42, 0.60, 0.6),
    Act("stalled_feed", "the feed stalls", "freshness", 0.68, 0.88),
)


@dataclass
class Sighting:
    """When an act began, and when its check first noticed."""

    act: Act
    began: datetime
    ended: datetime
    seen_at: datetime | None = None

    def look(self, verdicts: Sequence[Verdict], now: datetime) -> None:
        """Note the first bad verdict of the act's check on data from after the act began."""
        if self.seen_at is not None or now < self.began:
            return
        for verdict in verdicts:
            if verdict.check == self.act.check and verdict.outcome is Outcome.BAD and verdict.window.end > self.began:
                self.seen_at = now

    @property
    def delay_seconds(self) -> float | None:
        """Seconds from the act's begin to the first bad verdict; None if it was not seen."""
        return None if self.seen_at is None else (self.seen_at - self.began).total_seconds()


def free_port() -> int:
    """Return a TCP port of the loopback address that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Demo:
    """The stage: made data in a folder, the daemon as a process of its own, and the play.

    Args:
        folder: Where data, configuration and state go; None makes a temporary one, removed at the end.
        play: How long one round of all acts takes.
    """

    folder: Path | None
    play: timedelta
    port: int = 0
    sightings: list[Sighting] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._is_temporary = self.folder is None
        self.stage = self.folder or Path(tempfile.mkdtemp(prefix="recwatch-demo-"))
        self.stage.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        self.config = self.stage / "recwatch.yml"
        self.log = self.stage / "recwatch.log"
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the daemon's status page."""
        return f"http://127.0.0.1:{self.port}/"

    def prepare(self, progress: Callable[[str, float], None]) -> None:
        """Write the history and learn from it what is normal.

        Args:
            progress: Called with what is going on and the share that is done, from 0 to 1.
        """
        for name in ("events", "sent", "rejected", "state.db", "state.db-wal", "state.db-shm"):
            _remove(self.stage / name)
        now = datetime.now(UTC)
        start = now - HISTORY
        self.writer = LiveWriter(Stream(SETTINGS), self.stage / "data", start)
        self.writer.advance(now, lambda at, _rows: progress("making history", (at - start) / HISTORY))
        self.config.write_text(CONFIG.format(port=self.port, folder="data"), encoding="utf-8")
        config = load(self.config)
        pipeline = build(config)
        store = Store(config.state.get_secret_value(), config.pipeline)
        builder = Builder(
            Runner(pipeline, store, SystemClock()),
            store,
            lambda done, total, _what: progress("learning what is normal", done / max(1, total)),
        )
        # References rest on all of the history; bands on its last minutes, which are enough for a demo.
        builder.build(Window(start, now), ("contract", "feature_drift", "popularity"))
        builder.build(Window(now - timedelta(minutes=4), now), ("density", "click_through"))
        pipeline.close()
        self.store = store

    def start(self) -> None:
        """Start the daemon, and plan the acts of the first round."""
        command = [sys.executable, "-m", "recwatch_launch", "run", "--config", str(self.config)]
        with self.log.open("wb") as log:
            # Of its own session, so that Ctrl-C reaches the demo alone, which then ends the daemon.
            self._daemon = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.started = datetime.now(UTC)
        self._plan(self.started)

    def _plan(self, start: datetime) -> None:
        faults = tuple(act.fault(start, self.play) for act in ACTS)
        self.round_ends = start + self.play
        self.sightings += [Sighting(act, fault.start, fault.end) for act, fault in zip(ACTS, faults, strict=True)]
        self.writer.change_faults((*self.writer.faults, *faults))

    def step(self) -> list[Verdict]:
        """Let the stream go on to now; return what the daemon last found.

        Raises:
            RuntimeError: The daemon has ended by itself.
        """
        if self._daemon is None or self._daemon.poll() is not None:
            said = self.log.read_text(encoding="utf-8", errors="replace")[-2_000:] if self.log.exists() else ""
            raise RuntimeError(f"the daemon has ended by itself; it said:\n{said}")
        now = datetime.now(UTC)
        if now >= self.round_ends:
            self._plan(now)
        self.writer.advance(now)
        verdicts = self.store.latest()
        for sighting in self.sightings:
            sighting.look(verdicts, now)
        return [replace(verdict) for verdict in verdicts]

    def alerts(self) -> list[Alert]:
        """Return the messages that the daemon has sent since it started, oldest first."""
        return [sent.alert for sent in reversed(outbox.history(self.store, self.started))]

    def current(self) -> Act | None:
        """Return the act that is on at this moment."""
        now = datetime.now(UTC)
        return next((seen.act for seen in self.sightings if seen.began <= now < seen.ended), None)

    def stop(self) -> None:
        """End the daemon and tidy up."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGTERM)
            try:
                self._daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
        if hasattr(self, "store"):
            self.store.close()
        if self._is_temporary:
            shutil.rmtree(self.stage, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
