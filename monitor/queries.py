"""Statements that run at each commit, or that a page or a scrape waits for; built once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import and_, select

from monitor import schema


def _latest() -> sa.Select[Any]:
    """Return the statement for the newest verdicts of each check that has run.

    Ends are looked up check by check: grouping would read every verdict that is kept.
    """
    table, runs = schema.verdicts, schema.runs
    of, names = table.alias(), ("pipeline", "dataset", "check_id")
    newest = select(sa.func.max(of.c.end_us)).where(*(of.c[name] == runs.c[name] for name in names))
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


def upsert(table: sa.Table, kept: str = "", **instead: str) -> sa.TextClause:
    """Return the statement that writes a row, over the one with the same key: SQLite and PostgreSQL say it alike.

    Args:
        table: With a primary key.
        kept: A column that stays as it was when the row was there already.
        instead: For some columns, what they become when the row was there already.
    """
    names, key = [column.name for column in table.columns], [column.name for column in table.primary_key]
    values = ", ".join(f":{name}" for name in names)
    changed = [f"{name} = {instead.get(name, f'excluded.{name}')}" for name in names if name not in (*key, kept)]
    return _typed(
        table,
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(changed)}",
        names,
    )


def _typed(table: sa.Table, words: str, names: Sequence[str]) -> sa.TextClause:
    return sa.text(words).bindparams(*(sa.bindparam(name, type_=table.c[name].type) for name in names))


def _of_window(table: sa.Table) -> Any:
    names = ("pipeline", "dataset", "check_id", "start_us", "end_us")
    return and_(*(table.c[name] == sa.bindparam(f"of_{name}") for name in names))


def _of_check(table: sa.Table) -> Any:
    return and_(*(table.c[name] == sa.bindparam(f"of_{name}") for name in ("pipeline", "dataset", "check_id")))


# What is held back of a series is added with the next value.
COUNT = upsert(schema.counters, value="counters.value + counters.held + excluded.held", held="0")
OLD_WINDOW = select(schema.windows.c.increments, schema.windows.c.version).where(_of_window(schema.windows))
WINDOW = upsert(schema.windows)
DROP_VERDICTS = schema.verdicts.delete().where(_of_window(schema.verdicts))
VERDICTS = schema.verdicts.insert()
DROP_GAUGES = schema.gauges.delete().where(_of_check(schema.gauges))
GAUGES = schema.gauges.insert()
# A watermark never goes back, and a run that failed leaves the time of the last one that did not.
RUN = upsert(
    schema.runs,
    watermark_us="CASE WHEN runs.watermark_us >= excluded.watermark_us OR excluded.watermark_us IS NULL"
    " THEN runs.watermark_us ELSE excluded.watermark_us END",
    succeeded_us="coalesce(excluded.succeeded_us, runs.succeeded_us)",
)
WATERMARKS = select(schema.runs.c.check_id, schema.runs.c.watermark_us).where(
    schema.runs.c.pipeline == sa.bindparam("pipeline"), schema.runs.c.dataset == sa.bindparam("dataset")
)
_POINT = [column.name for column in schema.slo_points.columns if column.name != "id"]
# Adds a point, if its window has none.
POINT = _typed(
    schema.slo_points,
    f"INSERT INTO slo_points ({', '.join(_POINT)}) VALUES ({', '.join(f':{name}' for name in _POINT)})"
    " ON CONFLICT (pipeline, slo, end_us) DO NOTHING",
    _POINT,
)
OF_POINT = and_(*(schema.slo_points.c[name] == sa.bindparam(f"of_{name}") for name in ("pipeline", "slo", "end_us")))
OLD_POINT = select(schema.slo_points.c.outcome).where(OF_POINT)
DROP_POINT = schema.slo_points.delete().where(OF_POINT)
LATEST_POINT = upsert(
    schema.slo_latest, kept="since_us", judged_us="coalesce(excluded.judged_us, slo_latest.judged_us)"
)
SPEND = upsert(schema.slo_hours, good="slo_hours.good + excluded.good", bad="slo_hours.bad + excluded.bad")
