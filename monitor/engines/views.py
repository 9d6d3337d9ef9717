"""The views of files that one DuckDB connection has: each holds the files that the next statement can need."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import duckdb
import sqlalchemy as sa

from checks.measure import Row
from monitor.engine import Location, OwnColumns
from monitor.engines.bounds import Bounds, reads
from monitor.engines.lakes import DeltaIndex
from monitor.engines.parquet import Index, Listed
from monitor.engines.paths import ELSEWHERE, fixed, identifier, is_log, quoted, refuse
from monitor.engines.text_files import TextIndex, whole
from monitor.errors import EngineError

_OF_CONNECTION = "recwatch_views"
# Where a connection notes how many threads it may have, how many it has now, the statement that sets its limit of
# memory, and what gives it a place to spill to.
THREADS, _THREADS_NOW = "recwatch_threads", "recwatch_threads_now"
LIMIT, PLACE = "recwatch_limit", "recwatch_place"
# Noted of a connection that holds what the next run must not find, and how many runs it has served.
_SPENT, _SERVED = "recwatch_spent", "recwatch_served"
# DuckDB keeps a little of every statement for as long as the connection lasts: 0.03 MB a run of a small daemon.
MOST_RUNS = 20
# Over so little, more threads than one take a third more processor time and save next to no time.
_LITTLE_BYTES = 1_000_000
# Where a statement needs no file, a view that holds so few of them stays: to read them costs less than a new one.
_FEW_FILES = 100
_INDEXES: WeakKeyDictionary[sa.Engine, dict[str, Index]] = WeakKeyDictionary()


@dataclass
class View:
    """A dataset of files on one connection.

    Args:
        whole: Makes the table function over all files, whatever there is by now.
        index: What is known of the files.
        listed: The files as they were when the dataset was opened.
        shown: The files that the view holds now: paths, or the table function over all; None before there is one.
        chosen: What was chosen for the bounds that were asked for so far.
    """

    whole: Callable[[], str]
    index: Index
    listed: Listed
    shown: Sequence[str] | str | None = None
    chosen: dict[str, Sequence[str] | str] = field(default_factory=dict)

    @cached_property
    def origin(self) -> str:
        """The table function over all files."""
        return self.whole()

    def held(self, shown: Sequence[str] | str | None) -> int:
        """Return how many files are read where the view holds these."""
        return len(self.listed.files) if isinstance(shown, str) else len(shown or ())

    @property
    def size(self) -> int:
        """Bytes of the files that the view holds now."""
        files = self.listed.files
        return sum(files[path].mark[1] for path in (files if isinstance(self.shown, str) else self.shown or ()))

    def forget(self) -> None:
        """Forget what was found of the files, some of which are gone."""
        self.chosen.clear()
        vars(self).pop("origin", None)
        self.shown = None

    def choose(self, connection: sa.Connection, wanted: Sequence[Bounds]) -> Sequence[str] | str:
        """Return what to show for bounds of which a row must fulfil one."""
        key = str(wanted)
        if key not in self.chosen:
            found = self.index.chosen(connection, self.listed, wanted)
            self.chosen[key] = self.origin if found is None else found
        return self.chosen[key]


def indexed(connection: sa.Connection, location: Location, template: str) -> Listed | None:
    """Note a dataset of files, whose view is made by the statement that needs it.

    Returns:
        Its files; None where these have to be read as one, by a view of the caller's.
    """
    views: dict[str, View] = connection.info.setdefault(_OF_CONNECTION, {})
    views.pop(location.name, None)
    pattern = str(location.files)
    indexes = _INDEXES.setdefault(connection.engine, {})
    # Ids are read as text, so that who names others reads the same files otherwise.
    key = str((pattern, location.ids))
    if key not in indexes:
        indexes.setdefault(key, _index(pattern, template, location.ids))
    index = indexes[key]
    try:
        listed = index.refresh(connection)
    except sa.exc.DBAPIError as error:
        if isinstance(error.orig, duckdb.InterruptException | duckdb.OutOfMemoryException):
            raise
        # A file that is broken, or gone by now: what is wrong is said by the engine, of all of them.
        return None
    if listed is not None:
        views[location.name] = View(lambda: origin(connection, location, template, index), index, listed)
    return listed


def _index(pattern: str, template: str, ids: Sequence[str]) -> Index:
    if not template.startswith("read_parquet"):
        return TextIndex(pattern, template, ids)
    if is_log(pattern):
        if "://" in pattern:
            raise EngineError(f"files {pattern}: Delta tables are read from a disk; {ELSEWHERE}")
        return DeltaIndex(pattern)
    if "://" not in pattern:
        # A folder may be a table before a file in it matches.
        refuse(pattern, [f"{fixed(pattern)}*"])
    return Index(pattern)


def origin(connection: sa.Connection, location: Location, template: str, index: Index | None = None) -> str:
    """Return what to select from for all files at once, whatever there is when they are read."""
    pattern = str(location.files)
    if not is_log(pattern):
        return whole(connection, location, template)
    return (index or DeltaIndex(pattern)).whole(connection)


def fetch(connection: sa.Connection, statement: Any, most: int) -> Sequence[Row]:
    """Return the rows of a statement, at most this many, from the files that it can need."""
    views: dict[str, View] = connection.info.get(_OF_CONNECTION, {})
    try:
        _suit_threads(connection, views, _show(connection, views, statement))
        return connection.execute(statement).fetchmany(most)
    except sa.exc.DBAPIError as error:
        if isinstance(error.orig, duckdb.OutOfMemoryException):
            # One or two threads have a larger table each for every distinct count, however little there is to count.
            if not enlarge(connection):
                raise
            # Where it was not the statement itself that failed, the views may still be those of another one.
            _show(connection, views, statement)
        elif not isinstance(error.orig, duckdb.IOException) or not views:
            raise
        else:
            # A file is gone, as when many are merged into one: once more over whatever there is by now.
            for name, view in views.items():
                view.forget()
                _make(connection, views, name, view.origin)
    return connection.execute(statement).fetchmany(most)


def columns(connection: sa.Connection, name: str, statement: Any) -> OwnColumns | None:
    """Return the columns of the files of a dataset that a statement can need; None where these are not told apart."""
    views: dict[str, View] = connection.info.get(_OF_CONNECTION, {})
    wanted = (reads(statement) or {}).get(name)
    if name not in views or wanted is None:
        return None
    return views[name].index.columns(connection, views[name].listed, wanted)


def _show(connection: sa.Connection, views: dict[str, View], statement: Any) -> Sequence[str]:
    """Make the views that a statement needs, and return the names of what it reads; none where it may read anything."""
    wanted = reads(statement) if views else {}
    for name, view in views.items():
        if wanted is None or name in wanted:
            _make(connection, views, name, view.choose(connection, [{}] if wanted is None else wanted[name]))
    return list(wanted or ())


def _suit_threads(connection: sa.Connection, views: dict[str, View], names: Sequence[str]) -> None:
    read = [views[name].size if name in views else _LITTLE_BYTES + 1 for name in names]
    if read and sum(read) <= _LITTLE_BYTES:
        _use_threads(connection, 1)
    else:
        enlarge(connection)


def enlarge(connection: sa.Connection) -> bool:
    """Let a connection take all that it may, and keep it no longer; return whether that is more than before."""
    spend(connection)
    place = connection.info.pop(PLACE, None)
    if place is not None:
        connection.exec_driver_sql(f"SET temp_directory = {quoted(place(connection))}")
    return _use_threads(connection, connection.info.get(THREADS, 1)) or place is not None


def spend(connection: sa.Connection) -> None:
    """Note that a connection is not to be kept: it holds much, or what :func:`leave` does not take away."""
    connection.info[_SPENT] = True


def forget(engine: sa.Engine) -> None:
    """Forget what is known of files; an event of SQLAlchemy."""
    _INDEXES.pop(engine, None)


def leave(driver: Any, record: sa.pool.ConnectionPoolEntry) -> None:
    """Make a connection that did little like a new one, and close any other; an event of SQLAlchemy."""
    views: dict[str, View] = record.info.pop(_OF_CONNECTION, {})
    served = record.info[_SERVED] = record.info.get(_SERVED, 0) + 1
    if driver is not None and LIMIT in record.info and _SPENT not in record.info and served < MOST_RUNS:
        # To set the limit, though it is the same, makes the allocator of DuckDB give back the 10 MB that it holds.
        last = [*(f"DROP VIEW IF EXISTS {identifier(name)}" for name in views), record.info[LIMIT]]
        with contextlib.suppress(duckdb.Error):
            driver.execute(";".join(last))
            return
    record.invalidate()


def _use_threads(connection: sa.Connection, threads: int) -> bool:
    """Return whether the connection had another number of threads before."""
    if threads == connection.info.get(_THREADS_NOW, connection.info.get(THREADS)):
        return False
    connection.exec_driver_sql(f"SET threads = {threads}")
    connection.info[_THREADS_NOW] = threads
    return True


def _make(connection: sa.Connection, views: dict[str, View], name: str, shown: Sequence[str] | str) -> None:
    view = views[name]
    # Where no file can have a row, such as one that is dated ahead, those that are shown have none either.
    if view.shown == shown or (not shown and view.shown and view.held(view.shown) <= _FEW_FILES):
        return
    origin = shown if isinstance(shown, str) else view.listed.origin(shown)
    connection.exec_driver_sql(f"CREATE OR REPLACE TEMP VIEW {identifier(name)} AS SELECT * FROM {origin}")
    view.shown = shown
