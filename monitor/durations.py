"""Durations as people write them in a configuration: ``30s``, ``5m``, ``1h30m``, ``28d``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
# For editors; a reference to the environment may stand in its place.
PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d|w) ?)+$|\$\{"
LONGEST = timedelta(days=36_500)
HINT = "write a number with a unit: 30s, 5m, 1h30m, 7d"


def parse_duration(text: object) -> timedelta:
    """Return the duration that a text spells.

    Raises:
        ValueError: It spells none.

    Examples:
        >>> parse_duration("1h30m").total_seconds()
        5400.0
    """
    if isinstance(text, timedelta):
        return text
    found = _PART.findall(text) if isinstance(text, str) else []
    if not found or "".join(number + unit for number, unit in found) != str(text).replace(" ", ""):
        raise ValueError(f"must be a duration; {HINT}")
    total = sum(float(number) * _UNITS[unit] for number, unit in found)
    if total > LONGEST.total_seconds():
        raise ValueError("must be a hundred years at most; write a shorter one")
    return timedelta(seconds=total)


def duration_text(duration: timedelta) -> str:
    """Return a duration the way a configuration spells it.

    Examples:
        >>> duration_text(timedelta(minutes=90))
        '1h30m'
    """
    rest, parts = duration.total_seconds(), []
    for unit in ("d", "h", "m"):
        whole, rest = divmod(rest, _UNITS[unit])
        if whole:
            parts.append(f"{whole:g}{unit}")
    if rest or not parts:
        parts.append(f"{rest:g}s")
    return "".join(parts)
