"""What an objective has seen over time, summed so that any recent window can be asked for at once."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

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


class _Sums(NamedTuple):
    good: float = 0.0
    bad: float = 0.0
    bad_checks: int = 0


class Track:
    """The runs of one objective, oldest first.

    For slices the outcome of a run holds until the next one, as a gauge does between scrapes, but no
    longer than ``slo.hold``; time without an outcome counts neither as good nor as bad.

    Cost:
        Two binary searches for a window, whatever its length; 33 bytes a run.
    """

    def __init__(self, slo: Slo) -> None:
        self.slo = slo
        # Unix times at which runs finished.
        self._ats = array("d")
        self._outcomes = bytearray()
        # What had been seen when each run finished, that run included for events, not yet for slices.
        self._good, self._bad, self._bad_checks = array("d"), array("d"), array("q")
        self._start = _Sums()

    def add(self, at: datetime, outcome: Outcome, good: float, bad: float) -> None:
        """Add a run; one that finished before the last is taken to have finished with it.

        Args:
            at: When it finished.
            outcome: Good, bad or unknown.
            good: Good events of its window; unused for slices.
            bad: Bad events of its window; unused for slices.
        """
        time = max(at.timestamp(), self._ats[-1]) if self._ats else at.timestamp()
        sums = self._at(time)
        is_events = self.slo.kind is Kind.EVENTS
        self._good.append(sums.good + good * is_events)
        self._bad.append(sums.bad + bad * is_events)
        self._bad_checks.append(sums.bad_checks + (outcome is Outcome.BAD))
        self._ats.append(time)
        self._outcomes.append(_CODES.index(outcome))

    def over(self, now: datetime, length: timedelta) -> Seen:
        """Return what was seen in the window of a length that ends now, its start excluded."""
        end, start = self._at(now.timestamp()), self._at((now - length).timestamp())
        good, bad = end.good - start.good, end.bad - start.bad
        total = good + bad
        # Sums of fractions of seconds may leave a crumb.
        return Seen(bad / total if total > _CRUMB else None, end.bad_checks - start.bad_checks, total)

    def last_known(self, now: datetime, within: timedelta) -> float | None:
        """Return the bad ratio of the last run that tells.

        Args:
            now: The moment.
            within: How long ago that run may have finished.

        Returns:
            A share between 0 and 1; None if no run tells.
        """
        index = self._last_slice(now) if self.slo.kind is Kind.SLICES else self._last_counted()
        if index < 0 or now.timestamp() - self._ats[index] >= within.total_seconds():
            return None
        if self.slo.kind is Kind.SLICES:
            return float(_CODES[self._outcomes[index]] is Outcome.BAD)
        before = self._bad[index - 1] if index else self._start.bad
        return (self._bad[index] - before) / (self._events(index + 1) - self._events(index))

    def bad_since(self, alarm: datetime) -> datetime | None:
        """Return when the first of those bad runs finished in whose midst an alarm fired.

        A few good runs between bad ones are no end of them.

        Args:
            alarm: When it fired.

        Returns:
            At the latest the alarm's own time; None if no run before the first bad one is kept.
        """
        first, calm = 0, 0
        for index in range(bisect_right(self._ats, alarm.timestamp()) - 1, -1, -1):
            outcome = _CODES[self._outcomes[index]]
            if outcome is Outcome.BAD:
                first, calm = index, 0
            calm += outcome is Outcome.GOOD
            if calm > _CALM_RUNS:
                break
        return datetime.fromtimestamp(self._ats[first], alarm.tzinfo) if first else None

    def _last_slice(self, now: datetime) -> int:
        """Return the index of the last good or bad run that held for any time; -1 if there is none."""
        index = len(self._ats)
        while index > 0:
            index = max(self._outcomes.rfind(_CODES.index(told), 0, index) for told in (Outcome.GOOD, Outcome.BAD))
            ends = self._ats[index + 1] if index + 1 < len(self._ats) else now.timestamp()
            if index < 0 or ends > self._ats[index]:
                return index
        return -1

    def _last_counted(self) -> int:
        """Return the index of the last run that counted events; -1 if none that is kept did."""
        runs = len(self._ats)
        if self._events(runs) == self._events(0):
            return -1
        return bisect_left(range(runs), self._events(runs), key=lambda at: self._events(at + 1))

    def _events(self, runs: int) -> float:
        """Return how many events the first runs have counted."""
        return self._good[runs - 1] + self._bad[runs - 1] if runs else self._start.good + self._start.bad

    def forget(self, before: datetime) -> None:
        """Drop runs that no window reaches any more."""
        kept = max(0, bisect_right(self._ats, before.timestamp()) - 1)
        if kept < _LEAST_FORGOTTEN:
            return
        # No window begins before the first run that is kept.
        self._start = _Sums(self._good[kept], self._bad[kept], self._bad_checks[kept])
        for column in (self._ats, self._outcomes, self._good, self._bad, self._bad_checks):
            del column[:kept]

    def _at(self, time: float) -> _Sums:
        """Return what had been seen by a Unix time."""
        index = bisect_right(self._ats, time) - 1
        if index < 0:
            return self._start
        good, bad = self._good[index], self._bad[index]
        outcome = _CODES[self._outcomes[index]]
        if self.slo.kind is Kind.SLICES:
            held = min(time - self._ats[index], self.slo.hold.total_seconds())
            good += held * (outcome is Outcome.GOOD)
            bad += held * (outcome is Outcome.BAD)
        return _Sums(good, bad, self._bad_checks[index])


_CODES = (Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN)
_CRUMB = 1e-6
_CALM_RUNS = 5
# Forgetting moves all that is kept, so it is done for many at once.
_LEAST_FORGOTTEN = 500
