"""Silences and maintenance windows: times in which nobody is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sqlalchemy import and_, select

from checks.window import MICROSECOND, micros, moment
from monitor import schema
from monitor.config_alerting import MaintenanceConfig
from monitor.times import cron_trigger

if TYPE_CHECKING:
    from monitor.store import Store


@dataclass(frozen=True)
class Silence:
    """A time in which nobody is told of some objectives.

    Args:
        id: Its number; 0 before it is saved.
        pattern: Names of objectives, stars allowed.
        start: When it begins.
        end: When it ends.
        reason: Why.
        author: Who set it.
    """

    id: int
    pattern: str
    start: datetime
    end: datetime
    reason: str
    author: str

    def covers(self, name: str, now: datetime) -> bool:
        """Return whether it silences an objective now."""
        return self.start <= now < self.end and fnmatchcase(name, self.pattern)


def add(store: Store, silence: Silence) -> int:
    """Save a silence and return its number."""
    table = schema.silences
    row = {
        "pipeline": store.pipeline, "pattern": silence.pattern, "start_us": micros(silence.start),
        "end_us": micros(silence.end), "reason": silence.reason, "author": silence.author,
    }  # fmt: skip
    with store.writing() as connection:
        key = connection.execute(table.insert().values(row)).inserted_primary_key
    return int(key[0]) if key else 0


def end(store: Store, number: int, now: datetime) -> bool:
    """End a silence now; return whether it was in force or still to come."""
    table = schema.silences
    here = and_(table.c.pipeline == store.pipeline, table.c.id == number, table.c.end_us > micros(now))
    with store.writing() as connection:
        return connection.execute(table.update().where(here).values(end_us=micros(now))).rowcount > 0


def current(store: Store, now: datetime) -> list[Silence]:
    """Return the silences that are in force or still to come, the first to end first."""
    table = schema.silences
    here = and_(table.c.pipeline == store.pipeline, table.c.end_us > micros(now))
    with store.reading() as connection:
        rows = connection.execute(select(table).where(here).order_by(table.c.end_us)).all()
    return [
        Silence(row.id, row.pattern, moment(row.start_us), moment(row.end_us), row.reason, row.author) for row in rows
    ]


def maintenance(windows: Sequence[MaintenanceConfig], name: str, now: datetime) -> str:
    """Return why nobody is told of an objective now, or an empty text."""
    for window in windows:
        if all(not fnmatchcase(name, pattern) for pattern in window.slos or ("*",)):
            continue
        if _holds(window, now):
            return f"maintenance: {window.reason}"
    return ""


def _holds(window: MaintenanceConfig, now: datetime) -> bool:
    if window.start is not None and window.end is not None:
        return window.start <= now < window.end
    if window.cron is None or window.length is None:
        return False
    # The first beginning that still holds, if there is one up to now; one that is as long ago as it lasts does not.
    began = cron_trigger(window.cron).get_next_fire_time(None, now - window.length + MICROSECOND)
    return began is not None and began <= now
