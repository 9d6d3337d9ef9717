"""Moments as people write them on a command line."""

from __future__ import annotations

from datetime import UTC, datetime

import click


def parse_time(text: str) -> datetime:
    """Return the moment that a text spells; without a zone it is UTC.

    Raises:
        ValueError: It spells none.

    Examples:
        >>> parse_time("2026-03-01").isoformat()
        '2026-03-01T00:00:00+00:00'
    """
    found = datetime.fromisoformat(text.strip())
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


class Time(click.ParamType[datetime]):
    """A moment on the command line."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment, or fail with what to write."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_time(str(value))
        except ValueError:
            self.fail(f"must be a time, got {value}; write 2026-03-01 or 2026-03-01T12:00:00Z", param, ctx)
