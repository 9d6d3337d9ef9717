"""The SQL that SQLAlchemy makes for Spark: names, types, values, and what tables there are."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, default
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.sql import compiler
from sqlalchemy.types import UserDefinedType

import monitor.engines.spark_functions  # noqa: F401 - registers them

_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"})


def spelt(value: Any) -> str:
    r"""Return a value as Spark's SQL spells it: the driver has no parameters of its own.

    Raises:
        TypeError: There is no way to spell values of this type.

    Examples:
        >>> print(spelt("it's 5\\6"), spelt(0.5), spelt(float("nan")), spelt(None))
        'it\'s 5\\6' 0.5D DOUBLE('NaN') NULL
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(value).upper()
    if isinstance(value, float):
        return f"{value!r}D" if math.isfinite(value) else f"DOUBLE('{'NaN' if math.isnan(value) else value}')"
    if isinstance(value, Decimal):
        return f"{value:f}BD"
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPES)}'"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return f"TIMESTAMP_NTZ '{value.isoformat(' ')}'"
        return f"TIMESTAMP '{value.astimezone(UTC).isoformat(' ')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    raise TypeError(f"a value of type {type(value).__name__} cannot be spelt in SQL; use a text, number, time or None")


class SparkPreparer(compiler.IdentifierPreparer):
    """Quotes every name with backticks, and each part of a schema (catalog.schema) by itself."""

    def __init__(self, dialect: sa.Dialect) -> None:
        super().__init__(dialect, initial_quote="`")

    def _requires_quotes(self, value: str) -> bool:
        return True

    def quote_schema(self, schema: str, force: Any = None) -> str:
        """Return a schema as it is written in SQL."""
        return ".".join(self.quote_identifier(part) for part in schema.split("."))


class SparkCompiler(compiler.SQLCompiler):
    """Writes values as ``spelt`` does, and keeps whole division whole."""

    def render_literal_value(self, value: Any, type_: Any) -> str:
        """Return a value as it is written into SQL."""
        text = spelt(value)
        return text.replace("%", "%%") if self.preparer._double_percents else text

    def visit_floordiv_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Return a division of whole numbers, cut towards zero as on the other engines."""
        return f"{self.process(binary.left, **kw)} DIV {self.process(binary.right, **kw)}"


class SparkTypes(compiler.GenericTypeCompiler):
    """Names types as Spark does: texts have no length, a float of SQLAlchemy's has 64 bits."""

    def visit_VARCHAR(self, type_: Any, **kw: Any) -> str:  # noqa: N802 - SQLAlchemy's name
        """Return the name of the type of texts."""
        return "STRING"

    def visit_TEXT(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Return the name of the type of texts."""
        return "STRING"

    def visit_FLOAT(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Return the name of the type of floating point numbers."""
        return "DOUBLE"

    def visit_DOUBLE_PRECISION(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Return the name of the type of floating point numbers."""
        return "DOUBLE"

    def visit_NUMERIC(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Return the name of a decimal type."""
        return f"DECIMAL({type_.precision or 38}, {18 if type_.scale is None else type_.scale})"

    def visit_DATETIME(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Return the name of the type of timestamps."""
        return "TIMESTAMP" if getattr(type_, "timezone", False) else "TIMESTAMP_NTZ"


class Declared(UserDefinedType[Any]):
    """A type of which only the name is known, in Spark's own words."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **kw: Any) -> str:
        """Return the name."""
        return self.name


class SparkDialect(default.DefaultDialect):
    """SQLAlchemy's side of ``hive://`` URLs; PyHive's own lacks what SQLAlchemy 2 asks for."""

    name = "hive"
    driver = "recwatch"
    preparer: type[compiler.IdentifierPreparer] = SparkPreparer
    statement_compiler = SparkCompiler
    type_compiler_cls = SparkTypes
    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_decimal = True
    supports_sane_rowcount = False
    div_is_floordiv = False
    max_identifier_length = 255
    default_paramstyle = "pyformat"

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Return the driver.

        Raises:
            ImportError: It is not installed.
        """
        from pyhive import hive

        return hive  # type: ignore[no-any-return]

    def create_connect_args(self, url: URL) -> Any:
        """Return the arguments of the driver's connect for a URL."""
        options: dict[str, Any] = {
            "host": url.host or "127.0.0.1",
            "port": url.port or 10000,
            "username": url.username,
            # The driver puts backticks around it; of catalog.database each part has its own.
            "database": self.identifier_preparer.quote_schema(url.database or "default")[1:-1],
            **url.query,
        }
        if url.password is not None:
            options["password"] = str(url.password)
            if "scheme" not in options:
                options.setdefault("auth", "LDAP")
        return [], options

    def connect(self, *arguments: Any, **options: Any) -> Any:
        """Return a new connection of the driver."""
        from monitor.engines.hive import connect

        return connect(**options)

    def initialize(self, connection: sa.Connection) -> None:
        """Ask the server for nothing: there is no version to adapt to."""
        self.default_schema_name = connection.engine.url.database or "default"

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Return whether the session still answers."""
        from TCLIService import ttypes

        request = ttypes.TGetInfoReq(dbapi_connection.sessionHandle, ttypes.TGetInfoType.CLI_SERVER_NAME)
        dbapi_connection.client.GetInfo(request)
        return True

    def do_rollback(self, dbapi_connection: Any) -> None:
        """There are no transactions."""

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Return whether an error means that the connection is of no more use."""
        text = str(e)
        return isinstance(e, OSError | EOFError) or "Invalid SessionHandle" in text or "TTransport" in type(e).__name__

    def get_columns(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[ReflectedColumn]:
        """Return the columns of a table or view.

        Raises:
            NoSuchTableError: There is no such table.
        """
        name = self.identifier_preparer.format_table(sa.table(table_name, schema=schema))
        try:
            rows = connection.exec_driver_sql(f"DESCRIBE TABLE {name}".replace("%", "%%")).fetchall()
        except sa.exc.DBAPIError as error:
            if "NOT_FOUND]" in str(error.orig):
                raise sa.exc.NoSuchTableError(table_name) from error
            raise
        found: list[ReflectedColumn] = []
        for column, declared, *_ in rows:
            # Below a heading, which has no type, the columns of the partitions are named once more.
            if not column or not declared:
                break
            found.append({"name": column, "type": Declared(declared), "nullable": True, "default": None})
        return found

    def has_table(self, connection: sa.Connection, table_name: str, schema: str | None = None, **kw: Any) -> bool:
        """Return whether there is a table or view of this name."""
        try:
            return bool(self.get_columns(connection, table_name, schema))
        except sa.exc.NoSuchTableError:
            return False

    def get_schema_names(self, connection: sa.Connection, **kw: Any) -> list[str]:
        """Return the names of the schemas."""
        return list(dict.fromkeys(row[0] for row in connection.exec_driver_sql("SHOW SCHEMAS")))

    def get_table_names(self, connection: sa.Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """Return the names of the tables of a schema, views among them."""
        return self._shown(connection, "TABLES", schema)

    def get_view_names(self, connection: sa.Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """Return the names of the views of a schema; of a catalog that knows no views, none."""
        try:
            return self._shown(connection, "VIEWS", schema)
        except sa.exc.DBAPIError as error:
            if "MISSING_CATALOG_ABILITY" in str(error.orig):
                return []
            raise

    def _shown(self, connection: sa.Connection, what: str, schema: str | None) -> list[str]:
        place = f" IN {self.identifier_preparer.quote_schema(schema)}" if schema else ""
        rows = connection.exec_driver_sql(f"SHOW {what}{place}".replace("%", "%%"))
        # A temporary view has no schema, and belongs to the session.
        return [row[1] for row in rows if row[0]]
