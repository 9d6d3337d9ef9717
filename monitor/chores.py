"""What the daemon does beside judging: references, late rows, changes, and forgetting what is old."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from checks.window import Window
from monitor import changes, evidence, happenings, log, objectives, outbox, rollups, state_size
from monitor.alerting import SPARE
from monitor.baselines import Builder, is_due, reference_span
from monitor.config import ChangesConfig
from monitor.errors import RecwatchError
from monitor.late import reopened

if TYPE_CHECKING:
    from monitor.daemon import Daemon


def renewals(daemon: Daemon, dataset: str) -> Iterator[None]:
    """Build references of a dataset that are missing or have grown old, one in each turn."""
    live, now = daemon.live, daemon.clock.now()
    settings = live.config.baselines
    if not settings.auto or not daemon.lease.is_held:
        return
    builder = Builder(live.runner, daemon.store)
    for check in live.pipeline.checks[dataset]:
        if not daemon.goes_on(live) or not daemon.may_ask(dataset):
            return
        try:
            if is_due(daemon.store.saved_baseline(dataset, check.id), check, now, settings.refresh):
                built = builder.build_reference(dataset, check, reference_span(check, now, settings.span), pinned=False)
                log.event("baseline_built" if built.reference else "baseline_waits", check=check.id,
                         dataset=dataset, **({"reason": built.problem} if built.problem else {}))  # fmt: skip
                yield
        except RecwatchError as error:
            log.error("baseline_failed", check=check.id, dataset=dataset, error=error)


def late_rows(daemon: Daemon, dataset: str) -> Iterator[None]:
    """Judge windows again that have got late rows, one in each turn; what they add is counted once."""
    live, now = daemon.live, daemon.clock.now()
    if not daemon.lease.is_held or not daemon.may_ask(dataset):
        return
    try:
        span = Window(now - live.config.limits.reopen, now)
        rounds = reopened(live.runner, daemon.store, dataset, live.pipeline.checks[dataset], span)
        for ready in rounds[: live.config.limits.catch_up_windows]:
            yield
            if daemon.goes_on(live) and daemon.may_ask(dataset):
                daemon.judge(live, dataset, ready)
        if rounds:
            log.event("late_rows", dataset=dataset, windows=len(rounds))
    except RecwatchError as error:
        log.error("reopen_failed", dataset=dataset, error=error)


def read_changes(daemon: Daemon, listed: ChangesConfig) -> None:
    """Note the deploys and other changes that a dataset lists."""
    if not daemon.lease.is_held or not daemon.may_ask(listed.dataset):
        return
    try:
        noted = changes.read(daemon.live.pipeline, daemon.store, listed, daemon.clock.now())
        if noted:
            log.event("changes", dataset=listed.dataset, noted=noted)
    except RecwatchError as error:
        log.error("changes_failed", dataset=listed.dataset, error=error)


def prune(daemon: Daemon) -> None:
    """Forget what was kept for long enough."""
    store, live, now = daemon.store, daemon.live, daemon.clock.now()
    keep = live.config.limits.keep
    try:
        store.prune(rollups.kept_from(now, keep))
        state_size.compact(store, now - live.config.limits.reopen)
        periods = [slo.period for slo in live.pipeline.slos.values()]
        longest = max((tier.long for slo in live.pipeline.slos.values() for tier in slo.tiers), default=keep)
        objectives.prune(store, now - longest - SPARE, now - max([*periods, keep]))
        outbox.prune(store, now - keep)
        rollups.prune(store, now, keep)
        happenings.prune(store, now - keep)
        evidence.prune(store, now - live.config.evidence.keep)
    except RecwatchError as error:
        log.error("prune_failed", error=error)
