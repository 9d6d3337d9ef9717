"""Verdicts by hours and days: made as they are written, so that a page of 90 days reads a few rows for each check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection, and_, select

from checks.check import Outcome, Verdict
from checks.window import MICROSECOND, Window, micros, moment
from monitor import queries, schema
from monitor.queries import CHECK, has_key, upsert
from monitor.records import Judged, dump

if TYPE_CHECKING:
    from monitor.store import Store

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Pages show hours of the last week, and days of what lies before.
KEEP_HOURS = timedelta(days=9)
OUTCOMES = tuple(outcome.value for outcome in Outcome)
JUDGED = (Outcome.GOOD.value, Outcome.BAD.value)
_NEWEST = ("measure", "end_us", "value", "bound", "low", "high")
_START: Any = sa.bindparam("of_start_us")
_END: Any = sa.bindparam("of_end_us")


def _sums(table: sa.Table, counts: Mapping[str, Any], bounds: tuple[Any, Any], where: Any) -> sa.Select[Any]:
    least, greatest = sa.func.min(bounds[0]).label("least"), sa.func.max(bounds[1]).label("greatest")
    summed = [sa.cast(sa.func.sum(count), sa.Integer).label(name) for name, count in counts.items()]
    return select(table.c.subject, *summed, least, greatest).where(where).group_by(table.c.subject)


def _of_verdicts() -> sa.Select[Any]:
    table = schema.verdicts
    counts = {name: sa.case((table.c.outcome == name, 1), else_=0) for name in OUTCOMES}
    judged = sa.case((table.c.outcome.in_(JUDGED), table.c.value))
    return _sums(
        table, counts, (judged, judged), and_(has_key(table, *CHECK), table.c.end_us > _START, table.c.end_us <= _END)
    )


def _of_hours() -> sa.Select[Any]:
    table = schema.rollups
    hours = and_(table.c.seconds == int(HOUR.total_seconds()), table.c.start_us >= _START, table.c.start_us < _END)
    counts = {name: table.c[name] for name in OUTCOMES}
    return _sums(table, counts, (table.c.least, table.c.greatest), and_(has_key(table, *CHECK), hours))


# Built once: they run with each window that is judged.
_OF_VERDICTS, _OF_HOURS = _of_verdicts(), _of_hours()
_HERE = has_key(schema.rollups, *CHECK, "seconds", "start_us")
_OLD = select(schema.rollups.c.subject, *(schema.rollups.c[name] for name in _NEWEST)).where(_HERE)
_DROP, _WRITE = schema.rollups.delete().where(_HERE), upsert(schema.rollups)


@dataclass(frozen=True)
class Counts:
    """How many verdicts of a while ended how."""

    good: int = 0
    bad: int = 0
    unknown: int = 0
    error: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.good + self.bad + self.unknown + self.error

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.good + other.good, self.bad + other.bad, self.unknown + other.unknown, self.error + other.error
        )


NONE = Counts()


@dataclass(frozen=True)
class Bucket:
    """What one subject of a check was in one hour or day.

    Args:
        span: The hour or day.
        counts: How its windows ended.
        measure: What is measured.
        least: Least value that was judged; None if none was.
        greatest: Greatest of them.
        value: The newest value.
        limit: What that was held against.
        band: What was usual then; None where there is no band.
    """

    span: Window
    counts: Counts
    measure: str
    least: float | None
    greatest: float | None
    value: float | None
    limit: float | None
    band: tuple[float, float] | None


# -- writing ---------------------------------------------------------------------------------


def record(connection: Connection, key: Mapping[str, str], judged: Judged) -> None:
    """Bring the hour and the day of a window up to date, in the transaction that has replaced its verdicts.

    The hour is summed anew from its verdicts, and the day from its hours, so that a window that is
    judged again counts once. An old day, whose hours may be forgotten, is summed from its verdicts.

    Cost:
        Reads the verdicts of one hour of one check, and the hours of one day; of an old day all verdicts.
    """
    # A window belongs to the hour that it ends in, its end excluded.
    last = micros(judged.window.end) - 1
    hour, day = _floor(last, HOUR), _floor(last, DAY)
    found = {dump(verdict.subject): verdict for verdict in judged.verdicts if verdict.is_whole}
    is_old = day <= _floor(micros(judged.finished_at - KEEP_HOURS), DAY)
    for length, start, sums in ((HOUR, hour, _OF_VERDICTS), (DAY, day, _OF_VERDICTS if is_old else _OF_HOURS)):
        place = {**key, "seconds": int(length.total_seconds()), "start_us": start}
        bound = queries.key({**place, "end_us": start + length // MICROSECOND})
        _replace(connection, place, [row._asdict() for row in connection.execute(sums, bound)], found)


def _replace(
    connection: Connection, place: Mapping[str, Any], sums: Sequence[Mapping[str, Any]], found: Mapping[str, Verdict]
) -> None:
    """Replace the bucket of each subject, except those of a single source."""
    bound = queries.key(place)
    old = {row.subject: row for row in connection.execute(_OLD, bound)}
    rows = []
    for summed in sums:
        before, verdict = old.get(summed["subject"]), found.get(summed["subject"])
        if before is None and verdict is None:
            continue
        # Neither an older window that is judged again nor one without a value becomes the newest.
        is_newest = verdict is not None and (
            before is None or (verdict.value is not None and before.end_us <= micros(verdict.window.end))
        )
        if verdict is None or not is_newest:
            newest = {name: getattr(before, name) for name in _NEWEST}
        else:
            newest = {
                "measure": verdict.measure, "end_us": micros(verdict.window.end), "value": verdict.value,
                "bound": verdict.limit, "low": verdict.details.get("low"), "high": verdict.details.get("high"),
            }  # fmt: skip
        rows.append({**place, **summed, **newest})
    if old.keys() - {row["subject"] for row in rows}:
        connection.execute(_DROP, bound)
    if rows:
        connection.execute(_WRITE, rows)


def kept_from(now: datetime, keep: timedelta) -> datetime:
    """Return from when on verdicts and hours are kept: a day is summed anew from those of all of it.

    Where less than a day is kept, no day is whole, and hours go by themselves.
    """
    return floor(now - keep, DAY if keep >= DAY else HOUR)


def prune(store: Store, now: datetime, keep: timedelta) -> None:
    """Forget hours that no page shows, and days from before ``keep``."""
    table = schema.rollups
    with store.writing() as connection:
        for length, before in ((HOUR, kept_from(now, min(keep, KEEP_HOURS))), (DAY, floor(now - keep, DAY))):
            here = and_(table.c.seconds == length.total_seconds(), table.c.start_us < micros(before))
            connection.execute(table.delete().where(table.c.pipeline == store.pipeline, here))


# -- reading ---------------------------------------------------------------------------------


def cells(
    store: Store, span: Window, length: timedelta, step: timedelta, about: tuple[str, str] | None = None
) -> dict[tuple[str, str], dict[int, Counts]]:
    """Return, for each dataset and check, how the verdicts of each step of a span ended, all subjects together.

    Args:
        store: The state.
        span: From when until when.
        length: Of the buckets to add up, an hour or a day.
        step: A multiple of it; steps are numbered from 0.
        about: The only dataset and check; all where it is None.

    Cost:
        One range of the key for each check that has run.
    """
    table, runs = schema.rollups, schema.runs
    same = and_(*(table.c[name] == runs.c[name] for name in CHECK))
    counts = [sa.func.sum(table.c[name]) for name in OUTCOMES]
    number = (table.c.start_us - micros(span.start)) // (step // MICROSECOND)
    where = (table.c.dataset, table.c.check_id, number.label("number"))
    statement = (
        select(*where, *counts)
        .join_from(runs, table, and_(same, *_within(span, length)))
        .where(runs.c.pipeline == store.pipeline)
        .group_by(*where[:2], sa.literal_column("number"))
    )
    if about is not None:
        statement = statement.where(runs.c.dataset == about[0], runs.c.check_id == about[1])
    found: dict[tuple[str, str], dict[int, Counts]] = {}
    with store.reading() as connection:
        for dataset, check, at, *counted in connection.execute(statement):
            found.setdefault((dataset, check), {})[int(at)] = Counts(*map(int, counted))
    return found


def history(
    store: Store, about: tuple[str, str], span: Window, length: timedelta
) -> dict[str, tuple[Bucket, ...]]:  # fmt: skip
    """Return the hours or days of each subject of a check in a span, oldest first.

    Args:
        store: The state.
        about: Dataset and check.
        span: Buckets that begin in it.
        length: An hour or a day.
    """
    table = schema.rollups
    ours = and_(table.c.pipeline == store.pipeline, table.c.dataset == about[0], table.c.check_id == about[1])
    statement = select(table).where(ours, *_within(span, length)).order_by(table.c.start_us)
    found: dict[str, list[Bucket]] = {}
    with store.reading() as connection:
        for row in connection.execute(statement):
            start = moment(row.start_us)
            counts = Counts(row.good, row.bad, row.unknown, row.error)
            band = (row.low, row.high) if row.low is not None and row.high is not None else None
            bucket = Bucket(
                Window(start, start + length), counts, row.measure, row.least, row.greatest, row.value, row.bound, band
            )
            found.setdefault(row.subject, []).append(bucket)
    return {subject: tuple(buckets) for subject, buckets in found.items()}


def _within(span: Window, length: timedelta) -> tuple[Any, ...]:
    of = schema.rollups.c
    return (
        of.seconds == int(length.total_seconds()), of.start_us >= micros(span.start), of.start_us < micros(span.end)
    )  # fmt: skip


def floor(at: datetime, length: timedelta) -> datetime:
    """Return the start of the hour or the day, in UTC, that a moment lies in."""
    return moment(_floor(micros(at), length))


def _floor(at: int, length: timedelta) -> int:
    width = length // MICROSECOND
    return at // width * width
