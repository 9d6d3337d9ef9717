"""MariaDB and MySQL, through PyMySQL; the SQL for them is in ``monitor/engines/mysql_functions.py``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url

from checks.dataset import ColumnType, Kind, dataset_table
from monitor.engine import Dialect, Location, kind_of
from monitor.engines.generic import SPARE_SECONDS, bound_answers, bounded, patience, shut
from monitor.engines.mysql_functions import Moment, Statements, exact, exact_collation
from monitor.errors import EngineError

# What a statement means must not depend on how the server is set up: quotes and backslashes are as they are by
# default, what is grouped by need not be all that is selected, and the difference of two unsigned numbers has a sign.
SQL_MODE = "NO_UNSIGNED_SUBTRACTION"
# Of longer texts that much is compared where rows are sorted; by default the first 1,024 bytes. MariaDB wants room for
# fifteen rows of the widest key, of which each text takes as much.
SORTED_BYTES, SORT_BUFFER_BYTES = 16_384, 2_097_152
# Types whose name tells another kind, or none.
_KINDS = {
    "set": Kind.TEXT, "year": Kind.INTEGER, "binary": Kind.TEXT, "varbinary": Kind.TEXT, "multipoint": Kind.OTHER,
    "linestring": Kind.OTHER, "multilinestring": Kind.OTHER,
}  # fmt: skip
_COLUMNS = sa.text(
    "SELECT column_name, data_type, column_type FROM information_schema.columns"
    " WHERE table_schema = coalesce(:schema, database()) AND table_name = :name ORDER BY ordinal_position"
)


def _create(url: str, options: Mapping[str, Any]) -> sa.Engine:
    parsed = make_url(url)
    backend, seconds = parsed.get_backend_name(), patience(options)
    # To write takes no time. The handshake of TLS takes as long for a limit, and has no socket that could be severed.
    connecting = {"connect_timeout": seconds, "write_timeout": seconds, "sql_mode": SQL_MODE, "charset": "utf8mb4"}
    try:
        # One connection kept, replaced when the server went away in between.
        engine = sa.create_engine(
            parsed.set(drivername=f"{backend}+pymysql"), pool_size=1, max_overflow=-1, pool_pre_ping=True,
            # A session leaves no transaction, and whether the server still answers is asked when it is needed again.
            pool_reset_on_return=None,
            # To SQLAlchemy tables that are joined by no condition of their own are a mistake here alone.
            connect_args=connecting, enable_from_linting=False,
        )  # fmt: skip
    except ImportError as error:
        raise EngineError(f"{backend}://...: the driver is missing ({error}); pip install 'recwatch[mysql]'") from error
    engine.dialect.statement_compiler = Statements
    engine.dialect.colspecs = {**engine.dialect.colspecs, sa.DateTime: Moment}

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, named: Any) -> Any:
        def again() -> Any:
            driver = dialect.loaded_dbapi.connect(*arguments, **named, defer_connect=True)
            bounded(driver, driver.connect, seconds, _sever)
            return driver

        driver = again()
        # Another connection is what stops a statement of this one.
        driver.again = again
        return driver

    bound_answers(engine, seconds, _sever)
    return engine


def _prepare(connection: sa.Connection, options: Mapping[str, Any]) -> None:
    dialect: Any = connection.dialect
    room = f"sort_buffer_size = CAST(greatest(@@sort_buffer_size, {SORT_BUFFER_BYTES}) AS UNSIGNED)"
    settings = f"time_zone = '+00:00', max_sort_length = {SORTED_BYTES}, {room}"
    if "timeout_seconds" in options:
        seconds = math.ceil(options["timeout_seconds"] + SPARE_SECONDS)
        limit = f"max_statement_time = {seconds}" if dialect.is_mariadb else f"max_execution_time = {1000 * seconds}"
        settings += f", {limit}"

    def settle() -> None:
        # The collation is that of every text that comes from no column.
        connection.exec_driver_sql(f"SET NAMES utf8mb4 COLLATE {exact_collation(dialect)}, {settings}")
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
        connection.commit()

    bounded(connection.connection.dbapi_connection, settle, patience(options), _sever)


def _open(connection: sa.Connection, location: Location) -> dict[str, ColumnType]:
    if location.table is None:
        raise EngineError(f"{location.said}: this engine reads tables; name one with table")
    found = connection.execute(_COLUMNS, {"schema": location.schema, "name": location.table}).all()
    if not found:
        raise EngineError(f"{location.said} does not exist")
    return {name: ColumnType(_kind(kind.lower(), declared), declared) for name, kind, declared in found}


def _kind(name: str, declared: str) -> Kind:
    """Return the family of a type."""
    # The one length that means something: so BOOLEAN is spelt.
    return Kind.BOOLEAN if declared.lower() == "tinyint(1)" else _KINDS.get(name) or kind_of(name)


def _table(location: Location, columns: Mapping[str, ColumnType]) -> sa.FromClause:
    """Return the table with its texts told apart by every character; one of bytes as what they are in hexadecimal.

    The engine takes it for the table itself, whose index it uses.
    """
    table = dataset_table(str(location.table), columns, location.schema)
    read: list[Any] = []
    for name, column in columns.items():
        raw: Any = table.c[name]
        if column.declared.lower().startswith(("binary", "varbinary")):
            raw = sa.func.lower(sa.func.hex(raw))
        read.append(exact(raw).label(name) if column.kind is Kind.TEXT else raw)
    return sa.select(*read).subquery(location.name)


def _cancel(driver: Any) -> None:
    with contextlib.closing(driver.again()) as other:
        # What comes after it in time is to sever the connection itself.
        bounded(other, lambda: other.query(f"KILL QUERY {driver.thread_id()}"), SPARE_SECONDS, _sever)


def _sever(driver: Any) -> None:
    shut(lambda: int(driver._sock.fileno()))


MYSQL = Dialect(
    name="mysql",
    create=_create,
    prepare=_prepare,
    open=_open,
    cancel=_cancel,
    has_infinity=False,
    table=_table,
    sever=_sever,
)
MARIADB = replace(MYSQL, name="mariadb")
