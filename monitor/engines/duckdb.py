"""DuckDB: the embedded default, over Parquet, CSV and JSON files or over a DuckDB file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from checks.dataset import ColumnType
from monitor.engine import Dialect, Location, kind_of
from monitor.errors import EngineError

# As many as DuckDB's own sniffer looks at.
SNIFFED_ROWS = 20_480
READERS = {
    ".parquet": "read_parquet({files}, union_by_name = true)",
    ".csv": "read_csv({files}, union_by_name = true)",
    ".tsv": "read_csv({files}, union_by_name = true)",
    ".json": "read_json({files}, union_by_name = true)",
    ".jsonl": "read_json({files}, union_by_name = true)",
    ".ndjson": "read_json({files}, union_by_name = true)",
}


def _create(url: str, options: Mapping[str, Any]) -> sa.Engine:
    database = sa.engine.make_url(url).database
    is_file = database not in (None, "", ":memory:")
    # A file is opened for reading, and only while a run lasts: its owner must be able to write.
    arguments = {"read_only": True} if is_file else {}
    return sa.create_engine(url, poolclass=NullPool, connect_args=arguments)


def _prepare(connection: sa.Connection, options: Mapping[str, Any]) -> None:
    settings = {
        "TimeZone": "UTC",
        "preserve_insertion_order": False,
        "memory_limit": options.get("memory_limit", "1GB"),
        "threads": options.get("threads"),
        "temp_directory": options.get("temp_directory"),
    }
    for name, value in settings.items():
        if value is not None:
            connection.exec_driver_sql(f"SET {name} = {_quoted(value)}")


def _quoted(value: object) -> str:
    return str(value) if isinstance(value, bool | int) else "'" + str(value).replace("'", "''") + "'"


def _open(connection: sa.Connection, location: Location) -> dict[str, ColumnType]:
    name = '"' + location.name.replace('"', '""') + '"'
    if location.files is not None:
        # A view of this connection only; the file's columns are read anew by every run.
        origin = _origin(connection, location.files)
    else:
        parts = [part for part in (location.schema, location.table) if part]
        origin = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
        if location.schema is None and location.table == location.name:
            return _described(connection, name)
    connection.exec_driver_sql(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {origin}")
    return _described(connection, name)


def _origin(connection: sa.Connection, files: str) -> str:
    """Return the table function for files; in CSV, columns with leading zeros stay text."""
    origin = reader(files)
    if not origin.startswith("read_csv"):
        return origin
    # The sniffer would read 007 as 7, and two ids would become one.
    raw = origin.replace("union_by_name", "all_varchar = true, union_by_name")
    columns = [row[0] for row in connection.exec_driver_sql(f"DESCRIBE SELECT * FROM {raw}").fetchall()]
    names = ['"' + column.replace('"', '""') + '"' for column in columns]
    tests = ", ".join(f"coalesce(bool_or(regexp_matches({name}, '^0[0-9]+$')), false)" for name in names)
    sample = f"(SELECT * FROM {raw} LIMIT {SNIFFED_ROWS})"
    padded = connection.exec_driver_sql(f"SELECT {tests} FROM {sample}").fetchone() or ()
    types = ", ".join(
        f"{_quoted(column)}: 'VARCHAR'" for column, is_padded in zip(columns, padded, strict=False) if is_padded
    )
    return origin.replace("union_by_name", f"types = {{{types}}}, union_by_name") if types else origin


def _described(connection: sa.Connection, name: str) -> dict[str, ColumnType]:
    rows = connection.exec_driver_sql(f"DESCRIBE {name}").fetchall()
    return {row[0]: ColumnType(kind_of(row[1]), row[1]) for row in rows}


def reader(files: str) -> str:
    """Return the table function that reads a glob of files, by their ending.

    Raises:
        EngineError: The ending says nothing about the format.
    """
    path = files.lower()
    for ending in (".gz", ".zst"):
        path = path.removesuffix(ending)
    for ending, template in READERS.items():
        if path.endswith(ending):
            return template.format(files=_quoted(files))
    known = ", ".join(READERS)
    raise EngineError(f"files {files}: the ending says no format; use one of {known}")


DUCKDB = Dialect(
    name="duckdb",
    create=_create,
    prepare=_prepare,
    open=_open,
    cancel=lambda driver: driver.interrupt(),
)
