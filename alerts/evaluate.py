"""Which alerts have reason to fire at a moment: the rule pack's rules, evaluated without Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from alerts.burn import Tier
from alerts.message import Severity
from alerts.slo import Kind, Slo
from alerts.track import Seen, Track

BURN = "RecwatchSloBudgetBurn"
FRESHNESS_EMERGENCY = "RecwatchFreshnessEmergency"
INGESTION_DOWN = "RecwatchIngestionDown"
NO_DATA = "RecwatchSloNoData"
CHECK_OVERDUE = "RecwatchCheckOverdue"
# More than this share of events that fail to land is no matter of budgets any more.
DOWN_RATIO = 0.5
# While nothing is known, or between checks that run rarely, what was last known holds for so long.
DOWN_OVER, DOWN_WITHIN = timedelta(minutes=5), timedelta(hours=2)
# What goes on firing for a while after its last sign, so that it does not flap.
KEPT = (BURN, INGESTION_DOWN)
# How long what a direct rule says must hold before it fires.
WAITS: Mapping[str, timedelta] = {
    FRESHNESS_EMERGENCY: timedelta(minutes=1),
    # After downtime everything is old until the first runs have ended.
    NO_DATA: timedelta(minutes=5),
    CHECK_OVERDUE: timedelta(minutes=5),
}
SEVERITY_OF = {"critical": Severity.PAGE, "warning": Severity.TICKET}


@dataclass(frozen=True)
class Sign:
    """One reason to alert, as it is now.

    Args:
        alert: Name of the alert.
        name: Name of the objective; for direct rules about a dataset or a check, what they are about.
        severity: Page or ticket.
        tier: Burn-rate tier; empty for direct rules.
        dataset: Which dataset.
        check: Which check.
        value: Share that is bad over the long window; for direct rules, an age in seconds.
        threshold: What the value exceeds.
    """

    alert: str
    name: str
    severity: Severity
    tier: str
    dataset: str
    check: str
    value: float
    threshold: float

    @property
    def key(self) -> str:
        """Identity of what fires: alert, name and tier."""
        return f"{self.alert}/{self.name}/{self.tier}"


def burning(track: Track, since: datetime, now: datetime) -> Iterator[Sign]:
    """Yield the tiers of an objective that burn, and ingestion that is down.

    A tier burns when its long window is worse than its threshold, and its short one as far as is known, enough
    runs were bad, enough events were counted, and at least half of the long window has been watched.

    Args:
        track: What the objective has seen.
        since: When it was first judged.
        now: The moment.
    """
    slo = track.slo
    for tier in slo.active:
        threshold = tier.threshold_ratio(slo.objective, slo.period)
        found = _burns(track, tier, now, threshold)
        if found is not None and now - since >= tier.long / 2:
            severity = SEVERITY_OF[tier.severity]
            yield Sign(BURN, slo.name, severity, tier.name, slo.dataset, slo.check, found, threshold)
    if slo.check == "ingestion":
        share = track.last_known(now, DOWN_OVER, DOWN_WITHIN)
        lately = track.over(now, DOWN_WITHIN)
        is_enough = lately.bad_checks >= slo.min_bad_checks and not _is_quiet(slo, lately)
        if share is not None and share > DOWN_RATIO and is_enough:
            yield Sign(INGESTION_DOWN, slo.name, Severity.PAGE, "", slo.dataset, slo.check, share, DOWN_RATIO)


def _burns(track: Track, tier: Tier, now: datetime, threshold: float) -> float | None:
    slo, long = track.slo, track.over(now, tier.long)
    if long.bad_ratio is None or long.bad_ratio <= threshold or long.bad_checks < slo.min_bad_checks:
        return None
    # Nothing known is no recovery: a check that cannot run any more ends no alarm.
    short = track.last_known(now, tier.short, tier.long)
    if short is None or short <= threshold:
        return None
    return None if _is_quiet(slo, long) else long.bad_ratio


def _is_quiet(slo: Slo, seen: Seen) -> bool:
    """Return whether too few events were counted to alert about."""
    return slo.kind is Kind.EVENTS and seen.events < slo.min_events


def silent(slo: Slo, judged: datetime | None, since: datetime, now: datetime) -> Iterator[Sign]:
    """Yield the sign of an objective that has had no good or bad run for longer than is normal.

    Args:
        slo: The objective.
        judged: When a run last ended good or bad; None if none has.
        since: When its first run finished.
        now: The moment.
    """
    waited = (now - (judged or since)).total_seconds()
    due = slo.data_due(judged is not None).total_seconds()
    if waited > due:
        yield Sign(NO_DATA, slo.name, Severity.TICKET, "", slo.dataset, slo.check, waited, due)


def stale(dataset: str, newest_event: datetime, emergency: timedelta, now: datetime) -> Iterator[Sign]:
    """Yield the sign of a feed whose newest event is older than an emergency's age."""
    age, limit = (now - newest_event).total_seconds(), emergency.total_seconds()
    if age > limit:
        yield Sign(FRESHNESS_EMERGENCY, f"{dataset}-freshness", Severity.PAGE, "", dataset, "freshness", age, limit)


def overdue(dataset: str, check: str, succeeded: datetime, interval: timedelta, now: datetime) -> Iterator[Sign]:
    """Yield the sign of a check that has not succeeded for two of its intervals and five minutes."""
    waited, limit = (now - succeeded).total_seconds(), 2 * interval.total_seconds() + 300
    if waited > limit:
        yield Sign(CHECK_OVERDUE, f"{dataset}-{check}", Severity.TICKET, "", dataset, check, waited, limit)
