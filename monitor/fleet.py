"""Many pipelines in one process: a file each, which comes, changes and goes without touching the others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from apscheduler.triggers.interval import IntervalTrigger

from monitor import log
from monitor.app import App
from monitor.clock import Clock
from monitor.config import Config
from monitor.daemon import LONGEST_SILENCE, Daemon
from monitor.errors import ConfigError, RecwatchError
from monitor.fleet_files import Agreement, files_of, name_in, nothing_here
from monitor.server import app_of
from monitor.turns import once
from monitor.workers import PULSE, Workers

LOOKS_EVERY = timedelta(seconds=2)
# How often a pipeline is tried again that could not be started though nothing is wrong with its file.
TRIES_EVERY = timedelta(seconds=30)
# Whose turns those of the fleet itself are; no pipeline has this name.
ITSELF = ""


@dataclass(frozen=True)
class Member:
    """A pipeline that runs, and what answers for it."""

    daemon: Daemon
    app: App

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.daemon.store.pipeline


@dataclass(frozen=True)
class Broken:
    """A file whose pipeline does not run.

    Args:
        name: Name of the pipeline where the file tells it, else that of the file.
        problem: Why it does not run.
        at: When that was found.
        may_pass: Whether it may pass without anybody touching the file: a state that is away for a while.
    """

    name: str
    problem: str
    at: datetime
    may_pass: bool = False


class Fleet:
    """Runs the pipelines of all files until it is stopped.

    Args:
        places: Files, and folders of files; looked at again every other second.
        clock: Tells the time.
        given: Parts of where to serve, whatever the files say; the rest is what the first file says that says it.

    Raises:
        ConfigError: Not one of the files can be run.
    """

    def __init__(self, places: Sequence[Path], clock: Clock, given: Mapping[str, object] | None = None) -> None:
        self._places, self.clock = places, clock
        self.workers = Workers(are_shared=True)
        self.workers.turns.join(ITSELF, {PULSE: 8})
        # Replaced as a whole, so that whoever goes through them is not disturbed.
        self.members: Mapping[Path, Member] = {}
        self.broken: Mapping[Path, Broken] = {}
        self._tried: dict[Path, float] = {}
        self._missing: set[Path] = set()
        self._lock, self._stopping, self._heartbeat = threading.Lock(), threading.Event(), clock.now()
        self._is_started = False
        files = files_of(places)
        self._agreement = Agreement(files, given)
        self.server = self._agreement.server
        for path in files:
            self._add(path)
        if not self.members:
            problems = [broken.problem for broken in self.broken.values()]
            raise ConfigError(problems or [nothing_here(places)])

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all pipelines, and look for files that come, change or go."""
        self._is_started = True
        for member in self.members.values():
            member.daemon.start()
        self.workers.start()
        trigger = IntervalTrigger(seconds=int(LOOKS_EVERY.total_seconds()), timezone="UTC")
        self.workers.scheduler.add_job(self._queue_look, trigger)

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the fleet is told to stop, or for some seconds; return whether it is to stop."""
        return self._stopping.wait(seconds)

    def ask_to_stop(self) -> None:
        """Make ``wait`` return; safe to call from a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """Let what runs finish, and close everything."""
        self._stopping.set()
        # Nobody waits while another one ends.
        for member in self.members.values():
            member.daemon.ask_to_stop()
        self.workers.turns.leave(ITSELF)
        for member in self.members.values():
            member.daemon.stop()
        self.workers.close()
        self.members = {}

    def handle_signals(self) -> None:
        """Stop on SIGTERM and SIGINT, read all files again on SIGHUP."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.ask_to_stop())
        signal.signal(signal.SIGHUP, lambda *_: self._reload_all())

    def _reload_all(self) -> None:
        # Secrets that a file takes from elsewhere may be right now.
        self._tried = {}
        for member in self.members.values():
            member.daemon.reload_soon()

    # -- files -----------------------------------------------------------------------------------

    def _queue_look(self) -> None:
        # Not that of a look, which may wait for a statement of a pipeline that goes, or for the state of a new one.
        self._heartbeat = self.clock.now()
        self.workers.turns.put(PULSE, ITSELF, "look", once(self.look))

    def look(self) -> None:
        """Start what was added or mended, and stop what was taken away; each pipeline reads its own changes."""
        with self._lock:
            found = files_of(self._places)
            gone = (set(self.members) | set(self.broken)) - set(found)
            # Editors replace a file by moving another one there: it may be missing for a moment.
            for path in sorted(gone & self._missing):
                self._remove(path)
            self._missing = gone
            for path in found:
                if path not in self.members and not self._stopping.is_set() and self._is_worth_a_try(path):
                    self._add(path)

    def _is_worth_a_try(self, path: Path) -> bool:
        broken = self.broken.get(path)
        if broken is not None and broken.may_pass and self.clock.now() - broken.at >= TRIES_EVERY:
            return True
        return _mtime(path) != self._tried.get(path)

    def _add(self, path: Path) -> None:
        self._tried[path] = _mtime(path)
        try:
            daemon = Daemon(path, self.clock, self.workers, self._read)
        except (RecwatchError, ValueError) as error:
            name = name_in(path) or path.stem
            # Two series with the name of one that runs would be no telling apart.
            name = path.name if any(member.name == name for member in self.members.values()) else name
            may_pass = isinstance(error, RecwatchError) and not isinstance(error, ConfigError)
            self.broken = {**self.broken, path: Broken(name, str(error), self.clock.now(), may_pass)}
            log.error("pipeline_not_started", config=path, error=error)
            return
        self.broken = {other: broken for other, broken in self.broken.items() if other != path}
        self.members = {**self.members, path: Member(daemon, app_of(daemon, home="../../"))}
        if self._is_started:
            daemon.start()

    def _remove(self, path: Path) -> None:
        member = self.members.get(path)
        self.members = {other: member for other, member in self.members.items() if other != path}
        self.broken = {other: broken for other, broken in self.broken.items() if other != path}
        # What it stood in the way of, such as another file with the same name, may be right now.
        self._tried = {other: at for other, at in self._tried.items() if other in self.members}
        if member is not None:
            member.daemon.stop()
        log.event("pipeline_removed", config=path)

    def _read(self, path: Path) -> Config:
        return self._agreement.read(path, {other: member.name for other, member in self.members.items()})

    # -- health ----------------------------------------------------------------------------------

    def problem(self) -> str | None:
        """Return why the process is not alive, or None if it is; one pipeline alone is no reason to restart all."""
        if not self.workers.scheduler.running:
            return "the schedule does not run"
        silence = self.clock.now() - self._heartbeat
        if silence > LONGEST_SILENCE:
            return f"the schedule has not moved for {silence.total_seconds():.0f} s"
        return None

    def pending(self) -> str | None:
        """Return what is waited for before all pipelines that can run are ready, or None."""
        waits = {member.name: member.daemon.pending() for member in self.members.values()}
        found = [f"{name}: {why}" for name, why in waits.items() if why is not None]
        return "; ".join(found) if found else self.problem()


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
