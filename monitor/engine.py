"""Where data lies and how statements run there: one session, bounded rows, bounded time."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from checks.dataset import ColumnType, Kind, dataset_table
from checks.measure import Row, Statement
from monitor.errors import EngineError

# How long an engine may take to end a statement that it was told to end.
CANCELLED_WITHIN_SECONDS = 2.0


@dataclass(frozen=True)
class Location:
    """Where a dataset lies: files of a glob, or a table of the engine's database.

    Args:
        name: Name of the dataset.
        files: Path or glob.
        table: Name of the table or view.
        schema: Its schema, where it is not the default one.
        ids: Columns that hold ids: in files without types of their own they are read as text.
        rows: Rows that a stream has told, in place of files or a table.
    """

    name: str
    files: str | None = None
    table: str | None = None
    schema: str | None = None
    ids: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] | None = None

    @property
    def said(self) -> str:
        """The location as a person would name it."""
        if self.rows is not None:
            return f"rows of {self.name}"
        if self.files:
            return f"files {self.files}"
        return f"table {self.schema + '.' if self.schema else ''}{self.table}"


# Columns of the files of some rows, each with its types in these files; MISSING among them where a file lacks it.
OwnColumns = Mapping[str, frozenset[str]]


def _fetch(connection: sa.Connection, statement: Statement, most: int) -> Sequence[Row]:
    return connection.execute(statement).fetchmany(most)


def _table(location: Location, columns: Mapping[str, ColumnType]) -> sa.FromClause:
    return dataset_table(str(location.table), columns, location.schema)


@dataclass(frozen=True)
class Dialect:
    """What one kind of engine does differently; one instance in each file of ``monitor/engines``.

    Args:
        name: SQLAlchemy's name of the dialect.
        create: Makes the SQLAlchemy engine from a URL and options.
        prepare: Sets up a fresh connection (time zone, limits, functions).
        open: Makes a location selectable on a connection and returns its columns.
        cancel: Stops the statement that runs on a driver connection; called from another thread.
        has_native_time: Whether timestamps are a type of their own.
        has_infinity: Whether a number can be infinite.
        table: Returns what SQL selects from for a location that is open and has these columns.
        fetch: Runs a statement and returns its rows, at most so many.
        columns: Returns the columns of what a statement reads of a dataset, where these may be fewer than all of them.
        sever: Ends a driver connection whose other side does not answer; None where there is no other side.
    """

    name: str
    create: Callable[[str, Mapping[str, Any]], sa.Engine]
    prepare: Callable[[sa.Connection, Mapping[str, Any]], None]
    open: Callable[[sa.Connection, Location], dict[str, ColumnType]]
    cancel: Callable[[Any], None]
    has_native_time: bool = True
    has_infinity: bool = True
    table: Callable[[Location, Mapping[str, ColumnType]], sa.FromClause] = _table
    fetch: Callable[[sa.Connection, Statement, int], Sequence[Row]] = _fetch
    columns: Callable[[sa.Connection, str, Statement], OwnColumns | None] = lambda _connection, _name, _statement: None
    sever: Callable[[Any], None] | None = None


class Session:
    """One connection, for the time of one run."""

    def __init__(self, engine: Engine, connection: sa.Connection) -> None:
        self.engine = engine
        self._connection = connection
        self._watch = _Watch(engine.dialect, engine.timeout_seconds)

    def close(self) -> None:
        """End the watch over what runs."""
        self._watch.close()

    def open(self, location: Location) -> dict[str, ColumnType]:
        """Return the columns of a location, and make it selectable by its dataset's name.

        Raises:
            EngineError: There is no such file or table, or it cannot be read.
        """
        columns: dict[str, ColumnType] = self._guard(
            lambda: self.engine.dialect.open(self._connection, location), location.said
        )
        return columns

    def run(self, statement: Statement, row_limit: int, what: str = "query") -> Sequence[Row]:
        """Return the rows of a statement.

        Args:
            statement: A SELECT whose result is bounded by construction.
            row_limit: The bound; more rows are an error, never cut.
            what: What is asked, for error texts.

        Raises:
            EngineError: The engine failed, took longer than its time limit, or returned too much.
        """
        rows = self._guard(lambda: self.engine.dialect.fetch(self._connection, statement, row_limit + 1), what)
        if len(rows) > row_limit:
            raise EngineError(f"engine {self.engine.name}: {what} returned more than {row_limit:,} rows")
        return [tuple(row) for row in rows]

    def columns(self, dataset: str, statement: Statement) -> OwnColumns | None:
        """Return the columns of what a statement reads of a dataset; None where all that it reads has all columns.

        Raises:
            EngineError: It cannot be read.
        """
        found: OwnColumns | None = self._guard(
            lambda: self.engine.dialect.columns(self._connection, dataset, statement), f"columns of {dataset}"
        )
        return found

    def _guard(self, call: Callable[[], Any], what: str) -> Any:
        """Return what a call returns; cancel it in the engine when it takes too long."""
        if self._connection.invalidated:
            # SQLAlchemy would connect again, without the time zone, the limits and the views of this session.
            raise EngineError(f"engine {self.engine.name}: {what}: the connection was lost", unreachable=True)
        driver = self._connection.connection.dbapi_connection
        began = time.perf_counter()
        with self._watch.over(driver) as running:
            try:
                result = call()
                self._connection.commit()
                return result
            except EngineError:
                raise
            except Exception as error:
                if running.expired.is_set():
                    limit = self.engine.timeout_seconds
                    raise EngineError(f"engine {self.engine.name} timed out after {limit:g} s: {what}") from error
                raise EngineError(f"engine {self.engine.name}: {what}: {first_line(error)}") from error
            finally:
                running.ended.set()
                self.engine.spend(time.perf_counter() - began)
                if self._connection.in_transaction():
                    # Where that fails the connection is lost, which whoever asks next is told.
                    with contextlib.suppress(sa.exc.SQLAlchemyError):
                        self._connection.rollback()


@dataclass(frozen=True, eq=False)
class _Running:
    """What runs on a driver connection, and until when it may."""

    driver: Any
    until: float
    ended: threading.Event = field(default_factory=threading.Event)
    expired: threading.Event = field(default_factory=threading.Event)


class _Watch:
    """Ends what takes too long in a session, by one thread for all of it: one more costs a tenth of a small statement.

    All may take as long, so what begins later ends later, and the thread need not be told that something began.
    """

    def __init__(self, dialect: Dialect, seconds: float) -> None:
        self._dialect, self._seconds = dialect, seconds
        self._running: _Running | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="recwatch-watch", daemon=True).start()

    @contextmanager
    def over(self, driver: Any) -> Iterator[_Running]:
        """Watch over what is done meanwhile."""
        self._running = running = _Running(driver, time.monotonic() + self._seconds)
        try:
            yield running
        finally:
            self._running = None

    def close(self) -> None:
        """End the watch."""
        self._closed.set()

    def _run(self) -> None:
        left = self._seconds
        while not self._closed.wait(left):
            running, left = self._running, self._seconds
            if running is not None and not running.expired.is_set():
                left = running.until - time.monotonic()
                if left <= 0:
                    self._expire(running)
                    left = self._seconds

    def _expire(self, running: _Running) -> None:
        while not running.ended.is_set():
            running.expired.set()
            with contextlib.suppress(Exception):
                self._dialect.cancel(running.driver)
            # Where even that is not answered, the connection goes. Otherwise again: what waited for another session
            # meanwhile, and not for its engine, has not heard it.
            if not running.ended.wait(CANCELLED_WITHIN_SECONDS) and self._dialect.sever is not None:
                self._dialect.sever(running.driver)
                return


class Engine:
    """A place where statements run.

    Args:
        name: Its name in the configuration.
        url: SQLAlchemy URL; never shown with its password.
        dialect: What this kind of engine does differently.
        timeout_seconds: Bound on one statement.
        options: Engine options of the configuration (memory limit, threads).
    """

    def __init__(
        self, name: str, url: str, dialect: Dialect, timeout_seconds: float, options: Mapping[str, Any]
    ) -> None:
        self.name, self.dialect, self.timeout_seconds = name, dialect, timeout_seconds
        # Without its query, which may hold a password or a token too.
        self.where = make_url(url).set(query={}).render_as_string(hide_password=True)
        self._options = {**options, "timeout_seconds": timeout_seconds}
        # Told how many seconds each statement took.
        self.spend: Callable[[float], None] = lambda _seconds: None
        self._engine = dialect.create(url, self._options)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a connection for the time of one run.

        Raises:
            EngineError: The engine cannot be reached.
        """
        try:
            connection = self._engine.connect()
            self.dialect.prepare(connection, self._options)
        except Exception as error:
            text = f"engine {self.name} ({self.where}) cannot be reached: {first_line(error)}"
            raise EngineError(text, unreachable=True) from error
        with connection, contextlib.closing(Session(self, connection)) as session:
            yield session

    @property
    def sqlalchemy_engine(self) -> sa.Engine:
        """The engine of SQLAlchemy, for looking at what a database holds."""
        return self._engine

    def compile(self, statement: Statement) -> str:
        """Return a statement as this engine would get it, with its values written in."""
        text = str(statement.compile(self._engine, compile_kwargs={"literal_binds": True}))
        # Where % marks a parameter, a plain one is written twice for the driver.
        return text.replace("%%", "%") if self._engine.dialect.paramstyle in ("format", "pyformat") else text

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def first_line(error: BaseException) -> str:
    """Return the driver's own words, without the statement, its values, and those of the data."""
    own = getattr(error, "orig", None) or error
    # The driver of MariaDB tells a number, and then what it means.
    is_numbered = [type(part) for part in own.args] == [int, str] and not isinstance(own, OSError)
    text = str(own.args[1] if is_numbered else own).strip()
    return _VALUES.sub(r"\1\2\4***", text.splitlines()[0]) if text else type(error).__name__


# Words before a value of the data that an engine could not convert. The value may hold quotes itself, so what
# is masked reaches to the last one; where its lines are several, to the end of the first.
_VALUES = re.compile(
    r"""\b(string|value|with value|input|literal|field format|syntax for type [\w ]+|out of range|entry)(:?\s+)"""
    r"""('.*'|'.*$|".*"|".*$|-?\d[\d.eE+-]*)|\b(near |out of range in )'.*""",
    re.IGNORECASE,
)


# Types that are made of others, or have the name of another within theirs.
_NESTED = ("STRUCT", "MAP", "LIST", "UNION", "INTERVAL", "POINT", "ARRAY")
_KINDS = (
    (Kind.BOOLEAN, ("BOOL",)),
    (Kind.TIMESTAMP, ("TIMESTAMP", "DATETIME")),
    (Kind.DATE, ("DATE",)),
    (Kind.INTEGER, ("INT", "SERIAL")),
    (Kind.NUMBER, ("DOUBLE", "FLOAT", "REAL", "DECIMAL", "NUMERIC")),
    (Kind.TEXT, ("CHAR", "TEXT", "STRING", "UUID", "ENUM", "CLOB")),
)


def kind_of(declared: str) -> Kind:
    """Return the family of a type by its name in SQL.

    Examples:
        >>> kind_of("BIGINT").value, kind_of("timestamp(3) with time zone").value
        ('integer', 'timestamp')
        >>> kind_of("INTEGER[]").value, kind_of("ENUM('update', 'print')").value
        ('other', 'text')
    """
    # What stands in brackets are lengths, or the values of an ENUM, which may be called anything.
    upper = re.sub(r"\(.*\)", "", declared.upper(), flags=re.DOTALL)
    if upper.startswith(_NESTED) or upper.endswith("]") or "RANGE" in upper:
        return Kind.OTHER
    if upper.startswith("ENUM"):
        return Kind.TEXT
    for kind, words in _KINDS:
        if any(word in upper for word in words):
            return kind
    return Kind.OTHER
