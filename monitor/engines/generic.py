"""Any other database that SQLAlchemy has a dialect for: what all of them share, and no more.

``recwatch doctor --engine URL`` tells what it lacks; ``monitor/guides/engines.md`` how to add it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.engine import URL, make_url

from checks.dataset import ColumnType
from monitor.engine import Dialect, Location, kind_of
from monitor.errors import EngineError

# Packages name a module here whose import compiles the functions of checks/dialect.py for a dialect.
ENTRY_POINTS = "recwatch.dialects"
# How long a server may take to answer what takes it no time: a greeting, a ping, a setting.
ANSWERS_WITHIN_SECONDS = 10.0
# How much longer than we the server itself waits before it stops a statement, where our word does not reach it.
SPARE_SECONDS = 5.0
Found = TypeVar("Found")
Sever = Callable[[Any], None]


def generic(url: URL) -> Dialect:
    """Return the dialect of a database that recwatch knows nothing particular about.

    Raises:
        ValueError: SQLAlchemy has no dialect of this name, or its driver is not installed.
    """
    try:
        url.get_dialect().import_dbapi()
    except (sa.exc.NoSuchModuleError, ImportError, AttributeError) as error:
        raise ValueError(f"its SQLAlchemy dialect or driver is not installed ({error})") from error
    name = url.get_backend_name()
    for entry in metadata.entry_points(group=ENTRY_POINTS, name=name):
        entry.load()
    return Dialect(
        name=name,
        create=lambda text, options: sa.create_engine(make_url(text), pool_size=1, max_overflow=-1, pool_pre_ping=True),
        prepare=lambda connection, options: None,
        open=open_table,
        cancel=_cancel,
    )


def _cancel(driver: Any) -> None:
    """Stop the statement, where the driver has a way to; else it runs to its end."""
    stop = getattr(driver, "cancel", None) or getattr(driver, "interrupt", None)
    if stop is not None:
        stop()


def open_table(connection: sa.Connection, location: Location) -> dict[str, ColumnType]:
    """Return the columns of a table or view.

    Raises:
        EngineError: There is no such table, or the location is a set of files.
    """
    if location.table is None:
        raise EngineError(f"{location.said}: this engine reads tables; name one with table")
    try:
        columns = sa.inspect(connection).get_columns(location.table, schema=location.schema)
    except sa.exc.NoSuchTableError as error:
        raise EngineError(f"{location.said} does not exist") from error
    found = {}
    for column in columns:
        kind = column["type"]
        # A domain is what it is made of. An enumeration has a name of its own, such as print_kind, which tells nothing.
        kind = kind.data_type if isinstance(kind, DOMAIN) else kind
        declared = kind.compile(connection.dialect) if not isinstance(kind, sa.types.NullType) else "OTHER"
        if isinstance(kind, sa.Enum):
            declared = f"ENUM {kind.name}"
        found[column["name"]] = ColumnType(kind_of(declared), declared)
    return found


def patience(options: Mapping[str, Any]) -> float:
    """Return how many seconds to wait for what takes a server no time."""
    return min(ANSWERS_WITHIN_SECONDS, float(options.get("timeout_seconds", ANSWERS_WITHIN_SECONDS)))


def bounded(driver: Any, call: Callable[[], Found], seconds: float, sever: Sever) -> Found:
    """Return what a call returns; end the connection, so that the call fails, when it takes too long."""
    timer = threading.Timer(seconds, sever, (driver,))
    timer.daemon = True
    timer.start()
    try:
        return call()
    finally:
        timer.cancel()


def bound_answers(engine: sa.Engine, seconds: float, sever: Sever) -> None:
    """Bound what SQLAlchemy itself asks: a connection may be open and silent, then nothing but us ends the wait."""
    ping, initialize, rollback = engine.dialect.do_ping, engine.dialect.initialize, engine.dialect.do_rollback
    engine.dialect.do_ping = lambda dbapi_connection: bounded(  # type: ignore[method-assign]
        dbapi_connection, lambda: ping(dbapi_connection), seconds, sever
    )
    engine.dialect.initialize = lambda connection: bounded(  # type: ignore[method-assign]
        connection.connection.dbapi_connection, lambda: initialize(connection), seconds, sever
    )
    # Asked after every statement that failed.
    engine.dialect.do_rollback = lambda dbapi_connection: bounded(  # type: ignore[method-assign]
        dbapi_connection, lambda: rollback(dbapi_connection), seconds, sever
    )


def shut(descriptor: Callable[[], int]) -> None:
    """End a connection, whatever the other side does; who waits for it is told that it is lost."""
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(descriptor())) as ours:
        ours.shutdown(socket.SHUT_RDWR)
