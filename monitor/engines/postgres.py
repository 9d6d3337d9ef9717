"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from monitor.engine import Dialect
from monitor.engines.generic import SPARE_SECONDS, bound_answers, bounded, open_table, patience, shut


def _create(url: str, options: Mapping[str, Any]) -> sa.Engine:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    seconds = patience(options)
    # One connection kept, replaced when the server went away in between.
    engine = sa.create_engine(
        parsed, pool_size=1, max_overflow=-1, pool_pre_ping=True,
        connect_args={"connect_timeout": max(2, math.ceil(seconds)), "keepalives_idle": 30, "keepalives_interval": 10},
    )  # fmt: skip
    bound_answers(engine, seconds, _sever)
    return engine


def _prepare(connection: sa.Connection, options: Mapping[str, Any]) -> None:
    def settle() -> None:
        connection.exec_driver_sql("SET TIME ZONE 'UTC'")
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        if "timeout_seconds" in options:
            milliseconds = math.ceil(1000 * (options["timeout_seconds"] + SPARE_SECONDS))
            connection.exec_driver_sql(f"SET statement_timeout = {milliseconds}")
        connection.commit()

    bounded(connection.connection.dbapi_connection, settle, patience(options), _sever)


def _cancel(driver: Any) -> None:
    driver.cancel_safe(timeout=SPARE_SECONDS)


def _sever(driver: Any) -> None:
    shut(driver.fileno)


POSTGRES = Dialect(
    name="postgresql",
    create=_create,
    prepare=_prepare,
    open=open_table,
    cancel=_cancel,
    sever=_sever,
)
