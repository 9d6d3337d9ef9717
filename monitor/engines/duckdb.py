"""DuckDB: the embedded default, over Parquet, CSV and JSON files or over a DuckDB file."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import duckdb
import sqlalchemy as sa
from sqlalchemy.pool import NullPool, QueuePool

from checks.dataset import ColumnType, dataset_table
from monitor.engine import Dialect, Location
from monitor.engines import views
from monitor.engines.parquet import columns_of
from monitor.engines.paths import LOG, identifier, is_log, quoted
from monitor.errors import EngineError

# Each thread of each scan holds twice the largest object; by default that is 32 MB, and some statements have six scans.
_OBJECTS = "maximum_object_size = 2_097_152"
# Each file of each scan has several buffers, 32 MB each by default: four small compressed files would not fit.
_BUFFERS = "buffer_size = 4_194_304"
READERS = {
    ".parquet": "read_parquet({files}, union_by_name = true)",
    **dict.fromkeys((".csv", ".tsv"), "read_csv({files}, union_by_name = true, " + _BUFFERS + ")"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "read_json({files}, union_by_name = true, " + _OBJECTS + ")"),
}
# With one or two threads DuckDB keeps a grouping in one table, and a join with a million ids that follows it spills:
# twice the time, on two cores too. Other statements would take a tenth to a fifth less with two.
FEWEST_THREADS = 3
# A window of ten million events is judged in 400 MB of the process with it, at a tenth more time than without a limit.
# Each thread has tables of its own that do not spill.
LEAST_MEMORY_MB, MEMORY_MB_PER_THREAD = 170, 25
# The buffers of JSON's scans count too.
JSON_LEAST_MEMORY_MB, JSON_MEMORY_MB_PER_THREAD = 300, 80
_JSON_LIMIT = "recwatch_json_memory_limit"
ABANDONED_SECONDS = 86_400.0
# Each statement stands alone; a transaction around it would cost as much as a small one.
_ALONE: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
# Engines over files, by what their connections may take: those of a process share the one that is kept.
_SHARED: WeakValueDictionary[tuple[Any, ...], sa.Engine] = WeakValueDictionary()
# As many as judge at once by default; each takes 2 MB.
_KEPT = 2


def _create(url: str, options: Mapping[str, Any]) -> sa.Engine:
    if not _is_in_memory(url):
        # A file is opened for reading, and only while a run lasts: its owner must be able to write.
        return sa.create_engine(url, poolclass=NullPool, connect_args={"read_only": True}, **_ALONE)
    key = (url, options.get("memory_limit"), options.get("threads"))
    return _SHARED.get(key) or _SHARED.setdefault(key, _keeping(url))


def _is_in_memory(url: str | sa.URL) -> bool:
    return sa.engine.make_url(url).database in (None, "", ":memory:")


def _keeping(url: str) -> sa.Engine:
    """Return an engine that keeps a connection: to open one and close it takes as long as a third of a small run."""
    engine = sa.create_engine(url, poolclass=QueuePool, pool_size=_KEPT, max_overflow=-1, **_ALONE)
    sa.event.listen(engine, "handle_error", _spoilt)
    sa.event.listen(engine, "checkin", views.leave)
    sa.event.listen(engine, "engine_disposed", views.forget)
    return engine


def _spoilt(context: sa.ExceptionContext) -> None:
    if context.connection is not None:
        views.spend(context.connection)


def _prepare(connection: sa.Connection, options: Mapping[str, Any]) -> None:
    if views.THREADS in connection.info:
        return
    threads, given = options.get("threads") or max(FEWEST_THREADS, _cores()), options.get("memory_limit")
    # The limit of a file is that of all connections to it.
    if given is None and _is_in_memory(connection.engine.url):
        most = max(JSON_LEAST_MEMORY_MB, JSON_MEMORY_MB_PER_THREAD * threads)
        connection.info[_JSON_LIMIT] = f"SET memory_limit = '{most}MB'"
    settings = {
        "TimeZone": "UTC",
        "preserve_insertion_order": False,
        "memory_limit": given or f"{max(LEAST_MEMORY_MB, MEMORY_MB_PER_THREAD * threads)}MB",
        "threads": threads,
        "temp_directory": "",
        # What it holds of files would outlive the run.
        "enable_external_file_cache": False,
    }
    connection.exec_driver_sql(";".join(f"SET {name} = {_quoted(value)}" for name, value in settings.items()))
    connection.info[views.LIMIT] = f"SET memory_limit = {_quoted(settings['memory_limit'])}"
    connection.info[views.THREADS], connection.info[views.PLACE] = threads, _SPILLED.place
    _tidy(_place())


@cache
def _cores() -> int:
    """Return the processors that DuckDB takes by itself, which knows the limits of a container."""
    with duckdb.connect() as connection:
        return int(connection.sql("SELECT current_setting('threads')").fetchall()[0][0])


class _Spill:
    """The folder of a process for what does not fit into memory; it is there while a connection may need it.

    The ids of users are in there, and DuckDB's own files and folders may be read by whoever gets at them.
    """

    def __init__(self) -> None:
        # A connection may be collected wherever this thread makes an object, here too.
        self._lock, self._numbers = threading.RLock(), itertools.count()
        self._folder, self._users = "", 0

    def place(self, connection: sa.Connection) -> str:
        """Return a folder for a connection; DuckDB makes it when it is needed, and removes it at the end.

        One for each: two that spilled to the same files would read each other's rows.
        """
        with self._lock:
            self._users += 1
            # Whoever tidies up may have taken it away.
            if self._users == 1 or not os.path.isdir(self._folder):
                self._folder = _made(_place())
        weakref.finalize(connection.connection.dbapi_connection, self._leave)
        return f"{self._folder}/{next(self._numbers)}"

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                shutil.rmtree(self._folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    # Unless others are in it.
                    os.rmdir(os.path.dirname(self._folder))


_SPILLED = _Spill()


def _place() -> str:
    """Return the place of all processes of this user for what does not fit into memory."""
    here = os.getcwd()
    return f"{here if os.access(here, os.W_OK) else tempfile.gettempdir()}/.recwatch-spill-{os.getuid()}"


def _made(place: str) -> str:
    """Return a new folder in a place for all processes: those that are killed again and again leave one behind."""
    for _attempt in range(3):
        # The place may be gone in between: who leaves it last takes it away.
        with contextlib.suppress(OSError):
            os.makedirs(place, exist_ok=True)
            return tempfile.mkdtemp(dir=place)
    # On a full disk nothing can spill; what fits into memory is judged all the same.
    return f"{place}/nowhere"


@cache
def _tidy(place: str) -> None:
    """Remove what killed processes left, the rows of others among it; no session lives as long."""
    for folder in Path(place).glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(folder)


def _quoted(value: object) -> str:
    return str(value) if isinstance(value, bool | int) else quoted(str(value))


def _open(connection: sa.Connection, location: Location) -> dict[str, ColumnType]:
    try:
        return _opened(connection, location)
    except sa.exc.DBAPIError as error:
        if location.files is None or "No files found" not in str(error.orig):
            raise
        raise EngineError(f"{location.said}: {_lacking(location.files)}") from error


def _lacking(files: str) -> str:
    """Return what is not there of a path that no file matches, and where one would be.

    Examples:
        >>> _lacking("/no-such-folder/events/*.parquet")
        'there is no no-such-folder/events/*.parquet in /'
        >>> _lacking("s3://bucket/*.parquet")
        'no file matches'
    """
    here, left = Path.cwd(), () if "://" in files else Path(files).parts
    while left and os.path.exists(here / left[0]):
        here, left = here / left[0], left[1:]
    return f"there is no {'/'.join(left)} in {here}" if left else "no file matches"


def _opened(connection: sa.Connection, location: Location) -> dict[str, ColumnType]:
    name = identifier(location.name)
    if location.rows is not None:
        views.spend(connection)
        return _hold(connection, name, location.rows)
    if location.files is not None:
        # A view of this connection only; the file's columns are read anew by every run.
        template = reader(location.files)
        if not template.startswith("read_parquet"):
            # To look at files of text takes as much as to read them.
            views.enlarge(connection)
        if template.startswith("read_json") and _JSON_LIMIT in connection.info:
            connection.exec_driver_sql(connection.info[_JSON_LIMIT])
        listed = views.indexed(connection, location, template)
        if listed is not None:
            return dict(listed.columns)
        origin = views.origin(connection, location, template)
    else:
        # In full: names know no case, so a view named items would otherwise stand before the table Items.
        here = connection.exec_driver_sql("SELECT current_database(), current_schema()").fetchone() or ("", "")
        parts = (here[0], location.schema or here[1], str(location.table))
        origin = ".".join(identifier(part) for part in parts)
    views.spend(connection)
    connection.exec_driver_sql(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {origin}")
    return columns_of(connection, name)


def _hold(connection: sa.Connection, name: str, rows: Sequence[Sequence[Any]]) -> dict[str, ColumnType]:
    """Hold the rows of a stream for as long as the connection lasts; times are microseconds since the Unix epoch."""
    connection.exec_driver_sql(f'CREATE OR REPLACE TEMP TABLE {name} ("at" BIGINT, source VARCHAR, value DOUBLE)')
    if rows:
        columns = tuple(list(values) for values in zip(*rows, strict=True))
        connection.exec_driver_sql(f"INSERT INTO {name} SELECT unnest(?), unnest(?), unnest(?)", columns)
    return columns_of(connection, name)


def reader(files: str) -> str:
    """Return the table function that reads files, by their ending; which files takes the place of ``{files}``.

    Raises:
        EngineError: The ending says nothing about the format.
    """
    if is_log(files):
        return READERS[".parquet"]
    path = files.lower()
    for ending in (".gz", ".zst"):
        path = path.removesuffix(ending)
    for ending, template in READERS.items():
        if path.endswith(ending):
            return template
    todo = f"write {files.rstrip('/')}/{LOG}" if os.path.isdir(f"{files}/{LOG}") else f"use one of {', '.join(READERS)}"
    raise EngineError(f"files {files}: the ending says no format; {todo}")


DUCKDB = Dialect(
    name="duckdb",
    create=_create,
    prepare=_prepare,
    open=_open,
    cancel=lambda driver: driver.interrupt(),
    # A view of ours stands for it.
    table=lambda location, columns: dataset_table(location.name, columns),
    fetch=views.fetch,
    columns=views.columns,
)
