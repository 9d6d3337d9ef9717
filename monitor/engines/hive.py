"""Spark through its Thrift server, with PyHive as the driver: what sets the connection and its statements up.

The SQL that SQLAlchemy makes for it is in ``monitor/engines/spark_sql.py``.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.engine import make_url

from checks.dataset import ColumnType
from monitor.engine import Dialect, Location
from monitor.engines.generic import open_table
from monitor.engines.spark_sql import spelt
from monitor.errors import EngineError

CONNECT_SECONDS = 10
# The server is asked again and again whether a statement has ended; each answer takes it no time.
ANSWER_SECONDS = 60
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
# What a statement means must not depend on how the server is set up. Without the second, ${...} within an id would
# be replaced by a setting of the server or a variable of its environment.
SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.legacy.consecutiveStringLiterals.enabled": "false",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "false",
    "spark.sql.caseSensitive": "false",
}
registry.register("hive.recwatch", "monitor.engines.spark_sql", "SparkDialect")


def connect(**options: Any) -> Any:
    """Return a connection of PyHive's whose statements can be cancelled from another thread.

    Args:
        options: As in a ``hive://`` URL: host, port, username, password, database, and PyHive's own (auth, scheme).

    Raises:
        OSError: Nothing listens there.
        ImportError: PyHive or what it needs is not installed.
    """
    from pyhive import hive  # an extra: only who has a hive:// URL needs it

    # PyHive waits for a connection as long as the system does, which can be minutes.
    socket.create_connection((options["host"], options["port"]), CONNECT_SECONDS).close()
    connection = _connection_type(hive)(**options)
    cursor = connection.cursor()
    for name, value in SETTINGS.items():
        cursor.execute(f"SET {name}={value}")
    cursor.close()
    return connection


class _Patience:
    """Limits how long a transport waits, before PyHive opens it: a server may take the connection and never answer."""

    @property
    def _transport(self) -> Any:
        return self._limited

    @_transport.setter
    def _transport(self, transport: Any) -> None:
        inner = (getattr(transport, name, None) for name in ("_trans", "_TBufferedTransport__trans"))
        next(filter(None, inner), transport).setTimeout(1000 * ANSWER_SECONDS)
        self._limited = transport


def _connection_type(hive: Any) -> Any:
    ended = hive.ttypes.TOperationState.FINISHED_STATE
    going = {getattr(hive.ttypes.TOperationState, f"{name}_STATE") for name in ("INITIALIZED", "PENDING", "RUNNING")}

    class Cursor(hive.Cursor):  # type: ignore[misc]
        def execute(self, operation: str, parameters: Mapping[str, Any] | None = None, **_: Any) -> None:
            """Run a statement, and wait for its end: until then it can be cancelled."""
            if parameters is not None:
                operation %= {name: spelt(value) for name, value in parameters.items()}
            self._reset_state()
            self._state = self._STATE_RUNNING
            self._connection.is_cancelled.clear()
            request = hive.ttypes.TExecuteStatementReq(self._connection.sessionHandle, operation, runAsync=True)
            response = self._connection.client.ExecuteStatement(request)
            if response.status.statusCode != hive.ttypes.TStatusCode.SUCCESS_STATUS:
                raise hive.OperationalError(reason(response.status.errorMessage))
            self._operationHandle = response.operationHandle
            pause = SHORTEST_PAUSE
            while (response := self.poll(get_progress_update=False)).operationState in going:
                if self._connection.is_cancelled.wait(pause):
                    self.cancel()
                    raise hive.OperationalError("the statement was cancelled")
                pause = min(2 * pause, LONGEST_PAUSE)
            if response.operationState != ended:
                raise hive.OperationalError(reason(response.errorMessage))

    class Connection(_Patience, hive.Connection):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            self.is_cancelled = threading.Event()
            super().__init__(**options)

        def cursor(self, *arguments: Any, **options: Any) -> Any:
            return Cursor(self, *arguments, **options)

        def rollback(self) -> None:
            """Do nothing: there are no transactions."""

    return Connection


_CLASSES = re.compile(r"(?:Error (?:running query|operating \w+): |[\w.$]+\.[\w$]+: )")


def reason(text: str | None) -> str:
    """Return the first line of the server's words without names of classes and without values.

    Examples:
        >>> reason("Error running query: [X] org.spark.Odd: [X] No table `a` for 'ann'.")
        "[X] No table `a` for '***'."
    """
    lines = (text or "").strip().splitlines() or ["the server ended the statement without a reason"]
    line = re.sub(r"^(\[[\w.]+\] )\1+", r"\1", _CLASSES.sub("", lines[0]))
    # Spark quotes names with backticks: what stands between quotes is a value.
    return re.sub(r"'.*'", "'***'", line)


def _create(url: str, options: Mapping[str, Any]) -> sa.Engine:
    parsed = make_url(url).set(drivername="hive+recwatch")
    # To open a session takes a second or more, so one is kept.
    try:
        return sa.create_engine(parsed, pool_size=1, max_overflow=-1, pool_pre_ping=True)
    except ImportError as error:
        raise EngineError(f"hive://...: the driver is missing ({error}); pip install 'recwatch[spark]'") from error


def _open(connection: sa.Connection, location: Location) -> dict[str, ColumnType]:
    columns = open_table(connection, location)
    # The server remembers which files a table has; what another program wrote there since would not be seen.
    name = connection.dialect.identifier_preparer.format_table(sa.table(str(location.table), schema=location.schema))
    connection.exec_driver_sql(f"REFRESH TABLE {name}".replace("%", "%%"))
    return columns


HIVE = Dialect(
    name="hive",
    create=_create,
    prepare=lambda connection, options: None,
    open=_open,
    cancel=lambda driver: driver.is_cancelled.set(),
)
