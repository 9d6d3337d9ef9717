"""Rows that streams are read as, and the moments that they are read for."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from checks.window import MICROSECOND, Window, micros
from monitor.errors import EngineError

# A day of minutes: longer spans of a stream are asked for in parts.
MOST_STEPS = 1_500


class Row(NamedTuple):
    """One row: when, who produced it (None if nobody says), and how much."""

    at_us: int
    source: str | None
    value: float


def bounds(name: str, span: Window, step: timedelta) -> list[int]:
    """Return the ends of steps within a span in microseconds, the start of the first one in front.

    Raises:
        EngineError: There are more than ``MOST_STEPS``.
    """
    width = step // MICROSECOND
    first, last = micros(span.start) // width, -(-micros(span.end) // width)
    if last - first > MOST_STEPS:
        raise EngineError(
            f"stream {name}: {last - first:,} steps in {span} are too many to ask for, at most {MOST_STEPS:,};"
            " choose a shorter window"
        )
    return [at * width for at in range(first, last + 1)]
