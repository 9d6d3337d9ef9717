"""Which alerts have reason to fire at a moment: the rule pack's rules, evaluated without Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from alerts.message import Severity
from alerts.slo import Kind, Slo
from alerts.track import Seen, Track

BURN = "RecwatchSloBudgetBurn"
FRESHNESS_EMERGENCY = "RecwatchFreshnessEmergency"
INGESTION_DOWN = "RecwatchIngestionDown"
NO_DATA = "RecwatchSloNoData"
CHECK_OVERDUE = "RecwatchCheckOverdue"
# What tells nothing of the data.
BLIND = (NO_DATA, CHECK_OVERDUE)
# More than this share of events that fail to land is no matter of budgets any more.
DOWN_RATIO = 0.5
DOWN_OVER, DOWN_WITHIN = timedelta(minutes=5), timedelta(hours=2)
# While nothing is known what fires goes on for so long, or for its tier's long window, if what was last known was bad.
HELD_FOR = timedelta(days=1)
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


def burning(track: Track, since: datetime, now: datetime, fires: Mapping[str, Sign]) -> Iterator[Sign]:
    """Yield the tiers of an objective that burn, and ingestion that is down.

    A tier burns when its long window and its short one are worse than its threshold, enough runs were bad, enough
    events were counted, and at least half of the long window has been watched. While its short window holds
    nothing it begins no alarm and ends none: what fires goes on if what was last known was bad.

    Args:
        track: What the objective has seen.
        since: When it was first judged.
        now: The moment.
        fires: Signs that fired when this was last asked, by key.
    """
    slo = track.slo
    for tier in slo.active:
        limit = tier.threshold_ratio(slo.objective, slo.period)
        sign = Sign(BURN, slo.name, SEVERITY_OF[tier.severity], tier.name, slo.dataset, slo.check, 0, limit)
        short = track.over(now, tier.short).bad_ratio
        if short is None:
            found = _held(track, sign, max(tier.long, HELD_FOR), now, fires)
        else:
            long = track.over(now, tier.long)
            is_burning = short > limit and (long.bad_ratio or 0) > limit and now - since >= tier.long / 2
            found = long.bad_ratio if is_burning and _is_enough(slo, long) else None
        if found is not None:
            yield replace(sign, value=found)
    # A share of time is no share of what was sent, and a volume out of its band may as well be a surplus.
    if slo.check == "ingestion" and slo.kind is Kind.EVENTS:
        sign = Sign(INGESTION_DOWN, slo.name, Severity.PAGE, "", slo.dataset, slo.check, 0, DOWN_RATIO)
        share = track.over(now, DOWN_OVER).bad_ratio
        if share is None:
            share = _held(track, sign, HELD_FOR, now, fires)
        elif share <= DOWN_RATIO or not _is_enough(slo, track.over(now, DOWN_WITHIN)):
            share = None
        if share is not None:
            yield replace(sign, value=share)


def _held(track: Track, sign: Sign, within: timedelta, now: datetime, fires: Mapping[str, Sign]) -> float | None:
    """Return the value of what fires while what was last known is bad: nothing known is no recovery."""
    share = track.last_known(now, within) if sign.key in fires else None
    return fires[sign.key].value if share is not None and share > sign.threshold else None


def _is_enough(slo: Slo, seen: Seen) -> bool:
    """Return whether enough runs were bad, and enough events counted, to alert about."""
    is_quiet = slo.kind is Kind.EVENTS and seen.events < slo.min_events
    return seen.bad_checks >= slo.min_bad_checks and not is_quiet


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
