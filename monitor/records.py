"""What the state holds, and how tallies and verdicts are written as JSON and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from checks.check import Outcome, Sample, Verdict
from checks.measure import Merge, Tally
from checks.window import Window, moment


@dataclass(frozen=True)
class SloPoint:
    """What one run of a check says about an objective.

    Args:
        slo: Name of the objective.
        at: When the run finished.
        window_end: End of the window that it judged.
        outcome: Good, bad or unknown.
        good: Good events, or good seconds.
        bad: Bad events, or bad seconds.
        is_live: Whether the window is of the present; older ones spend budget, and wake nobody.
        counted: What it adds to the counters of the objective.
    """

    slo: str
    at: datetime
    window_end: datetime
    outcome: Outcome
    good: float = 0.0
    bad: float = 0.0
    is_live: bool = True
    counted: Sequence[Sample] = ()


@dataclass(frozen=True)
class Judged:
    """Everything that one run of a check on one window leaves behind."""

    check: str
    dataset: str
    window: Window
    verdicts: Sequence[Verdict]
    finished_at: datetime
    duration_seconds: float
    tally: Tally | None = None
    increments: Sequence[Sample] = ()
    gauges: Sequence[Sample] = ()
    figures: Mapping[str, float | None] = field(default_factory=dict)
    advances: bool = True
    points: Sequence[SloPoint] = ()

    @property
    def failed(self) -> bool:
        """Whether the check could not run."""
        return any(verdict.outcome is Outcome.ERROR for verdict in self.verdicts)


@dataclass(frozen=True)
class Run:
    """How a check last ran: for health, metrics and the status page. Times are UTC."""

    dataset: str
    check: str
    watermark: datetime | None
    finished_at: datetime
    succeeded_at: datetime | None
    duration_seconds: float
    error: str | None


class Point(NamedTuple):
    """A past verdict as far as a trend shows it: its number, without its words."""

    end: datetime
    outcome: Outcome
    measure: str
    value: float | None
    limit: float | None


class Figure(NamedTuple):
    """A verdict without its words, as Prometheus is told of it; the subject is JSON."""

    dataset: str
    check: str
    subject: str
    outcome: Outcome
    measure: str
    value: float | None
    limit: float | None


@dataclass(frozen=True)
class SavedBaseline:
    """A reference as it was built: over which span, when, and whether it is pinned."""

    dataset: str
    check: str
    window: Window
    built_at: datetime
    pinned: bool
    frozen: Mapping[str, Any]
    reference: Tally


def when(epoch_micros: int | None) -> datetime | None:
    """Return the moment of a column that may be null."""
    return None if epoch_micros is None else moment(epoch_micros)


def dump(value: Any) -> str:
    """Return a value as JSON that is equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def series_name(sample: Sample) -> str:
    """Return the identity of a series: metric, space, labels."""
    return f"{sample.metric} {dump(sample.labels)}"


def dump_tally(tally: Tally) -> str:
    """Return a tally as JSON."""
    return dump(
        {
            "counts": tally.counts,
            "by_source": tally.by_source,
            "listings": {name: [list(row) for row in rows] for name, rows in tally.listings.items()},
            "merges": tally.merges,
        }
    )


def load_tally(dataset: str, row: Any, saved: str) -> Tally:
    """Return a tally that was saved with a row that has a span."""
    found = json.loads(saved)
    return Tally(
        dataset,
        Window(moment(row.start_us), moment(row.end_us)),
        found["counts"],
        found["by_source"],
        {name: [tuple(entry) for entry in rows] for name, rows in found["listings"].items()},
        {name: Merge(merge) for name, merge in found["merges"].items()},
    )


def load_verdict(row: Any) -> Verdict:
    """Return the verdict of a row."""
    subject = json.loads(row.subject)
    return Verdict(
        row.check_id, row.dataset, Window(moment(row.start_us), moment(row.end_us)), Outcome(row.outcome),
        row.measure, row.value, row.bound, row.good, row.total, row.reason, details=json.loads(row.details), **subject,
    )  # fmt: skip
