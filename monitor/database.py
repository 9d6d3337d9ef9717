"""The state's database: its connections, and what becomes of a file that turns out to be corrupt.

A corrupt SQLite file is put aside, never deleted, and a new state is begun: what was counted is lost to the
daemon, and Prometheus sees counters start again from 0, as after any reset.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from monitor import log, schema
from monitor.clock import Clock
from monitor.errors import StateError

HEADER = b"SQLite format 3\0"
# SQLite's words for a file that is damaged, and for one that has lost even its header.
CORRUPT = ("database disk image is malformed", "file is not a database")


class Database:
    """The state's database.

    Args:
        url: SQLAlchemy URL; SQLite and PostgreSQL are supported.
        clock: Tells when a corrupt file was put aside; without one it stays where it is, and is an error.

    Raises:
        StateError: The database cannot be opened, or its schema is of another age.

    Cost:
        With a clock, one reading of the whole file of SQLite.
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._url, self._clock, self._mending = url, clock, threading.Lock()
        self._where = make_url(url).render_as_string(hide_password=True)
        # How often a corrupt state was put aside while it was open.
        self.begun_anew = 0
        self._moment = threading.local()
        if clock is not None:
            put_aside(url, clock, "quick_check")
        self._open()

    def _open(self) -> None:
        self._engine = schema.connect(_at_rest(self._url))
        try:
            # Who only looks needs no right to write. The daemon would do nothing without, and hears of it at once.
            if self._clock is None and self._is_current():
                return
            with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
                schema.create(connection, self._where)
        except sa.exc.SQLAlchemyError as error:
            is_file = self._engine.dialect.name == "sqlite"
            what = "the path, its rights and the disk" if is_file else "the server, its address and the account"
            raise StateError(f"state {self._where}: cannot be opened: {short(error)}; check {what}") from error

    def _is_current(self) -> bool:
        key, value = schema.meta.c
        with self._engine.connect() as connection:
            is_whole = set(schema.metadata.tables).issubset(sa.inspect(connection).get_table_names())
            version = sa.select(value).where(key == "schema_version")
            return is_whole and connection.execute(version).scalar() == str(schema.VERSION)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that writes: all of it is kept, or nothing.

        Raises:
            StateError: The state cannot be written.
        """
        with self._telling("written"), schema.writer(self._url), self._engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that reads.

        Raises:
            StateError: The state cannot be read.
        """
        open_already: Connection | None = getattr(self._moment, "connection", None)
        if open_already is not None:
            yield open_already
            return
        with self._telling("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Let all that this thread reads meanwhile be read in one transaction: cheaper, and on SQLite of one moment.

        Raises:
            StateError: The state cannot be read.
        """
        with self.reading() as connection:
            self._moment.connection = connection
            try:
                yield
            finally:
                self._moment.connection = None

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        engine = self._engine
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            said = short(error)
            if self._clock is not None and said.startswith(CORRUPT):
                self._begin_anew(engine, self._clock)
            raise StateError(f"state {self._where}: cannot be {what}: {said}") from error

    def _begin_anew(self, engine: sa.Engine, clock: Clock) -> None:
        """Put the file aside and open a new one, once however many threads have met the damage."""
        with self._mending:
            if engine is not self._engine:
                return
            engine.dispose()
            if put_aside(self._url, clock, "integrity_check", is_ours=True) is not None:
                self.begun_anew += 1
            self._open()


def _at_rest(url: str) -> str:
    """Return the URL by which a file of SQLite can be read though nothing can be written beside it.

    SQLite would make its log there. Without one nobody writes to the file, and it is read as it is.
    """
    parsed = make_url(url)
    path = Path(parsed.database or "")
    is_file = parsed.get_backend_name() == "sqlite" and path.is_file()
    if not is_file or os.access(path.parent, os.W_OK) or Path(f"{path}-wal").exists():
        return url
    own = parsed.set(database=path.absolute().as_uri(), query={"immutable": "1", "uri": "true"})
    return own.render_as_string(hide_password=False)


def put_aside(url: str, clock: Clock, pragma: str, *, is_ours: bool = False) -> Path | None:
    """Rename the file of a corrupt state to ``NAME.corrupt-TIME``; return its new path, or None if it is whole.

    Args:
        url: Of the state; only SQLite has a file.
        clock: Tells the time in its new name.
        pragma: How to look: ``quick_check`` or ``integrity_check``.
        is_ours: Whether it was a state a moment ago; otherwise a file of another kind is left alone.

    Raises:
        StateError: The file is not a database, or cannot be renamed.
    """
    parsed = make_url(url)
    path = Path(parsed.database or "")
    if parsed.get_backend_name() != "sqlite" or not path.is_file() or path.stat().st_size == 0:
        return None
    problem = _problem(path, pragma)
    if problem is None:
        return None
    with path.open("rb") as file:
        start = file.read(len(HEADER))
    # Zeros are what a damaged disk leaves; anything else may be somebody's data.
    if not is_ours and start != HEADER and start.strip(b"\0"):
        raise StateError(f"state {path}: is not a database of SQLite; set state to a file of its own")
    aside = path.with_name(f"{path.name}.corrupt-{clock.now():%Y%m%dT%H%M%SZ}")
    try:
        # What belongs to it goes along, so that whoever repairs it has all of it.
        for ending in ("-wal", "-shm", ""):
            if Path(f"{path}{ending}").exists():
                Path(f"{path}{ending}").rename(f"{aside}{ending}")
    except OSError as error:
        raise StateError(f"state {path}: is corrupt ({problem}) and cannot be put aside: {error.strerror}") from error
    log.error("state_corrupt", state=path, problem=problem, saved_as=aside, advice="a new state is begun")
    return aside


def _problem(path: Path, pragma: str) -> str | None:
    """Return what SQLite finds wrong with a file; None if it is whole, or busy."""
    try:
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            found = connection.execute(f"PRAGMA {pragma}(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error) if str(error).startswith(CORRUPT) else None
    return None if found is None or found[0] == "ok" else str(found[0]).replace("\n", " ")


def short(error: Exception) -> str:
    """Return the driver's own words without the statement and its parameters."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__
