"""Signal: a value that somebody else measures, held against a limit: consumer lag, an error ratio, a latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from sqlalchemy import Double, cast, column, func

from checks.baseline import Baseline
from checks.check import NO_SIBLINGS, Check, Outcome, Sample, Siblings, Verdict
from checks.dataset import Dataset, Role
from checks.measure import Aggregate, Counts, Listing, Measure, Merge, Tally
from checks.rows import ALL_SOURCES, Rows
from checks.settings import CheckSettings, Duration, Setting, seconds


@dataclass(frozen=True, kw_only=True)
class SignalSettings(CheckSettings):
    """Settings of the signal check."""

    enabled: Annotated[bool, Setting("Whether the check runs; by default where a dataset sets a limit.")] = False
    settle: Annotated[
        Duration, Setting("How long after its end a window waits; not at all, since a signal is about the present.", 0)
    ] = seconds(0)
    min_rows: Annotated[int, Setting("Fewer values in the window end in unknown.", 1)] = 1
    max_value: Annotated[float | None, Setting("Greatest value that is still good.")] = None
    min_value: Annotated[float | None, Setting("Least value that is still good.")] = None
    combine: Annotated[
        Literal["worst", "sum"], Setting("What is held against the limits: each source's worst value, or the sum.")
    ] = "worst"


class Signal(Check[SignalSettings]):
    """Holds a value that comes with a dataset against a limit.

    Detects:
        A consumer that falls behind, a topic that falls silent, an error ratio or a latency above its
        limit: whatever a stream, a query of Prometheus or a table has as a time and a value.

    Does not detect:
        That a value is unlike the usual one within its limits.

    When it fires:
        The worst value of the last ``window`` is above ``max_value`` or below ``min_value``; with
        ``combine: sum``, the sum of the window's values is. No value at all is ``unknown``.
    """

    id = "signal"
    settings_type = SignalSettings
    formula = "worst value in the window, or the sum of all; min_value <= value <= max_value"
    limit_setting = "max_value"
    needs = (Role.VALUE,)
    uses = (Role.VALUE,)
    # What was true of the present moment can't be asked for later.
    catches_up = False

    def __init__(self, settings: SignalSettings, siblings: Siblings = NO_SIBLINGS) -> None:
        super().__init__(settings, siblings)
        self._limits = (settings.max_value, settings.min_value)

    def absent(self, dataset: Dataset) -> str | None:
        """Return why the check cannot run: a missing role, or no limit."""
        reason = super().absent(dataset)
        return "needs max_value or min_value" if reason is None and self._limits == (None, None) else reason

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return the number, the extremes and the sum of the values, per source."""
        value: Any = column("signal_value")
        aggregates = {
            "values": Aggregate(func.count(value)),
            "highest": Aggregate(func.max(value), Merge.MAX),
            "lowest": Aggregate(func.min(value), Merge.MIN),
            "sum": Aggregate(func.sum(value)),
        }
        return (Measure(rows, aggregates, {"signal_value": cast(rows.column(Role.VALUE), Double)}),)

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on all values, then on each source."""
        sources = [
            self._verdict(tally, counts, source) for source, counts in tally.by_source.items() if source != ALL_SOURCES
        ]
        return (self._verdict(tally, tally.counts, None), *sources)

    def _verdict(self, tally: Tally, counts: Counts, source: str | None) -> Verdict:
        found = int(counts.get("values") or 0)
        few = self.too_few(tally, "signal", found, source=source)
        if few is not None:
            return few
        value, limit, is_good = self._held(counts)
        word = "sum of the values" if self.settings.combine == "sum" else "worst value"
        bound = "at most" if limit == self.settings.max_value else "at least"
        return self.verdict(
            tally, Outcome.GOOD if is_good else Outcome.BAD, "signal", value=value, limit=limit, source=source,
            reason=f"{word} is {value:,.6g}, {bound} {limit:,.6g} is good", details={"values": found, "bound": bound},
        )  # fmt: skip

    def _held(self, counts: Counts) -> tuple[float, float, bool]:
        """Return the value, the limit that it breaks or that stands first, and whether it is good."""
        is_sum, (high, low) = self.settings.combine == "sum", self._limits
        highest, lowest = (float(counts["sum" if is_sum else name] or 0) for name in ("highest", "lowest"))
        if low is not None and (lowest < low or high is None):
            return lowest, low, lowest >= low
        # One of both is set, or the check would be absent.
        limit = float(high if high is not None else 0)
        return highest, limit, highest <= limit

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return the value of each source, and the one over all."""
        return tuple(
            Sample(
                "recwatch_signal_value", {"dataset": tally.dataset, "source": found.source or ALL_SOURCES}, found.value
            )
            for found in verdicts
            if found.value is not None
        )
