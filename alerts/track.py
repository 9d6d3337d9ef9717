"""What an objective has seen over time, summed so that any recent window can be asked for at once."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta

from alerts.slo import Kind, Slo
from checks.check import Outcome


@dataclass(frozen=True)
class Seen:
    """What happened within one window.

    Args:
        bad_ratio: Share of events, or of the time that was judged, that was bad; None without any.
        bad_checks: Runs that ended bad.
        events: Events that were counted; for slices, the seconds that were judged.
    """

    bad_ratio: float | None
    bad_checks: int
    events: float


@dataclass(frozen=True)
class _Sums:
    good: float = 0.0
    bad: float = 0.0
    bad_checks: int = 0


class Track:
    """The runs of one objective, oldest first.

    For slices the outcome of a run holds until the next one, as a gauge does between scrapes, but no
    longer than ``slo.hold``; time without an outcome counts neither as good nor as bad.

    Cost:
        Two binary searches for a window, whatever its length; some 100 bytes a run.
    """

    def __init__(self, slo: Slo) -> None:
        self.slo = slo
        self._ats: list[datetime] = []
        self._outcomes: list[Outcome] = []
        # What had been seen when each run finished, that run included for events, not yet for slices.
        self._sums: list[_Sums] = []
        self._start = _Sums()

    def add(self, at: datetime, outcome: Outcome, good: float, bad: float) -> None:
        """Add a run; one that finished before the last is taken to have finished with it.

        Args:
            at: When it finished.
            outcome: Good, bad or unknown.
            good: Good events of its window; unused for slices.
            bad: Bad events of its window; unused for slices.
        """
        at = max(at, self._ats[-1]) if self._ats else at
        sums = self._at(at)
        if self.slo.kind is Kind.EVENTS:
            sums = _Sums(sums.good + good, sums.bad + bad, sums.bad_checks)
        self._sums.append(_Sums(sums.good, sums.bad, sums.bad_checks + (outcome is Outcome.BAD)))
        self._ats.append(at)
        self._outcomes.append(outcome)

    def over(self, now: datetime, length: timedelta) -> Seen:
        """Return what was seen in the window of a length that ends now, its start excluded."""
        end, start = self._at(now), self._at(now - length)
        good, bad = end.good - start.good, end.bad - start.bad
        total = good + bad
        return Seen(bad / total if total > 0 else None, end.bad_checks - start.bad_checks, total)

    def forget(self, before: datetime) -> None:
        """Drop runs that no window reaches any more."""
        kept = max(0, bisect_right(self._ats, before) - 1)
        if kept:
            # No window begins before the first run that is kept, but for the time that passes until the next call.
            self._start = self._sums[kept]
        del self._ats[:kept], self._outcomes[:kept], self._sums[:kept]

    def _at(self, moment: datetime) -> _Sums:
        """Return what had been seen by a moment."""
        index = bisect_right(self._ats, moment) - 1
        if index < 0:
            return self._start
        sums, outcome = self._sums[index], self._outcomes[index]
        if self.slo.kind is Kind.EVENTS or outcome is Outcome.UNKNOWN:
            return sums
        held = min(moment - self._ats[index], self.slo.hold).total_seconds()
        if outcome is Outcome.GOOD:
            return _Sums(sums.good + held, sums.bad, sums.bad_checks)
        return _Sums(sums.good, sums.bad + held, sums.bad_checks)
