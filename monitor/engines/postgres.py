"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from monitor.engine import Dialect
from monitor.engines.generic import open_table

# How long a server may take to answer what takes it no time: a greeting, a ping, a setting.
ANSWERS_WITHIN_SECONDS = 10.0
# How much longer than we the server itself waits before it stops a statement, where our word does not reach it.
SPARE_SECONDS = 5.0
Found = TypeVar("Found")


def _create(url: str, options: Mapping[str, Any]) -> sa.Engine:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    patience = _patience(options)
    # One connection kept, replaced when the server went away in between.
    engine = sa.create_engine(
        parsed, pool_size=1, max_overflow=-1, pool_pre_ping=True,
        connect_args={"connect_timeout": max(2, math.ceil(patience)), "keepalives_idle": 30, "keepalives_interval": 10},
    )  # fmt: skip
    # A connection may be open and silent: then nothing but us ends the wait for an answer.
    ping, initialize = engine.dialect.do_ping, engine.dialect.initialize
    engine.dialect.do_ping = lambda dbapi_connection: _bounded(  # type: ignore[method-assign]
        dbapi_connection, lambda: ping(dbapi_connection), patience
    )
    engine.dialect.initialize = lambda connection: _bounded(  # type: ignore[method-assign]
        connection.connection.dbapi_connection, lambda: initialize(connection), patience
    )
    return engine


def _patience(options: Mapping[str, Any]) -> float:
    return min(ANSWERS_WITHIN_SECONDS, float(options.get("timeout_seconds", ANSWERS_WITHIN_SECONDS)))


def _prepare(connection: sa.Connection, options: Mapping[str, Any]) -> None:
    def settle() -> None:
        connection.exec_driver_sql("SET TIME ZONE 'UTC'")
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        if "timeout_seconds" in options:
            milliseconds = math.ceil(1000 * (options["timeout_seconds"] + SPARE_SECONDS))
            connection.exec_driver_sql(f"SET statement_timeout = {milliseconds}")
        connection.commit()

    _bounded(connection.connection.dbapi_connection, settle, _patience(options))


def _bounded(driver: Any, call: Callable[[], Found], seconds: float) -> Found:
    """Return what a call returns; end the connection, so that the call fails, when it takes too long."""
    timer = threading.Timer(seconds, _sever, (driver,))
    timer.daemon = True
    timer.start()
    try:
        return call()
    finally:
        timer.cancel()


def _cancel(driver: Any) -> None:
    driver.cancel_safe(timeout=SPARE_SECONDS)


def _sever(driver: Any) -> None:
    """End a connection, whatever the other side does; who waits for it is told that it is lost."""
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(driver.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


POSTGRES = Dialect(
    name="postgresql",
    create=_create,
    prepare=_prepare,
    open=open_table,
    cancel=_cancel,
    sever=_sever,
)
