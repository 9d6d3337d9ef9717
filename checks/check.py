"""The contract of a check: what it needs, what it measures, and how it judges.

A check is pure. It builds SQL expressions and turns tallies into verdicts; it never connects,
logs, sleeps or reads a clock. The runner does all that, and turns any failure into ``error``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import ColumnElement, literal

from checks.baseline import Baseline
from checks.chance import chance_limit
from checks.dataset import Dataset, Role
from checks.measure import Listing, Measure, Tally
from checks.rows import Rows
from checks.settings import CheckSettings
from checks.suspects import Suspects
from checks.window import Window

# In characters; most reasons have a hundred.
LONGEST_REASON = 1_000


class Outcome(StrEnum):
    """How a check ended."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    ERROR = "error"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check for one subject in one window.

    The subject is the dataset as a whole, or one entity, feature or source of it.

    Args:
        check: Id of the check.
        dataset: Name of the dataset.
        window: What was judged.
        outcome: Good, bad, unknown (could not judge) or error (could not run).
        measure: Name of the value with its unit, such as ``lag_seconds``.
        value: What was found; None where there is nothing to measure.
        limit: The bound that the value was held against.
        good: Good events or cells of the ratio; None where the check counts no events.
        total: All events of the ratio.
        reason: One sentence for a person.
        details: Bounded supporting figures, never row-level data.
    """

    check: str
    dataset: str
    window: Window
    outcome: Outcome
    measure: str
    value: float | None = None
    limit: float | None = None
    good: int | None = None
    total: int | None = None
    reason: str = ""
    entity: str | None = None
    feature: str | None = None
    source: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> dict[str, str]:
        """What the verdict is about: entity, feature and source, each where it applies."""
        named = {"entity": self.entity, "feature": self.feature, "source": self.source}
        return {kind: name for kind, name in named.items() if name is not None}

    @property
    def is_whole(self) -> bool:
        """Whether the verdict is about more than one source; these feed the objectives."""
        return self.source is None


@dataclass(frozen=True)
class Sample:
    """One value for Prometheus: a metric of ``checks/metrics.py`` with its labels.

    For a counter the value is the increment of this window, for a gauge the value now.
    """

    metric: str
    labels: Mapping[str, str]
    value: float


# The settings of all checks on the same dataset, by check id; for checks that share a definition.
Siblings = Mapping[str, Any]
NO_SIBLINGS: Siblings = {}

S = TypeVar("S", bound=CheckSettings)


class Check(ABC, Generic[S]):
    """One kind of defect of a dataset: what to count, and when the count is bad.

    Subclasses set the class attributes and override ``measures`` and ``judge``. The docstring of
    a subclass has the sections *Detects*, *Does not detect* and *When it fires*, which
    ``recwatch explain`` prints.
    """

    id: ClassVar[str]
    settings_type: ClassVar[type[CheckSettings]]
    formula: ClassVar[str]
    limit_setting: ClassVar[str]
    needs: ClassVar[tuple[Role, ...]] = ()
    # Roles that are read where they exist; if the data loses one of them, the check cannot go on.
    uses: ClassVar[tuple[Role, ...]] = ()
    # Whether missed windows are judged later. A check of the present moment has nothing to catch up.
    catches_up: ClassVar[bool] = True
    # Whether the check holds windows against a reference that was read once; and whether that
    # reference may be read anew by itself, from newer data.
    has_reference: ClassVar[bool] = False
    renews_reference: ClassVar[bool] = True
    # Whether it looks at the columns of the window's own rows, which may be fewer than those of all.
    looks_at_columns: ClassVar[bool] = False
    # Names of the counts that late rows raise, that of its own rows first; none where a window is not judged again.
    late_counts: ClassVar[tuple[str, ...]] = ()
    # Names of the figures that make up the history behind a band.
    history: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: S, siblings: Siblings = NO_SIBLINGS) -> None:
        self.settings = settings

    def absent(self, dataset: Dataset) -> str | None:
        """Return why the check cannot run on a dataset (a missing role), or None if it can."""
        if dataset.clock is None:
            return "needs the role event_time or ingested_at"
        missing = [role.value for role in self.needs if role not in dataset.roles]
        return f"needs the role {' and '.join(missing)}" if missing else None

    def clock(self, dataset: Dataset) -> Role | None:
        """Return the role by which rows belong to a window of this check."""
        return dataset.clock

    @abstractmethod
    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return what to count over the rows of one window."""

    @abstractmethod
    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdicts, the dataset as a whole first. Pure, and the same every time."""

    def arrivals(self, rows: Rows) -> Mapping[str, tuple[Rows, ColumnElement[Any]]]:
        """Return for each of ``late_counts`` the rows behind it, and how much each of them counts."""
        return {name: (rows, literal(1)) for name in self.late_counts}

    def learns(self, rows: Rows) -> Sequence[Measure | Listing]:
        """Return what to read of a reference window to freeze bins, a ranking or a contract."""
        return ()

    def freeze(self, tally: Tally, dataset: Dataset) -> Mapping[str, Any]:
        """Return what the reference freezes, as plain values that JSON can hold.

        Raises:
            ValueError: The reference holds fewer rows than ``min_rows``.
        """
        return {}

    def enough(self, found: int) -> None:
        """Raise ValueError when a reference has fewer rows than ``min_rows``."""
        if found < self.settings.min_rows:
            raise ValueError(
                f"the reference has {found:,} rows, {self.settings.min_rows:,} are needed; choose a longer span"
            )

    @property
    def carries(self) -> bool:
        """Whether the check looks at the tally of the window before."""
        return type(self).carry is not Check.carry

    def carry(self, previous: Tally, tally: Tally) -> Tally:
        """Return the tally with what it takes over from the one before; by default nothing."""
        return tally

    def figures(self, tally: Tally) -> Mapping[str, float | None]:
        """Return the figures of ``history``; None where the window is too small to tell."""
        return {}

    def counters(self, tally: Tally) -> tuple[Sample, ...]:
        """Return how much this window adds to each counter, zeros included."""
        return ()

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return the gauges that this window sets."""
        return ()

    def suspects(self, rows: Rows, verdict: Verdict, baseline: Baseline) -> Suspects | None:
        """Return the rows that a verdict is about, or None where no row is to blame (a stalled feed, say)."""
        return None

    def verdict(self, tally: Tally, outcome: Outcome, measure: str, **fields: Any) -> Verdict:
        """Return a verdict of this check about a tally's window; its reason is cut where a value in it is endless."""
        reason = fields.get("reason", "")
        if len(reason) > LONGEST_REASON:
            fields["reason"] = f"{reason[:LONGEST_REASON]}..."
        return Verdict(self.id, tally.dataset, tally.window, outcome, measure, **fields)

    def too_few(self, tally: Tally, measure: str, found: int, **fields: Any) -> Verdict | None:
        """Return the verdict unknown when a window has fewer rows than ``min_rows``, else None."""
        if found >= self.settings.min_rows:
            return None
        rows = "no rows" if found == 0 else f"only {found:,} rows"
        reason = f"{rows} in the window, {self.settings.min_rows:,} are needed to judge"
        return self.verdict(tally, Outcome.UNKNOWN, measure, reason=reason, **fields)


def ratio_verdict(
    check: Check[Any], tally: Tally, measure: str, bad: int, total: int, limit: float, **fields: Any
) -> Verdict:
    """Return good when bad/total is within its limit, bad above it, unknown with too few rows.

    The limit of the verdict is the configured one, or what chance alone reaches at this number
    of events, whichever is larger; ``details`` says which. A limit of 0 makes no allowance.

    Args:
        check: Whose verdict it is.
        tally: What was counted.
        measure: Name of the ratio.
        bad: Bad events, at most ``total``.
        total: All events.
        limit: Greatest true ratio that is still good, from 0 to 1.
        **fields: Subject, reason and details.
    """
    reason, details = fields.pop("reason", ""), dict(fields.pop("details", {}))
    reached = chance_limit(limit, total)
    details["limit_origin"] = f"chance at {total:,} events" if reached > limit else check.limit_setting
    parts = {"good": total - bad, "total": total, "limit": reached, "details": details, **fields}
    few = check.too_few(tally, measure, total, value=bad / total if total else None, **parts)
    if few is not None:
        return few
    outcome = Outcome.BAD if bad / total > reached else Outcome.GOOD
    return check.verdict(tally, outcome, measure, value=bad / total, reason=reason, **parts)


def percent(ratio: float) -> str:
    """Return a ratio as people read it in a sentence.

    Examples:
        >>> percent(0.31), percent(0.00042), percent(0.0), percent(12.5)
        ('31 %', '0.042 %', '0 %', '1,250 %')
    """
    return f"{100 * ratio:.3g} %" if abs(ratio) < 10 else f"{100 * ratio:,.0f} %"
