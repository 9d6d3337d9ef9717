"""Moments as people write them on a command line, and the rhythm of cron."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from monitor.durations import parse_duration

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

# APScheduler's numbers of weekdays begin with Monday, those of cron with Sunday.
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NUMBERS = re.compile(r"(\*|[0-7])(?:-([0-7]))?(?:/(\d+))?")


def parse_time(text: str) -> datetime:
    """Return the moment that a text spells; without a zone it is UTC.

    Raises:
        ValueError: It spells none.

    Examples:
        >>> parse_time("2026-03-01").isoformat()
        '2026-03-01T00:00:00+00:00'
    """
    found = datetime.fromisoformat(text.strip())
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text.strip()} is outside the years 1 to 9999 of UTC") from None


class Time(click.ParamType[datetime]):
    """A moment on the command line."""

    name = "time"
    ways = "2026-03-01 or 2026-03-01T12:00:00Z"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment, or fail with what to write."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_time(str(value))
        except ValueError:
            self.fail(f"must be a time, got {value}; write {self.ways}", param, ctx)


class Since(Time):
    """A moment on the command line, or how long ago it was: ``6h``."""

    ways = f"{Time.ways}, or 6h for how long ago"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment, or fail with what to write."""
        try:
            return value if isinstance(value, datetime) else datetime.now(UTC) - parse_duration(value)
        except ValueError:
            return super().convert(value, param, ctx)


def cron_trigger(cron: str) -> CronTrigger:
    """Return when something begins again and again, in UTC.

    Raises:
        ValueError: These are no five cron fields.
    """
    from apscheduler.triggers.cron import CronTrigger  # loaded where there is a window by cron

    fields = cron.split()
    if len(fields) == 5:
        fields[4] = ",".join(_named(part) for part in fields[4].split(","))
    return CronTrigger.from_crontab(" ".join(fields), timezone="UTC")


def _named(part: str) -> str:
    """Return a part of the field of weekdays with names in place of numbers, of which 0 and 7 are Sunday.

    Examples:
        >>> _named("0"), _named("5-7"), _named("*/3"), _named("*"), _named("mon-fri")
        ('sun', 'fri,sat,sun', 'sun,wed,sat', '*', 'mon-fri')
    """
    found = _NUMBERS.fullmatch(part)
    if found is None or part == "*":
        return part
    first, last, step = found.groups()
    start = 0 if first == "*" else int(first)
    end = int(last) if last else 6 if first == "*" or step else start
    days = range(start, end + 1, int(step or 1))
    if not days:
        raise ValueError(f"the weekdays {part} run backwards")
    return ",".join(_DAYS[day] for day in days)
