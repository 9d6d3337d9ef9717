"""Statements that run at each commit, or that a page or a scrape waits for; built once."""

from __future__ import annotations

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
# What is held back of a series is added with the next value: SQLite and PostgreSQL say this in the same words.
COUNT = sa.text(
    "INSERT INTO counters (pipeline, metric, labels, value, held) VALUES (:pipeline, :metric, :labels, 0, :added)"
    " ON CONFLICT (pipeline, metric, labels) DO UPDATE"
    " SET value = counters.value + counters.held + excluded.held, held = 0"
)
