"""Durations as people write them in a configuration: ``30s``, ``5m``, ``1h30m``, ``28d``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
# As it is written elsewhere: PT10M, 10 minutes, 1 hour and 30 min.
_SPELT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)[\s,]*(?:and\s+)?", re.IGNORECASE)
_NAMES = {
    "ms": "ms msec msecs milli millis millisecond milliseconds", "s": "s sec secs second seconds",
    "m": "m min mins minute minutes", "h": "h hr hrs hour hours", "d": "d day days", "w": "w week weeks",
}  # fmt: skip
_UNIT_OF = {name: unit for unit, names in _NAMES.items() for name in names.split()}
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
        here = _here(text) if isinstance(text, str) else ""
        raise ValueError(f"must be a duration; {f'write {here}' if here else HINT}")
    total = sum(float(number) * _UNITS[unit] for number, unit in found)
    if total > LONGEST.total_seconds():
        raise ValueError("must be a hundred years at most; write a shorter one")
    return timedelta(seconds=total)


def _here(text: str) -> str:
    """Return how a duration that is written as elsewhere is written here; empty if it is none."""
    text = text.strip().removeprefix("PT")
    parts = _SPELT.findall(text)
    units = [_UNIT_OF.get(name.lower()) for _, name in parts]
    is_whole = bool(parts) and None not in units and not _SPELT.sub("", text)
    return "".join(f"{number}{unit}" for (number, _), unit in zip(parts, units, strict=True)) if is_whole else ""


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
