"""What is normal: comparable past windows condensed to a centre, a spread and a limit.

The window under test is never part of its own baseline, and neither are breached, excluded or
unsettled ones; the store sees to that, and hands over only accepted values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from checks.measure import Tally
from checks.window import Window

# Turns a median absolute deviation into the standard deviation of a normal distribution.
MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class Band:
    """The range in which a value is normal, and where the range comes from."""

    centre: float
    low: float
    high: float
    windows: int
    comparable: str

    def __contains__(self, value: float) -> bool:
        """Return whether a value is normal."""
        return self.low <= value <= self.high

    @property
    def origin(self) -> str:
        """The source of the limit in words."""
        return f"median of {self.windows} windows ({self.comparable})"


@dataclass(frozen=True)
class BandSettings:
    """How wide normal is.

    Args:
        min_history: Fewest comparable windows; with fewer there is no band.
        deviations: Robust standard deviations on either side of the median.
        relative_floor: Least half-width, as a share of the median.
        absolute_floor: Least half-width, in the value's own unit.
    """

    min_history: int
    deviations: float
    relative_floor: float
    absolute_floor: float


@dataclass(frozen=True)
class Past:
    """Accepted values of earlier windows, each with the end of its window."""

    ends: Sequence[datetime] = ()
    values: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    """Everything a check may know about the time before its window.

    Args:
        past: Values of accepted earlier windows, oldest first.
        previous: The newest accepted tally before this window, for what carries over.
        frozen: What the reference froze (bins, a ranking, a contract); None before it is built.
        reference: The tally of the reference under those bins.
    """

    past: Past = Past()
    previous: Tally | None = None
    frozen: Mapping[str, Any] | None = None
    reference: Tally | None = None

    def band(self, name: str, window: Window, settings: BandSettings) -> Band | None:
        """Return the normal range of a value for this window, or None without enough history.

        Windows of the same hour of the week are compared; where there are fewer than
        ``min_history`` of them, those of the same hour of the day; else all.

        Cost:
            Arithmetic over the accepted windows in memory.
        """
        pairs = [
            (end, value)
            for end, value in zip(self.past.ends, self.past.values.get(name, ()), strict=False)
            if value is not None and end <= window.start
        ]
        for comparable, key in _COMPARABLE:
            values = [value for end, value in pairs if key(end) == key(window.end)]
            if len(values) >= settings.min_history:
                return _band(values, settings, comparable)
        return None


_COMPARABLE = (
    ("same hour of the week", lambda end: (end.weekday(), end.hour)),
    ("same hour of the day", lambda end: end.hour),
    ("all hours", lambda end: None),
)


def _band(values: Sequence[float], settings: BandSettings, comparable: str) -> Band:
    centre = median(values)
    spread = MAD_TO_DEVIATION * median([abs(value - centre) for value in values])
    half = max(
        settings.deviations * spread,
        settings.relative_floor * abs(centre),
        settings.absolute_floor,
    )
    # What has a band (a number of rows, a density) is never below 0.
    return Band(centre, max(0.0, centre - half), centre + half, len(values), comparable)
