"""The daemon: builds and wires the parts, runs them on a schedule, reloads and stops them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.triggers.interval import IntervalTrigger

from checks.check import Check
from checks.window import EPOCH, Window
from monitor import chores, log
from monitor.budget import BUDGET, QUEUE, Allowance, Scans
from monitor.clock import Clock
from monitor.committing import commit_round
from monitor.config import Config
from monitor.errors import ConfigError, RecwatchError
from monitor.evidence import Collector
from monitor.lease import Lease
from monitor.live import Live, Reload
from monitor.load import load
from monitor.records import Judged
from monitor.resolve import build
from monitor.runner import Runner
from monitor.schedule import due, given_up
from monitor.series import series_estimate
from monitor.store import Store
from monitor.turns import once
from monitor.watch import Watch
from monitor.workers import PULSE, STATE, Workers, engine_of, lane, lanes, own_lane

HEARTBEAT = timedelta(seconds=5)
# How soon after the start the objectives are first evaluated.
FIRST_EVALUATION = timedelta(seconds=5)
# A scheduler whose heart stands still for this long is not alive.
LONGEST_SILENCE = timedelta(seconds=60)


@dataclass
class Daemon:
    """Runs the checks of one configuration until it is stopped.

    Args:
        path: The configuration file; watched for changes.
        clock: Tells the time.
        workers: The schedule and the threads; shared where one process runs several pipelines.
        read: Reads the configuration file.
    """

    path: Path
    clock: Clock
    workers: Workers = field(default_factory=Workers)
    read: Callable[[Path], Config] = load
    live: Live = field(init=False)
    store: Store = field(init=False)
    lease: Lease = field(init=False)
    reload_state: Reload = field(init=False)

    def __post_init__(self) -> None:
        config = self.read(self.path)
        now = self.clock.now()
        self.reload_state = Reload(now, now)
        self.store = Store(config.state.get_secret_value(), config.pipeline, self.clock)
        self._state_problem: str | None = None
        self._states = self.store.begun_anew
        self.lease = Lease(self.store, self.clock)
        self._leads: bool | None = None
        self.store.guard = self.lease.guard
        self.scans = Scans(self.store, self.clock)
        try:
            self.live = self._bring_up(config)
        except (RecwatchError, ValueError):
            self.store.close()
            raise
        self.scans.limit(config)
        self._lead()
        self._read_mtime, self._heartbeat = self._mtime(), now
        self._first_pending: set[tuple[str, str]] = set()
        self._stopping = threading.Event()
        self._reload_lock = threading.Lock()
        self._scheduler, self._jobs = self.workers.scheduler, list[Job]()

    def _bring_up(self, config: Config) -> Live:
        pipeline = build(config)
        try:
            series_estimate(config, pipeline.checks)
            for name, engine in pipeline.engines.items():
                engine.spend = partial(self.scans.spend, name)
            watch, runner = Watch(self.store, pipeline, self.clock), Runner(pipeline, self.store, self.clock)
            return Live(config, pipeline, runner, watch, Collector(runner, self.store, self.clock))
        except BaseException:
            pipeline.close()
            raise

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the schedule; the first run of every check begins at once."""
        self._schedule()
        self.live.watch.start()
        self.workers.start()
        log.event("started", config=self.path, pipeline=self.live.config.pipeline)

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the daemon is told to stop, or for some seconds; return whether it is to stop."""
        return self._stopping.wait(seconds)

    def ask_to_stop(self) -> None:
        """Make ``wait`` return; safe to call from a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """End the schedule, let running checks finish, and close everything."""
        self._stopping.set()
        self._unschedule()
        self.workers.turns.leave(self.store.pipeline)
        if not self.workers.are_shared:
            self.workers.close()
        self._save_scans()
        self.live.watch.close()
        self.live.evidence.close()
        self.lease.release()
        self.live.pipeline.close()
        self.store.close()
        log.event("stopped", pipeline=self.store.pipeline)

    def handle_signals(self) -> None:
        """Stop on SIGTERM and SIGINT, reload on SIGHUP."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.ask_to_stop())
        signal.signal(signal.SIGHUP, lambda *_: self.reload_soon())

    def reload_soon(self) -> None:
        """Have the configuration read again; safe to call from a signal handler."""
        # That must return at once; the scheduler has threads for the work.
        self._scheduler.add_job(self._queue, args=(PULSE, "asked", self.reload))

    # -- schedule --------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Add one job for each dataset and cadence; its checks share their scans."""
        pipeline = self.store.pipeline
        self.workers.turns.join(pipeline, lanes(self.live.config))
        self._first_pending = {(name, check.id) for name, of in self.live.pipeline.checks.items() for check in of}
        for dataset, checks in self.live.pipeline.checks.items():
            for every in sorted({check.settings.every for check in checks}):
                together = [check for check in checks if check.settings.every == every]
                first = EPOCH + min(check.settings.settle for check in together) + self.workers.offset(pipeline, every)
                trigger = IntervalTrigger(seconds=int(every.total_seconds()), start_date=first, timezone="UTC")
                tick = partial(self._queue_tick, dataset, together, f"tick:{every}")
                # Now, and whenever a window has settled; one job with another first time would go on from that.
                self._jobs += [self._scheduler.add_job(tick), self._scheduler.add_job(tick, trigger)]
        self._every(HEARTBEAT, self._beat, "heartbeat", lane=PULSE)
        renew = partial(self._queue_each, "baselines", chores.renewals)
        reopen = partial(self._queue_each, "late-rows", chores.late_rows)
        self._every(timedelta(minutes=5), renew, "baselines", first=self.clock.now())
        self._every(timedelta(minutes=10), reopen, "late-rows")
        if self.live.config.changes:
            self._every(timedelta(minutes=1), self._queue_changes, "changes", first=self.clock.now())
        self._every(timedelta(hours=1), partial(chores.prune, self), "prune")
        every = self.live.config.notify.every
        self._every(every, self.evaluate, "evaluate", first=self.clock.now() + min(every, FIRST_EVALUATION))

    def _every(
        self, interval: timedelta, call: Callable[[], None], name: str, first: datetime | None = None,
        lane: str = STATE,
    ) -> None:  # fmt: skip
        extra = {} if first is None else {"next_run_time": first}
        trigger = IntervalTrigger(seconds=int(interval.total_seconds()), timezone="UTC")
        self._jobs.append(self._scheduler.add_job(self._queue, trigger, args=(lane, name, call), **extra))

    def _queue(self, lane: str, name: str, call: Callable[[], None]) -> None:
        self.workers.turns.put(own_lane(self.live.config, lane), self.store.pipeline, name, once(call))

    def _unschedule(self) -> None:
        """Take out all jobs, and what waits for its turn at an engine."""
        for job in self._jobs:
            with suppress(JobLookupError):
                job.remove()
        self._jobs.clear()
        own = {own_lane(self.live.config, kind) for kind in (STATE, PULSE)}
        engines = [name for name in lanes(self.live.config) if name not in own]
        self.workers.turns.drop(self.store.pipeline, engines)

    def _queue_on_engine(self, dataset: str, name: str, pieces: Iterator[None]) -> bool:
        config = self.live.config
        where = lane(config, engine_of(config, dataset))
        return self.workers.turns.put(where, self.store.pipeline, f"{name}:{dataset}", pieces)

    def _queue_tick(self, dataset: str, checks: list[Check[Any]], name: str) -> None:
        if not self.lease.is_held or self._stopping.is_set():
            return
        if not self._queue_on_engine(dataset, name, self._rounds(dataset, checks)):
            self._defer(engine_of(self.live.config, dataset), QUEUE)

    def _defer(self, engine: str, reason: str) -> None:
        try:
            self.scans.defer(engine, reason)
        except RecwatchError as error:
            log.error("deferral_not_counted", engine=engine, error=error)

    def tick(self, dataset: str, checks: list[Check[Any]]) -> None:
        """Judge the windows that are due of some checks of one dataset, oldest first."""
        for _done in self._rounds(dataset, checks):
            pass

    def _rounds(self, dataset: str, checks: list[Check[Any]]) -> Iterator[None]:
        """Judge what is due, a round in each turn; what the engine's budget does not allow waits for a later tick."""
        live, now = self.live, self.clock.now()
        if not self.lease.is_held:
            return
        engine, stuck, put_off = engine_of(live.config, dataset), set[str](), set[str]()
        try:
            watermarks = self.store.watermarks(dataset)
            for pairs in due(checks, watermarks, now, live.config.limits.catch_up_windows):
                put_off |= self._not_allowed(engine, pairs)
                ready = [(check, window) for check, window in pairs if check.id not in stuck | put_off]
                if ready and self.goes_on(live):
                    stuck |= self.judge(live, dataset, ready)
                    self.scans.save_if_limited(engine)
                    yield
            if put_off:
                self._defer(engine, BUDGET)
        except RecwatchError as error:
            log.error("tick_failed", dataset=dataset, error=error)
        finally:
            # In place: a reload may have put another set there meanwhile.
            self._first_pending.difference_update((dataset, check.id) for check in checks)

    def _not_allowed(self, engine: str, pairs: list[tuple[Check[Any], Window]]) -> set[str]:
        """Return the checks that must wait: first those that can catch up on what they miss, then all."""
        allowance = self.scans.allowance(engine)
        if allowance is Allowance.ALL:
            return set()
        return {check.id for check, _window in pairs if check.catches_up or allowance is Allowance.NONE}

    def goes_on(self, live: Live) -> bool:
        """Return whether work that began under a configuration is to go on."""
        return live is self.live and not self._stopping.is_set()

    def may_ask(self, dataset: str) -> bool:
        """Return whether the engine of a dataset may be asked for more than what is due."""
        return self.scans.allowance(engine_of(self.live.config, dataset)) is Allowance.ALL

    def judge(self, live: Live, dataset: str, ready: list[tuple[Check[Any], Window]]) -> set[str]:
        """Judge one round and commit it; return the checks that failed, whose next windows must wait."""
        now, checks = self.clock.now(), {check.id: check for check, _window in ready}

        def told(judged: Judged) -> Judged:
            if judged.tally is not None:
                return judged
            log.error("check_failed", check=judged.check, dataset=dataset, error=judged.verdicts[0].reason)
            return replace(judged, advances=given_up(judged.window, now, live.config.limits.catch_up))

        def instead(judged: Judged, reason: str) -> Judged:
            return told(live.runner.failed(dataset, checks[judged.check], judged.window, reason))

        written = commit_round(self.store, [told(judged) for judged in live.runner.run(dataset, ready)], instead)
        # What was found is told first; to explain it takes more scans.
        for judged in written if self.may_ask(dataset) else ():
            live.evidence.after(judged)
        return {judged.check for judged in written if judged.tally is None}

    def run_each(self, work: Callable[[Daemon, str], Iterator[None]]) -> None:
        """Do a chore for every dataset now."""
        for dataset in self.live.pipeline.checks:
            for _done in work(self, dataset):
                pass

    def _queue_each(self, name: str, work: Callable[[Daemon, str], Iterator[None]]) -> None:
        for dataset in self.live.pipeline.checks:
            self._queue_on_engine(dataset, name, work(self, dataset))

    def _queue_changes(self) -> None:
        for changes in self.live.config.changes:
            self._queue_on_engine(changes.dataset, "changes", once(partial(chores.read_changes, self, changes)))

    def evaluate(self) -> None:
        """Evaluate the objectives and tell people, if this daemon leads and can note what it has told."""
        if self.lease.is_held and self._state_problem is None:
            self.live.watch.evaluate()

    def _lead(self) -> None:
        """Take the lease if it is free, and say so when that changes anything."""
        # It may have been lost since the last time.
        self._leads = self._leads and self.lease.is_held
        try:
            leads = self.lease.renew()
            if leads and not self._leads:
                self.scans.recall()
        except RecwatchError as error:
            self._state_problem = str(error)
            log.error("lease_failed", error=error)
            return
        self._state_problem = None
        if leads != self._leads or self.store.begun_anew != self._states:
            # What is remembered of incidents is about what others have gone on with, or about the state that was lost.
            self.live.watch.lead(False)
            log.event("leads" if leads else "stands_by", holder=self.lease.holder)
        self._leads, self._states = leads, self.store.begun_anew
        self.live.watch.lead(leads)

    def _beat(self) -> None:
        self._heartbeat = self.clock.now()
        # Work of its own: a reload may wait for what runs, and the lease does not.
        if self._has_changed():
            self._queue(PULSE, "watch-config", self._reload_if_changed)
        self._lead()
        self._save_scans()

    def _save_scans(self) -> None:
        try:
            if self.lease.is_held:
                self.scans.save()
        except RecwatchError as error:
            log.error("scans_not_saved", error=error)

    # -- configuration ---------------------------------------------------------------------------

    def _mtime(self) -> float | None:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

    def _has_changed(self) -> bool:
        mtime = self._mtime()
        return mtime is not None and mtime != self._read_mtime

    def _reload_if_changed(self) -> None:
        if self._has_changed():
            self.reload()

    def reload(self) -> None:
        """Read the configuration again; keep the old one, and say so loudly, if it is wrong."""
        with self._reload_lock:
            now = self.clock.now()
            self._read_mtime = self._mtime()
            try:
                config = self.read(self.path)
                self._refuse_moves(config)
                fresh = self._bring_up(config)
            except (RecwatchError, ValueError) as error:
                self.reload_state = Reload(now, self.reload_state.succeeded_at, str(error))
                log.error("reload_failed_old_configuration_stays", error=error)
                return
            self._unschedule()
            fresh.watch.start(after=self.live.watch)
            old, self.live = self.live, fresh
            self.scans.limit(config)
            self._schedule()
            old.evidence.close()
            old.pipeline.close()
            self.reload_state = Reload(now, now)
            log.event("reloaded", config=self.path)

    def _refuse_moves(self, config: Config) -> None:
        """Refuse what can't change while running: the state, the pipeline's name, the address."""
        # Who may look is asked at each request, so a new password counts at once.
        old, new = (one.model_copy(update={"server": one.server.without_auth()}) for one in (self.live.config, config))
        for name in ("state", "pipeline", "server"):
            if getattr(new, name) != getattr(old, name):
                raise ConfigError([f"{self.path}: {name}: cannot change while the daemon runs; restart it"])

    # -- health ----------------------------------------------------------------------------------

    def problem(self) -> str | None:
        """Return why the daemon is not alive, or None if it is."""
        if not self._scheduler.running:
            return "the schedule does not run"
        silence = self.clock.now() - self._heartbeat
        if silence > LONGEST_SILENCE:
            return f"the schedule has not moved for {silence.total_seconds():.0f} s"
        return self._state_problem

    def pending(self) -> str | None:
        """Return what the daemon still waits for before it is ready, or None if it is ready."""
        if self._first_pending and self.lease.is_held:
            return f"{len(self._first_pending)} checks have not run yet"
        return self.problem()
