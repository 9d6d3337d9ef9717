"""Looks at files or a database: which datasets there are, and a few figures of their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from glob import escape
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Text, cast, distinct, func, null, select

from checks.dataset import Dataset, Kind, Role, TimeUnit
from checks.dialect import clipped, count_if
from checks.duplicates import Duplicates, DuplicatesSettings, distinct_keys
from checks.rows import Rows, spelt
from checks.window import EPOCH, Window
from monitor.clicks import Clicks, clicks, says_clicked
from monitor.columns import TEXT_TIME, TIME_RANGES, Seen
from monitor.config import EMBEDDED
from monitor.engine import Engine, Location, Session
from monitor.engines import connect
from monitor.errors import ConfigError, EngineError
from monitor.guess import MOST_VALUES, Found, guess
from monitor.linking import link
from monitor.rhythm import DAY, Rhythm, rhythm
from monitor.targets import database_url, files, tables

SAMPLE_ROWS = 50_000
DATABASE = "database"
# Bounds on one statement. In a cluster it may have to wait for its turn.
TIMEOUT, SPARK_TIMEOUT = timedelta(minutes=1), timedelta(minutes=5)
# Databases bound how many columns a statement may return.
_COLUMNS_AT_ONCE = 100
# Of 1990 to 2099, in ISO 8601; looser than the engines' own parsers, and the same in all of them.
_ISO_SHAPES = ("19__-__-__%", "20__-__-__%")
# Times of the day that midnight has elsewhere, in summer and in winter.
MOST_MIDNIGHTS = 2
# Called with the name of each dataset before it is read, its place in the row, and their number.
Looked = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Survey:
    """What was found at a target.

    Args:
        url: URL of the database, or None for files.
        datasets: What was looked at, with everything guessed.
        notes: What could not be looked at, and why.
    """

    url: str | None
    datasets: Sequence[Found]
    notes: Sequence[str]


def survey(target: str, looked: Looked) -> Survey:
    """Return what lies at a target, with everything guessed.

    Args:
        target: A file, a folder, a glob, a database file or a SQLAlchemy URL.
        looked: Called before each dataset is read; for progress.

    Raises:
        ConfigError: It is a URL that no engine knows.
        EngineError: There is nothing to read, or the database cannot be reached.

    Cost:
        A few aggregates over the first rows of each dataset, and joins of these samples with the
        tables of ids that they may point to.
    """
    url = database_url(target)
    engine = _engine(url)
    with ExitStack() as stack:
        stack.callback(engine.close)
        session = stack.enter_context(engine.session())
        locations, notes = tables(engine) if url else files(target, lambda path: _columns_of(session, path))
        found: list[Found] = []
        for at, location in enumerate(locations, start=1):
            looked(location.name, at, len(locations))
            try:
                found.append(_look(session, location))
            except EngineError as error:
                notes.append(str(error))
        if not found:
            raise EngineError(notes[0])
        for dataset in found:
            guess(dataset)
            if dataset.kind == "events":
                looked(f"how often {dataset.name} come", len(found), len(found))
                dataset.rhythm = _rhythm(session, dataset)
                dataset.clicks = _clicks(session, dataset)
                dataset.alike_ratio = _alike_ratio(session, dataset)
        looked("which ids are in which tables", len(found), len(found))
        link({dataset.name: sample(session, dataset) for dataset in found}, session, found)
    return Survey(url, found, notes)


def is_spark(url: str) -> bool:
    """Return whether a URL is that of a Thrift server."""
    return url.startswith("hive")


def _engine(url: str | None) -> Engine:
    timeout = SPARK_TIMEOUT if url and is_spark(url) else TIMEOUT
    try:
        return connect(DATABASE if url else EMBEDDED, url or "duckdb:///:memory:", timeout.total_seconds())
    except (ImportError, sa.exc.SQLAlchemyError) as error:
        # The driver that the URL names is not there; the text of the error may hold the URL.
        shown = f"{str(url).partition('://')[0]}://..."
        raise ConfigError([f"{shown}: no such driver is installed; leave it out"]) from error


def _columns_of(session: Session, path: Path) -> frozenset[str]:
    try:
        return frozenset(session.open(Location("one", files=escape(str(path)))))
    except EngineError:
        # It can't be like the others; what is wrong with it is said when it is looked at.
        return frozenset({str(path)})


def _look(session: Session, location: Location) -> Found:
    columns = session.open(location)
    table: Any = session.engine.dialect.table(location, columns)
    rows, seen = 0, []
    for names in _chunks(list(columns)):
        part = select(*(table.c[name] for name in names)).limit(SAMPLE_ROWS).subquery("sample")
        figures: list[Any] = [func.count()]
        for name in names:
            figures += _figures(part.c[name], columns[name].kind)
        row = session.run(select(*figures).select_from(part), 1, f"columns of {location.said}")[0]
        rows = int(row[0])
        width = len(_figures(table.c[names[0]], Kind.OTHER))
        for at, name in enumerate(names):
            filled, different, *times = (int(value or 0) for value in row[1 + width * at : 1 + width * (at + 1)])
            units = dict(zip((*TIME_RANGES, TEXT_TIME), times, strict=True))
            seen.append(Seen(name, columns[name], filled, different, units))
    return Found(location, rows, seen)


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), _COLUMNS_AT_ONCE):
        yield names[at : at + _COLUMNS_AT_ONCE]


def _figures(column: Any, kind: Kind) -> list[Any]:
    """Return values, different values, and how many can be a time by unit."""
    counted: list[Any] = [func.count(column), func.count(distinct(column)) if kind is not Kind.OTHER else null()]
    for low, high in TIME_RANGES.values():
        counted.append(count_if(column.between(low, high)) if kind.is_numeric else null())
    is_iso = sa.or_(*(cast(column, Text).like(shape) for shape in _ISO_SHAPES))
    return [*counted, count_if(is_iso) if kind is Kind.TEXT else null()]


def _rhythm(session: Session, found: Found) -> Rhythm | None:
    try:
        return rhythm(session, described(session, found, most_rows=None))
    except EngineError:
        # Times that cannot be read are told of by validate and by the checks; the defaults stay.
        return None


def _clicks(session: Session, found: Found) -> Clicks | None:
    made = found.roles.get(Role.EVENT_TYPE)
    if made is None:
        return None
    events = sample(session, found)
    value = spelt(events, made.column.name).label("value")
    counted = select(value, func.count().label("n")).where(value.is_not(None)).group_by(value).subquery().c
    statement: Any = select(clipped(counted.value), counted.n).order_by(counted.n.desc()).limit(MOST_VALUES)
    try:
        types = session.run(statement, MOST_VALUES, f"event types of {found.name}")
    except EngineError:
        # What cannot be read is told of by validate and by the checks.
        return None
    return clicks({str(name): int(rows) for name, rows in types}, says_clicked(made.column))


def _alike_ratio(session: Session, found: Found) -> float:
    """Return the share of the events that duplicates would take for copies, without ids, and with days for times."""
    events = sample(session, found)
    if Role.EVENT_ID in events.roles or Duplicates(DuplicatesSettings()).absent(events) is not None:
        return 0.0
    keys = distinct_keys(Rows(events, Window(EPOCH, EPOCH + DAY)))
    try:
        keyed, different, times = map(int, session.run(keys, 1, f"events of a day of {found.name}")[0])
    except EngineError:
        return 0.0
    return 1 - different / keyed if keyed and times <= MOST_MIDNIGHTS else 0.0


def sample(session: Session, found: Found) -> Dataset:
    """Return the first rows of a dataset as the checks will see them; of a table of ids, all rows."""
    return described(session, found, SAMPLE_ROWS if found.kind == "events" else None)


def described(session: Session, found: Found, most_rows: int | None) -> Dataset:
    """Return a dataset as the checks will see it, or its first rows."""
    names = {role: made.column.name for role, made in found.roles.items()}
    ids = tuple(names[role] for role in (Role.EVENT_ID, Role.USER, Role.ITEM) if role in names)
    # Once more, now that it is known which columns hold ids.
    columns = session.open(replace(found.location, ids=ids))
    table: Any = session.engine.dialect.table(found.location, columns)
    if most_rows is not None:
        table = select(*table.c).limit(most_rows).subquery("sample")
    native = session.engine.dialect.has_native_time
    units = {}
    for role, made in found.roles.items():
        if made.column.is_time:
            unit = made.column.time_unit
            units[role] = TimeUnit(unit) if unit else TimeUnit.NATIVE if native else TimeUnit.TEXT
    return Dataset(found.name, table, columns, names, units, found.features)
