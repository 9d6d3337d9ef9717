"""Objectives: which verdicts or events count, how many may be bad, and who is told when they burn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from alerts.burn import Tier
from checks.check import Outcome, Sample, Verdict


class Kind(StrEnum):
    """What an objective counts."""

    SLICES = "slices"
    EVENTS = "events"


@dataclass(frozen=True)
class Slo:
    """An objective for one check of one dataset, or for one entity of it.

    Args:
        name: Unique within the pipeline; a label.
        dataset: Which dataset.
        check: Which check.
        entity: Only verdicts about this entity; None for all that are not about a single source.
        kind: Whether runs of the check or events of its windows are counted.
        objective: Share that must be good, between 0 and 1, both excluded.
        period: Over which the budget is reckoned.
        interval: How often the check runs.
        tiers: Burn-rate tiers asked for; those that make no sense are left out of ``active``.
        min_bad_checks: Fewest bad runs in a tier's long window for it to fire.
        min_events: Fewest events in a tier's long window for it to fire; 0 for slices.
        unknown_is_bad: Whether a run that could not judge counts as bad.
        team: Who owns it; a label of its information series.
    """

    name: str
    dataset: str
    check: str
    kind: Kind
    objective: float
    period: timedelta
    interval: timedelta
    tiers: tuple[Tier, ...]
    entity: str | None = None
    min_bad_checks: int = 2
    min_events: int = 0
    unknown_is_bad: bool = False
    team: str = ""

    @property
    def active(self) -> tuple[Tier, ...]:
        """The tiers that can fire at this objective and are not faster than the check."""
        return tuple(t for t in self.tiers if t.why_not(self.objective, self.period, self.interval) is None)

    def covers(self, verdict: Verdict) -> bool:
        """Return whether a verdict is about what this objective is about."""
        is_ours = (verdict.dataset, verdict.check) == (self.dataset, self.check) and verdict.is_whole
        return is_ours and self.entity in (None, verdict.entity)

    def outcome(self, verdicts: Sequence[Verdict]) -> Outcome | None:
        """Return good, bad or unknown for one run; None if the run says nothing about this objective.

        One bad verdict makes the run bad. An error is unknown: it has an alert of its own.
        """
        found = {verdict.outcome for verdict in verdicts if self.covers(verdict)}
        if not found:
            return None
        if Outcome.BAD in found:
            return Outcome.BAD
        if Outcome.GOOD in found:
            return Outcome.GOOD
        return Outcome.BAD if self.unknown_is_bad else Outcome.UNKNOWN

    def events(self, verdicts: Sequence[Verdict]) -> tuple[int, int] | None:
        """Return (good, total) of one window's events; None where nothing was counted or judged.

        The first verdict that counts events speaks for the dataset: the others are about parts.
        """
        for verdict in verdicts:
            if self.covers(verdict) and verdict.total is not None and verdict.good is not None:
                return verdict.good, verdict.total
        return None

    def samples(self, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return what one run adds to the counters of this objective, zeros included."""
        outcome = self.outcome(verdicts)
        if outcome is None:
            return ()
        labels = {"slo": self.name}
        counted = [
            Sample("recwatch_slo_checks_total", {**labels, "result": result.value}, int(outcome is result))
            for result in (Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN)
        ]
        if self.kind is Kind.EVENTS:
            good, total = self.events(verdicts) or (0, 0)
            for result, n in (("good", good), ("bad", total - good)):
                counted.append(Sample("recwatch_slo_events_total", {**labels, "result": result}, n))
        return tuple(counted)


@dataclass(frozen=True)
class Default:
    """The objective that a check has unless the configuration says otherwise."""

    kind: Kind
    objective: float
    tiers: str


# By check, and by entity where it has some. Drift, density and popularity never page: they may be
# right about the data and wrong about its meaning.
DEFAULTS: Mapping[str, Default] = {
    "freshness": Default(Kind.SLICES, 0.99, "workbook"),
    "ingestion": Default(Kind.EVENTS, 0.999, "workbook"),
    "contract": Default(Kind.EVENTS, 0.999, "page-slow"),
    "unknown_ids": Default(Kind.EVENTS, 0.99, "page-slow"),
    "duplicates": Default(Kind.EVENTS, 0.995, "tickets"),
    "density": Default(Kind.SLICES, 0.95, "tickets"),
    "feature_drift": Default(Kind.SLICES, 0.95, "tickets"),
    "popularity": Default(Kind.SLICES, 0.95, "tickets"),
}
