"""Statements that run at each commit, or that a page or a scrape waits for; built once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import and_, select

from checks.window import micros
from monitor import schema


def _latest() -> sa.Select[Any]:
    """Return the statement for the newest verdicts of each check that has run.

    Ends are looked up check by check: grouping would read every verdict that is kept. A window that ends after the
    last run was judged by a clock that ran ahead.
    """
    table, runs = schema.verdicts, schema.runs
    of, names = table.alias(), ("pipeline", "dataset", "check_id")
    of_check = and_(*(of.c[name] == runs.c[name] for name in names), of.c.end_us <= runs.c.finished_us)
    newest = select(sa.func.max(of.c.end_us)).where(of_check)
    ends = select(*(runs.c[name] for name in names), newest.scalar_subquery().label("newest_us"))
    # The limit is out of reach. It keeps SQLite from dissolving the subquery and reading all verdicts after all.
    found = ends.where(runs.c.pipeline == sa.bindparam("pipeline")).limit(1_000_000).subquery()
    same = and_(*(table.c[name] == found.c[name] for name in names), table.c.end_us == found.c.newest_us)
    return select(table).join_from(found, table, same).order_by(table.c.dataset, table.c.check_id)


def _series(table: sa.Table) -> sa.Select[Any]:
    """Return the statement for the name of each series, see ``series_name``, and its value."""
    name = table.c.metric + sa.literal(" ") + table.c.labels
    return select(name, table.c.value).where(table.c.pipeline == sa.bindparam("pipeline"))


LATEST = _latest()
LATEST_FIGURES = LATEST.with_only_columns(
    *(schema.verdicts.c[name] for name in ("dataset", "check_id", "subject", "outcome", "measure", "value", "bound")),
    maintain_column_froms=True,
)
SERIES = (_series(schema.counters), _series(schema.gauges))
HISTORY = (
    select(*(schema.verdicts.c[name] for name in ("end_us", "outcome", "measure", "value", "bound")))
    .where(*(schema.verdicts.c[name] == sa.bindparam(name) for name in ("pipeline", "dataset", "check_id", "subject")))
    .order_by(schema.verdicts.c.end_us.desc())
    .limit(sa.bindparam("at_most"))
)


def upsert(table: sa.Table, **instead: str) -> sa.TextClause:
    """Return the statement that writes a row, over the one with the same key: SQLite and PostgreSQL say it alike.

    Args:
        table: With a primary key.
        instead: For some columns, what they become when the row was there already.
    """
    names, keys = [column.name for column in table.columns], [column.name for column in table.primary_key]
    changed = [f"{name} = {instead.get(name, f'excluded.{name}')}" for name in names if name not in keys]
    return _insert(table, names, f"({', '.join(keys)}) DO UPDATE SET {', '.join(changed)}")


def _insert(table: sa.Table, names: Sequence[str], on_conflict: str) -> sa.TextClause:
    values = ", ".join(f":{name}" for name in names)
    words = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) ON CONFLICT {on_conflict}"
    return sa.text(words).bindparams(*(sa.bindparam(name, type_=table.c[name].type) for name in names))


def has_key(table: sa.Table, *names: str) -> sa.ColumnElement[bool]:
    """Return the condition that columns are as ``key`` tells."""
    return and_(*(table.c[name] == sa.bindparam(f"of_{name}") for name in names))


def key(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of columns as parameters of ``has_key``, which are none of those of a row."""
    return {f"of_{name}": value for name, value in values.items()}


CHECK = ("pipeline", "dataset", "check_id")
_WINDOW = (*CHECK, "start_us", "end_us")
_POINT = ("pipeline", "slo", "end_us")
# What is held back of a series is added with the next value, or after a while.
HELD = select(schema.counters.c.metric, schema.counters.c.labels).where(
    schema.counters.c.pipeline == sa.bindparam("pipeline"), schema.counters.c.held > 0
)
COUNT = upsert(schema.counters, value="counters.value + counters.held + excluded.held", held="0")
# Accepted windows of a length that end within some time.
PAST_HOUR = select(schema.windows.c.end_us, schema.windows.c.figures).where(
    has_key(schema.windows, *CHECK),
    schema.windows.c.end_us >= sa.bindparam("start"),
    schema.windows.c.end_us < sa.bindparam("end"),
    schema.windows.c.end_us - schema.windows.c.start_us == sa.bindparam("length"),
    schema.windows.c.accepted,
)
PAST_DAYS, PAST_WEEKS, HOUR_US = 14, 8, 3_600_000_000


def comparable_hours(end: datetime) -> Iterator[tuple[int, int]]:
    """Yield start and end of the hours whose windows compare with one that ends then: of the day, and of the week."""
    hour = end.replace(minute=0, second=0, microsecond=0)
    for days in sorted({*range(1, PAST_DAYS + 1), *range(7, 7 * PAST_WEEKS + 1, 7)}):
        start = micros(hour - timedelta(days=days))
        yield start, start + HOUR_US


_OLD = (schema.windows.c.increments, schema.windows.c.version, schema.windows.c.accepted)
OLD_WINDOW = select(*_OLD).where(has_key(schema.windows, *_WINDOW))
WRITE_WINDOW = upsert(schema.windows)
DROP_VERDICTS = schema.verdicts.delete().where(has_key(schema.verdicts, *_WINDOW))
ADD_VERDICTS = schema.verdicts.insert()
DROP_GAUGES = schema.gauges.delete().where(has_key(schema.gauges, *CHECK))
ADD_GAUGES = schema.gauges.insert()
# A watermark never goes back, and a run that failed leaves the time of the last one that did not.
WRITE_RUN = upsert(
    schema.runs,
    watermark_us="CASE WHEN runs.watermark_us >= excluded.watermark_us OR excluded.watermark_us IS NULL"
    " THEN runs.watermark_us ELSE excluded.watermark_us END",
    succeeded_us="coalesce(excluded.succeeded_us, runs.succeeded_us)",
)
WATERMARKS = select(schema.runs.c.check_id, schema.runs.c.watermark_us).where(
    schema.runs.c.pipeline == sa.bindparam("pipeline"), schema.runs.c.dataset == sa.bindparam("dataset")
)
# Adds a point, if its window has none.
ADD_POINT = _insert(
    schema.slo_points,
    [column.name for column in schema.slo_points.columns if column.name != "id"],
    f"({', '.join(_POINT)}) DO NOTHING",
)
OLD_POINT = select(schema.slo_points.c.outcome).where(has_key(schema.slo_points, *_POINT))
DROP_POINT = schema.slo_points.delete().where(has_key(schema.slo_points, *_POINT))
WRITE_LATEST_POINT = upsert(
    schema.slo_latest,
    judged_us="coalesce(excluded.judged_us, slo_latest.judged_us)",
    since_us="slo_latest.since_us",
)
SPEND = upsert(schema.slo_hours, good="slo_hours.good + excluded.good", bad="slo_hours.bad + excluded.bad")
NEWEST_EVIDENCE = select(sa.func.max(schema.evidence.c.at_us)).where(
    has_key(schema.evidence, *CHECK, "subject", "outcome")
)
