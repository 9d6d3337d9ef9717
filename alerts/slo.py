"""Objectives: which verdicts or events count, how many may be bad, and who is told when they burn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from alerts.burn import Tier
from checks.check import Outcome, Sample, Verdict

# A slice holds until the next run; one that is this many intervals late holds no more.
LATE_INTERVALS, LATE_ANYWAY = 2, timedelta(minutes=1)
NO_DATA_INTERVALS, NO_DATA_ANYWAY = 3, timedelta(minutes=15)
# How many times longer the first judgement may take: a band needs eight windows before it.
FIRST_DATA_TIMES = 4


class Kind(StrEnum):
    """What an objective counts."""

    SLICES = "slices"
    EVENTS = "events"


@dataclass(frozen=True)
class Slo:
    """An objective for one check of one dataset, or for one part of what the check says.

    Args:
        name: Unique within the pipeline; a label.
        dataset: Which dataset.
        check: Which check.
        kind: Whether time or events of the check's windows are counted.
        objective: Share that must be good, between 0 and 1, both excluded.
        period: Over which the budget is reckoned.
        interval: How often the check runs.
        tiers: Burn-rate tiers asked for; those that make no sense are left out of ``active``.
        subject: Only verdicts about this entity or feature; empty for those about no part, None for all.
        settle: How long after its end a window of the check is judged.
        min_bad_checks: Fewest bad runs in a tier's long window for it to fire.
        min_events: Fewest events in a tier's long window for it to fire; unused for slices.
        unknown_is_bad: Whether a run that could not judge counts as bad.
        team: Who owns it; a label of its information series.
        channels: Who is told, by names of channels; empty for the policy of the severity.
        runbook_url: Address of a runbook of the team's own; empty for recwatch's.
    """

    name: str
    dataset: str
    check: str
    kind: Kind
    objective: float
    period: timedelta
    interval: timedelta
    tiers: tuple[Tier, ...]
    subject: str | None = None
    settle: timedelta = timedelta(0)
    min_bad_checks: int = 2
    min_events: int = 0
    unknown_is_bad: bool = False
    team: str = ""
    channels: tuple[str, ...] = ()
    runbook_url: str = ""

    @property
    def active(self) -> tuple[Tier, ...]:
        """The tiers that can fire at this objective and are not faster than the check."""
        return tuple(t for t in self.tiers if t.why_not(self.objective, self.period, self.interval) is None)

    @property
    def hold(self) -> timedelta:
        """How long a slice holds if no other follows."""
        return LATE_INTERVALS * self.interval + LATE_ANYWAY

    def data_due(self, was_judged: bool) -> timedelta:
        """Return the longest time without a good or bad run that is normal.

        Args:
            was_judged: Whether a run ever ended good or bad; until then history may have to build up.
        """
        usual = max(NO_DATA_ANYWAY, NO_DATA_INTERVALS * self.interval)
        return usual if was_judged else FIRST_DATA_TIMES * usual

    @property
    def live_for(self) -> timedelta:
        """How old the end of a window may be when it is judged for it to burn the budget now.

        Older windows are caught up or filled in later: they spend budget, but wake nobody.
        """
        return self.settle + max(NO_DATA_ANYWAY, NO_DATA_INTERVALS * self.interval)

    def covers(self, verdict: Verdict) -> bool:
        """Return whether a verdict is about what this objective is about."""
        is_ours = (verdict.dataset, verdict.check) == (self.dataset, self.check) and verdict.is_whole
        return is_ours and (self.subject is None or self.subject in (verdict.subject.values() or ("",)))

    def outcome(self, verdicts: Sequence[Verdict]) -> Outcome | None:
        """Return good, bad or unknown for one run; None if the run says nothing about this objective.

        One bad verdict makes the run bad, and else one error unknown: it has an alert of its own.
        """
        ours = [verdict for verdict in verdicts if self.covers(verdict)]
        # A run that failed as a whole says so without a subject.
        failed = any(verdict.outcome is Outcome.ERROR for verdict in verdicts)
        found = {verdict.outcome for verdict in ours}
        if not found and not failed:
            return None
        if Outcome.BAD in found:
            return Outcome.BAD
        if Outcome.GOOD in found and Outcome.ERROR not in found:
            return Outcome.GOOD
        return Outcome.BAD if self.unknown_is_bad else Outcome.UNKNOWN

    def events(self, verdicts: Sequence[Verdict]) -> tuple[int, int]:
        """Return (good, total) of one window's events; zeros where nothing was counted."""
        for verdict in verdicts:
            if self.covers(verdict) and verdict.total is not None and verdict.good is not None:
                return verdict.good, verdict.total
        return 0, 0

    def counters(self, outcome: Outcome, good: int, total: int) -> tuple[Sample, ...]:
        """Return what one run adds to the counters of this objective, zeros included."""
        labels = {"slo": self.name}
        counted = [
            Sample("recwatch_slo_checks_total", {**labels, "result": result.value}, int(outcome is result))
            for result in RESULTS
        ]
        if self.kind is Kind.EVENTS:
            for result, n in (("good", good), ("bad", total - good)):
                counted.append(Sample("recwatch_slo_events_total", {**labels, "result": result}, n))
        return tuple(counted)


RESULTS = (Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN)


@dataclass(frozen=True)
class Default:
    """The objective that a check has unless the configuration says otherwise.

    Args:
        kind: Slices or events.
        objective: Share that must be good; None to take what the check's own limit allows.
        tiers: Name of a preset.
        subject: As for ``Slo``.
    """

    kind: Kind
    objective: float | None
    tiers: str
    subject: str | None = None


# The subject of a verdict about a dataset as a whole.
WHOLE = ""
# Drift, density, popularity, loops and click-through never page: they may be right about the data and wrong about its
# meaning.
DEFAULTS: Mapping[str, tuple[Default, ...]] = {
    "freshness": (Default(Kind.SLICES, 0.99, "workbook"),),
    "ingestion": (Default(Kind.EVENTS, None, "workbook"),),
    "contract": (
        Default(Kind.EVENTS, None, "page-slow", WHOLE),
        Default(Kind.SLICES, 0.99, "page-slow", "schema"),
    ),
    "unknown_ids": (
        Default(Kind.EVENTS, None, "page-slow", "user"),
        Default(Kind.EVENTS, None, "page-slow", "item"),
    ),
    "duplicates": (
        Default(Kind.EVENTS, None, "tickets", WHOLE),
        Default(Kind.EVENTS, None, "tickets", "semantic"),
    ),
    "density": (Default(Kind.SLICES, 0.95, "tickets"),),
    "feature_drift": (Default(Kind.SLICES, 0.95, "tickets"),),
    "popularity": (Default(Kind.SLICES, 0.95, "tickets"),),
    "feedback_loop": (Default(Kind.SLICES, 0.95, "tickets"),),
    "click_through": (Default(Kind.SLICES, 0.95, "tickets"),),
    "signal": (Default(Kind.SLICES, 0.99, "workbook"),),
}
# Checks whose objectives must not have a tier that pages.
NEVER_PAGE = ("density", "feature_drift", "popularity", "feedback_loop", "click_through")


def default_name(dataset: str, check: str, subject: str | None) -> str:
    """Return the name of a default objective.

    Examples:
        >>> default_name("events", "unknown_ids", "user"), default_name("events", "contract", "")
        ('events-unknown_ids-user', 'events-contract')
    """
    return f"{dataset}-{check}-{subject}" if subject else f"{dataset}-{check}"
