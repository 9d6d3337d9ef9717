"""SQLite: a database file of the team's own, read as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from checks.clipped import clip
from monitor.engine import Dialect
from monitor.engines.generic import open_table


def _create(url: str, options: Mapping[str, Any]) -> sa.Engine:
    parsed = sa.engine.make_url(url)
    if parsed.database and parsed.database != ":memory:" and not parsed.database.startswith("file:"):
        # A file that is not there is an error, and not a new one.
        query = {**parsed.query, "mode": "rw", "uri": "true"}
        parsed = parsed.set(database=f"file:{quote(parsed.database)}", query=query)
    return sa.create_engine(parsed, poolclass=NullPool)


def _prepare(connection: sa.Connection, options: Mapping[str, Any]) -> None:
    driver: Any = connection.connection.dbapi_connection
    # Not every build of SQLite has the mathematical functions.
    for name in ("ln", "sqrt", "ceil", "floor"):
        function = getattr(math, "log" if name == "ln" else name)
        driver.create_function(name, 1, _null_safe(function), deterministic=True)
    driver.create_function("clipped", 1, _null_safe(clip), deterministic=True)
    driver.execute("PRAGMA query_only=ON")


def _null_safe(function: Any) -> Any:
    return lambda value: None if value is None else function(value)


SQLITE = Dialect(
    name="sqlite",
    create=_create,
    prepare=_prepare,
    open=open_table,
    cancel=lambda driver: driver.interrupt(),
    has_native_time=False,
)
