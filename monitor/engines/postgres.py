"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from monitor.engine import Dialect
from monitor.engines.tables import open_table


def _create(url: str, options: Mapping[str, Any]) -> sa.Engine:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    # One connection kept, replaced when the server went away in between.
    return sa.create_engine(
        parsed, pool_size=1, max_overflow=2, pool_pre_ping=True, connect_args={"connect_timeout": 10}
    )


def _prepare(connection: sa.Connection, options: Mapping[str, Any]) -> None:
    connection.exec_driver_sql("SET TIME ZONE 'UTC'")
    connection.exec_driver_sql("SET default_transaction_read_only = on")
    connection.commit()


POSTGRES = Dialect(
    name="postgresql",
    create=_create,
    prepare=_prepare,
    open=open_table,
    cancel=lambda driver: driver.cancel(),
)
