"""The daemon: builds and wires the parts, runs them on a schedule, reloads and stops them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from checks.check import Check
from checks.window import EPOCH, Window
from monitor import evidence, happenings, log, objectives, outbox, rollups
from monitor.alerting import SPARE
from monitor.baselines import Builder, is_due, reference_span
from monitor.changes import read
from monitor.clock import Clock
from monitor.config import Config
from monitor.errors import ConfigError, RecwatchError
from monitor.evidence import Collector
from monitor.late import reopened
from monitor.lease import Lease
from monitor.load import load
from monitor.resolve import Pipeline, build
from monitor.runner import Runner
from monitor.schedule import due, given_up
from monitor.series import series_estimate
from monitor.store import Store
from monitor.watch import Watch

HEARTBEAT = timedelta(seconds=5)
# How soon after the start the objectives are first evaluated.
FIRST_EVALUATION = timedelta(seconds=5)
# A scheduler whose heart stands still for this long is not alive.
LONGEST_SILENCE = timedelta(seconds=60)


@dataclass
class Live:
    """A configuration in force: what a reload replaces as a whole."""

    config: Config
    pipeline: Pipeline
    runner: Runner
    watch: Watch
    evidence: Collector


@dataclass
class Reload:
    """How the last attempt to read the configuration went."""

    at: datetime
    succeeded_at: datetime
    problem: str | None = None


@dataclass
class Daemon:
    """Runs the checks of one configuration until it is stopped.

    Args:
        path: The configuration file; watched for changes.
        clock: Tells the time.
    """

    path: Path
    clock: Clock
    live: Live = field(init=False)
    store: Store = field(init=False)
    lease: Lease = field(init=False)
    reload_state: Reload = field(init=False)

    def __post_init__(self) -> None:
        config = load(self.path)
        now = self.clock.now()
        self.reload_state = Reload(now, now)
        self.store = Store(config.state.get_secret_value(), config.pipeline, self.clock)
        self._state_problem: str | None = None
        self._states = self.store.begun_anew
        self.lease = Lease(self.store, self.clock)
        self.store.guard = self.lease.guard
        self.live = self._bring_up(config)
        self._lead()
        self._read_mtime = self._mtime()
        self._heartbeat = now
        self._first_pending: set[tuple[str, str]] = set()
        self._stopping = threading.Event()
        self._reload_lock = threading.Lock()
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(4)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )

    def _bring_up(self, config: Config) -> Live:
        pipeline = build(config)
        series_estimate(config, pipeline.checks)
        watch, runner = Watch(self.store, pipeline, self.clock), Runner(pipeline, self.store, self.clock)
        return Live(config, pipeline, runner, watch, Collector(runner, self.store, self.clock))

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the schedule; the first run of every check begins at once."""
        self._schedule()
        self.live.watch.start()
        self._scheduler.start()
        log.event("started", config=self.path, pipeline=self.live.config.pipeline)

    def wait(self) -> None:
        """Block until the daemon is told to stop."""
        self._stopping.wait()

    def ask_to_stop(self) -> None:
        """Make ``wait`` return; safe to call from a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """End the schedule, let running checks finish, and close everything."""
        self._scheduler.shutdown(wait=True)
        self.live.watch.close()
        self.live.evidence.close()
        self.lease.release()
        self.live.pipeline.close()
        self.store.close()
        log.event("stopped")

    def handle_signals(self) -> None:
        """Stop on SIGTERM and SIGINT, reload on SIGHUP."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.ask_to_stop())
        signal.signal(signal.SIGHUP, lambda *_: self._soon(self.reload))

    def _soon(self, call: Callable[[], None]) -> None:
        # A signal handler must return at once; the scheduler has threads for the work.
        self._scheduler.add_job(call)

    # -- schedule --------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Add one job for each dataset and cadence; its checks share their scans."""
        for dataset, checks in self.live.pipeline.checks.items():
            self._first_pending |= {(dataset, check.id) for check in checks}
            for every in sorted({check.settings.every for check in checks}):
                together = [check for check in checks if check.settings.every == every]
                settle = min(check.settings.settle for check in together)
                self._scheduler.add_job(
                    self.tick,
                    IntervalTrigger(seconds=int(every.total_seconds()), start_date=EPOCH + settle, timezone="UTC"),
                    args=(dataset, together),
                    id=f"{dataset}:{every}",
                    next_run_time=self.clock.now(),
                )
        self._every(HEARTBEAT, self._beat, "heartbeat")
        self._every(timedelta(seconds=2), self._reload_if_changed, "watch-config")
        self._every(timedelta(minutes=5), self.renew_baselines, "baselines", first=self.clock.now())
        self._every(timedelta(minutes=10), self.reopen, "late-rows")
        if self.live.config.changes:
            self._every(timedelta(minutes=1), self.read_changes, "changes", first=self.clock.now())
        self._every(timedelta(hours=1), self._prune, "prune")
        every = self.live.config.notify.every
        self._every(every, self.evaluate, "evaluate", first=self.clock.now() + min(every, FIRST_EVALUATION))

    def _every(self, interval: timedelta, call: Callable[[], None], name: str, first: datetime | None = None) -> None:
        extra = {} if first is None else {"next_run_time": first}
        trigger = IntervalTrigger(seconds=int(interval.total_seconds()), timezone="UTC")
        self._scheduler.add_job(call, trigger, id=name, **extra)

    def tick(self, dataset: str, checks: list[Check[Any]]) -> None:
        """Judge the windows that are due of some checks of one dataset, oldest first."""
        live, now = self.live, self.clock.now()
        if not self.lease.is_held:
            return
        try:
            watermarks = {check.id: self.store.watermark(dataset, check.id) for check in checks}
            stuck: set[str] = set()
            for pairs in due(checks, watermarks, now, live.config.limits.catch_up_windows):
                ready = [(check, window) for check, window in pairs if check.id not in stuck]
                if ready and not self._stopping.is_set():
                    stuck |= self._judge(live, dataset, ready)
        except RecwatchError as error:
            log.error("tick_failed", dataset=dataset, error=error)
        finally:
            self._first_pending -= {(dataset, check.id) for check in checks}

    def _judge(self, live: Live, dataset: str, ready: list[tuple[Check[Any], Window]]) -> set[str]:
        """Judge one round and commit it; return the checks that failed, whose next windows must wait."""
        failed, now = set(), self.clock.now()
        found = live.runner.run(dataset, ready)
        for judged in found:
            if judged.failed and judged.tally is None:
                failed.add(judged.check)
                log.error("check_failed", check=judged.check, dataset=dataset, error=judged.verdicts[0].reason)
                judged = replace(judged, advances=given_up(judged.window, now, live.config.limits.catch_up))
            self.store.commit(judged)
        # What was found is told first; to explain it takes more scans.
        for judged in found:
            live.evidence.after(judged)
        return failed

    def renew_baselines(self) -> None:
        """Build references that are missing, and those that are not pinned and have grown old."""
        live, now = self.live, self.clock.now()
        settings = live.config.baselines
        if not settings.auto or not self.lease.is_held:
            return
        builder = Builder(live.runner, self.store)
        for dataset, checks in live.pipeline.checks.items():
            for check in checks:
                if self._stopping.is_set():
                    return
                try:
                    if is_due(self.store.saved_baseline(dataset, check.id), check, now, settings.refresh):
                        built = builder.build_reference(
                            dataset, check, reference_span(check, now, settings.span), pinned=False
                        )
                        log.event("baseline_built" if built.reference else "baseline_waits", check=check.id,
                                 dataset=dataset, **({"reason": built.problem} if built.problem else {}))  # fmt: skip
                except RecwatchError as error:
                    log.error("baseline_failed", check=check.id, dataset=dataset, error=error)

    def reopen(self) -> None:
        """Judge windows again that have got late rows; what they add is counted once."""
        live, now = self.live, self.clock.now()
        for dataset, checks in live.pipeline.checks.items() if self.lease.is_held else ():
            try:
                span = Window(now - live.config.limits.reopen, now)
                rounds = reopened(live.runner, self.store, dataset, checks, span)
                for ready in rounds[: live.config.limits.catch_up_windows]:
                    if not self._stopping.is_set():
                        self._judge(live, dataset, ready)
                if rounds:
                    log.event("late_rows", dataset=dataset, windows=len(rounds))
            except RecwatchError as error:
                log.error("reopen_failed", dataset=dataset, error=error)

    def read_changes(self) -> None:
        """Note the deploys and other changes that datasets list."""
        for changes in self.live.config.changes if self.lease.is_held else ():
            try:
                noted = read(self.live.pipeline, self.store, changes, self.clock.now())
                if noted:
                    log.event("changes", dataset=changes.dataset, noted=noted)
            except RecwatchError as error:
                log.error("changes_failed", dataset=changes.dataset, error=error)

    def evaluate(self) -> None:
        """Evaluate the objectives and tell people, if this daemon leads and can note what it has told."""
        if self.lease.is_held and self._state_problem is None:
            self.live.watch.evaluate()

    def _lead(self) -> None:
        """Take the lease if it is free, and say so when that changes anything."""
        before = self.lease.is_held
        try:
            leads = self.lease.renew()
        except RecwatchError as error:
            self._state_problem = str(error)
            log.error("lease_failed", error=error)
            return
        self._state_problem = None
        if self.store.begun_anew != self._states:
            # What is remembered of incidents is about the state that was lost.
            self._states = self.store.begun_anew
            self.live.watch.lead(False)
        if leads != before:
            log.event("leads" if leads else "stands_by", holder=self.lease.holder)
        self.live.watch.lead(leads)

    def _beat(self) -> None:
        self._heartbeat = self.clock.now()
        self._lead()

    def _prune(self) -> None:
        try:
            now, keep = self.clock.now(), self.live.config.limits.keep
            self.store.prune(now - keep)
            periods = [slo.period for slo in self.live.pipeline.slos.values()]
            longest = max((tier.long for slo in self.live.pipeline.slos.values() for tier in slo.tiers), default=keep)
            objectives.prune(self.store, now - longest - SPARE, now - max([*periods, keep]))
            outbox.prune(self.store, now - keep)
            rollups.prune(self.store, now, keep)
            happenings.prune(self.store, now - keep)
            evidence.prune(self.store, now - self.live.config.evidence.keep)
        except RecwatchError as error:
            log.error("prune_failed", error=error)

    # -- configuration ---------------------------------------------------------------------------

    def _mtime(self) -> float | None:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

    def _reload_if_changed(self) -> None:
        mtime = self._mtime()
        if mtime is not None and mtime != self._read_mtime:
            self.reload()

    def reload(self) -> None:
        """Read the configuration again; keep the old one, and say so loudly, if it is wrong."""
        with self._reload_lock:
            now = self.clock.now()
            self._read_mtime = self._mtime()
            try:
                config = load(self.path)
                self._refuse_moves(config)
                fresh = self._bring_up(config)
            except (RecwatchError, ValueError) as error:
                self.reload_state = Reload(now, self.reload_state.succeeded_at, str(error))
                log.error("reload_failed_old_configuration_stays", error=error)
                return
            old, self.live = self.live, fresh
            self._scheduler.remove_all_jobs()
            self._schedule()
            old.watch.close()
            old.evidence.close()
            fresh.watch.lead(self.lease.is_held)
            fresh.watch.start()
            old.pipeline.close()
            self.reload_state = Reload(now, now)
            log.event("reloaded", config=self.path)

    def _refuse_moves(self, config: Config) -> None:
        """Refuse what can't change while running: the state, the pipeline's name, the address."""
        for name in ("state", "pipeline", "server"):
            if getattr(config, name) != getattr(self.live.config, name):
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
