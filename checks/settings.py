"""What can be set about a check, with units, ranges and defaults.

Settings are plain frozen dataclasses; ``monitor.config`` derives the schema of the configuration
file from them, so a setting is declared in one place only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from checks.window import Cadence


@dataclass(frozen=True)
class Setting:
    """What a setting means, and its bounds.

    Args:
        doc: One sentence for the configuration's schema.
        low: Least value allowed, inclusive; None leaves it open.
        high: Greatest value allowed, inclusive.
    """

    doc: str
    low: float | None = None
    high: float | None = None


def seconds(count: float) -> timedelta:
    """Return a duration given in seconds."""
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    """Return a duration given in minutes."""
    return timedelta(minutes=count)


def hours(count: float) -> timedelta:
    """Return a duration given in hours."""
    return timedelta(hours=count)


Duration = timedelta
Ratio = Annotated[float, Setting("a ratio from 0 to 1", 0, 1)]


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """What every check has."""

    enabled: Annotated[bool, Setting("Whether the check runs.")] = True
    every: Annotated[Duration, Setting("How often the check runs.", 1)] = minutes(1)
    window: Annotated[Duration, Setting("How much time one run covers.", 1)] = minutes(1)
    settle: Annotated[Duration, Setting("How long after its end a window waits for rows still on their way.", 0)] = (
        seconds(30)
    )
    min_rows: Annotated[int, Setting("Fewer rows in the window end in unknown.", 1)] = 100

    @property
    def cadence(self) -> Cadence:
        """When windows of this check are due."""
        return Cadence(self.every, self.window, self.settle)
