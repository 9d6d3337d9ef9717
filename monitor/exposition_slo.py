"""What /metrics says about objectives and notifications; the rule pack in alerts/rules joins on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from alerts.slo import Kind, Slo
from checks.check import Outcome, Sample
from checks.metrics import CHANGES
from monitor import happenings, objectives, outbox
from monitor.objectives import Latest, Spent
from monitor.status import Watched
from monitor.store import Store


def defined(slos: Iterable[Slo]) -> Iterator[Sample]:
    """Yield what the definitions of objectives say, and zeros for what has yet to be counted."""
    for slo in slos:
        yield from _defined(slo)
        # The store's own counts replace them.
        yield from slo.counters(Outcome.ERROR, 0, 0)


def seen(store: Store, slos: Mapping[str, Slo], now: datetime) -> Iterator[Sample]:
    """Yield what the last run of each objective, and its budget, say."""
    latest, spent = objectives.latest(store), objectives.spent(store, slos, now)
    for slo in slos.values():
        yield from _seen(slo, latest.get(slo.name), spent[slo.name], now)


def running(watched: Watched) -> dict[str, Slo]:
    """Return the objectives of checks that run."""
    runs = {(dataset, kind.id) for dataset, kind, check in watched.every() if check is not None}
    return {slo.name: slo for slo in watched.slos.values() if (slo.dataset, slo.check) in runs}


def _defined(slo: Slo) -> Iterator[Sample]:
    labels = {"slo": slo.name}
    about = {**labels, "check": slo.check, "dataset": slo.dataset, "kind": slo.kind.value, "team": slo.team}
    yield Sample("recwatch_slo_info", about, 1)
    yield Sample("recwatch_slo_objective_ratio", labels, slo.objective)
    yield Sample("recwatch_slo_period_seconds", labels, slo.period.total_seconds())
    yield Sample("recwatch_slo_min_bad_checks", labels, slo.min_bad_checks)
    yield Sample("recwatch_slo_min_events", labels, slo.min_events)
    for tier in slo.active:
        threshold = tier.threshold_ratio(slo.objective, slo.period)
        yield Sample("recwatch_slo_alert_threshold_ratio", {**labels, "tier": tier.name}, threshold)


def _seen(slo: Slo, latest: Latest | None, spent: Spent, now: datetime) -> Iterator[Sample]:
    labels = {"slo": slo.name}
    was_judged = latest is not None and latest.judged_at is not None
    yield Sample("recwatch_slo_data_due_seconds", labels, slo.data_due(was_judged).total_seconds())
    left = spent.budget_left_ratio(slo, now)
    if left is not None:
        yield Sample("recwatch_slo_budget_remaining_ratio", labels, left)
    if latest is None:
        return
    yield Sample("recwatch_slo_observed_seconds", labels, (now - latest.since).total_seconds())
    # Before there was any data, the wait for it began with the first run.
    yield Sample("recwatch_slo_last_data_timestamp_seconds", labels, (latest.judged_at or latest.since).timestamp())
    if slo.kind is Kind.SLICES and latest.outcome is not Outcome.UNKNOWN and now - latest.at <= slo.hold:
        yield Sample("recwatch_slo_slice_good", labels, int(latest.outcome is Outcome.GOOD))


def about_changes(store: Store) -> Iterator[Sample]:
    """Yield when the newest deploy and other changes happened; 0 before the first, so that its coming is a change."""
    newest = happenings.newest(store)
    for kind in CHANGES:
        at = newest[kind].timestamp() if kind in newest else 0
        yield Sample("recwatch_last_change_timestamp_seconds", {"kind": kind}, at)


def about_notifications(store: Store, watched: Watched) -> Iterator[Sample]:
    """Yield what became of messages, by channel."""
    yield Sample("recwatch_leader", {}, int(watched.is_leader))
    waiting = outbox.lengths(store)
    for channel in watched.config.channels:
        for result in (outbox.DELIVERED, outbox.REFUSED):
            yield Sample("recwatch_notifications_total", {"channel": channel, "result": result}, 0)
        yield Sample("recwatch_notification_queue_length", {"channel": channel}, waiting.get(channel, 0))
