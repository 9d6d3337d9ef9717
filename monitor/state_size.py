"""How much the state holds, and how it is kept from growing: old windows lose what nothing adds up."""

from __future__ import annotations

import json
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import and_, select
from sqlalchemy.dialects.postgresql import REGCLASS

from checks.window import micros
from monitor import schema
from monitor.records import dump
from monitor.store import Store

# Windows that are rewritten in one transaction; others must get at the state meanwhile.
_AT_ONCE = 500
# As a tally without listings is written.
_BARE = '%"listings":{}%'


def compact(store: Store, before: datetime) -> int:
    """Drop the listings of windows that ended before a moment; return how many windows that were.

    Counts, which add up, and the figures that bands are made of stay. Only the newest window of a check is
    ever looked at again (see ``Check.carry``), so that one is left as it is.

    Cost:
        One pass over the tallies, and a write for each window that has listings.
    """
    table, newer = schema.windows, schema.windows.alias()
    same = and_(*(newer.c[name] == table.c[name] for name in ("pipeline", "dataset", "check_id")))
    is_old = select(newer.c.end_us).where(same, newer.c.end_us > table.c.end_us).exists()
    here = and_(table.c.pipeline == store.pipeline, table.c.end_us < micros(before), table.c.tally.not_like(_BARE))
    key = ("pipeline", "dataset", "check_id", "end_us", "start_us")
    found = select(*(table.c[name] for name in key), table.c.tally).where(here, is_old).limit(_AT_ONCE)
    place = and_(*(table.c[name] == sa.bindparam(f"of_{name}") for name in key))
    change = table.update().where(place).values(tally=sa.bindparam("bare"))
    compacted = 0
    while True:
        with store.writing() as connection:
            rows = [
                {**{f"of_{name}": row[at] for at, name in enumerate(key)}, "bare": _bare(row.tally)}
                for row in connection.execute(found)
            ]
            if rows:
                connection.execute(change, rows)
        compacted += len(rows)
        if len(rows) < _AT_ONCE:
            return compacted


def _bare(tally: str) -> str:
    return dump({**json.loads(tally), "listings": {}})


def size_bytes(store: Store) -> int:
    """Return how much room the state takes where it lies, all pipelines together, in bytes.

    What was deleted on SQLite counts too: that room is used again, and not given back.
    """
    with store.reading() as connection:
        if connection.dialect.name == "sqlite":
            statement = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
            return int(connection.exec_driver_sql(statement).scalar_one())
        names = [table.name for table in schema.metadata.sorted_tables]
        sizes = [sa.func.pg_total_relation_size(sa.cast(name, REGCLASS)) for name in names]
        return sum(int(size) for size in connection.execute(select(*sizes)).one())


def rows(store: Store) -> dict[str, int]:
    """Return how many rows each table of the state has, all pipelines together, the largest first.

    Cost:
        Counts every row.
    """
    tables = schema.metadata.sorted_tables
    counts = [select(sa.func.count()).select_from(table).scalar_subquery() for table in tables]
    with store.reading() as connection:
        counted = connection.execute(select(*counts)).one()
    found = {table.name: int(count) for table, count in zip(tables, counted, strict=True)}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
