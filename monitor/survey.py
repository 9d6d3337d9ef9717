"""Looks at files or a database: which datasets there are, and a few figures of their columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from glob import glob
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Double, Text, cast, distinct, func, null, select

from checks.dataset import Dataset, Kind, Role, dataset_table
from checks.unknown_ids import PLACEHOLDERS
from monitor.config import EMBEDDED
from monitor.engine import Engine, Location, Session
from monitor.engines import connect
from monitor.engines.duckdb import READERS
from monitor.errors import EngineError
from monitor.guess import Found, Seen, guess_features, guess_kinds, guess_roles

SAMPLE_ROWS = 50_000
# Share of the event ids that must be in a table for it to be their catalogue.
LEAST_CONTAINED = 0.5
_PART = re.compile(r"[-_.]?(?:part|chunk)?[-_.]?\d[\d\-_T:.Z]*$", re.IGNORECASE)
Looked = Callable[[str], None]


def survey(target: str, looked: Looked) -> tuple[Mapping[str, str], list[Found]]:
    """Return the engines to configure and the datasets that were found, with everything guessed.

    Args:
        target: A file, a folder, a glob, a database file or a SQLAlchemy URL.
        looked: Called with the name of each dataset before it is read; for progress.

    Raises:
        EngineError: There is nothing to read, or the database cannot be reached.

    Cost:
        A few aggregates over a sample of rows of each dataset.
    """
    url = _database(target)
    engine = connect("database" if url else EMBEDDED, url or "duckdb:///:memory:")
    with ExitStack() as stack:
        stack.callback(engine.close)
        session = stack.enter_context(engine.session())
        locations = _tables(engine) if url else list(_files(target))
        found = []
        for location in locations:
            looked(location.name)
            found.append(_look(session, location))
        for dataset in found:
            guess_roles(dataset)
        guess_kinds(found)
        _link(session, found)
    return ({"database": url} if url else {}), found


def _database(target: str) -> str | None:
    if "://" in target:
        return target
    path = Path(target)
    if path.suffix in (".duckdb", ".ddb"):
        return f"duckdb:///{path.resolve()}"
    if path.suffix in (".db", ".sqlite", ".sqlite3") and path.is_file():
        with path.open("rb") as file:
            is_sqlite = file.read(15) == b"SQLite format 3"
        return f"{'sqlite' if is_sqlite else 'duckdb'}:///{path.resolve()}"
    return None


def _tables(engine: Engine) -> list[Location]:
    inspector = sa.inspect(engine.sqlalchemy_engine)
    names = sorted({*inspector.get_table_names(), *inspector.get_view_names()})
    if not names:
        raise EngineError(f"{engine.where}: holds no table; name another database")
    return [Location(name, table=name) for name in names]


def _files(target: str) -> Iterator[Location]:
    path = Path(target)
    if path.is_dir():
        groups: dict[str, list[Path]] = {}
        for entry in sorted(path.iterdir()):
            if entry.is_dir():
                endings = {_ending(file) for file in entry.iterdir()} & set(READERS)
                for ending in sorted(endings):
                    yield Location(dataset_name(entry.name), files=f"{entry}/*{ending}")
            elif _ending(entry):
                groups.setdefault(f"{_PART.sub('', _stem(entry))}|{_ending(entry)}", []).append(entry)
        for key, members in groups.items():
            stem, _, ending = key.partition("|")
            many = f"{path}/{stem}*{ending}"
            yield Location(dataset_name(stem or "events"), files=many if len(members) > 1 else str(members[0]))
        return
    if not glob(target):
        raise EngineError(f"{target}: no such file or folder; give a file, a folder, a glob or a database URL")
    if not _ending(path):
        raise EngineError(f"{target}: the ending says no format; use one of {', '.join(READERS)}")
    yield Location(dataset_name(_PART.sub("", _stem(path).replace("*", "")) or path.parent.name), files=target)


def _ending(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    return next((path.name[name.rindex(ending) :] for ending in READERS if name.endswith(ending)), "")


def _stem(path: Path) -> str:
    return path.name.removesuffix(_ending(path))


def dataset_name(text: str) -> str:
    """Return a name that a dataset may have.

    Examples:
        >>> dataset_name("Shop Events-2026"), dataset_name("42")
        ('shop_events_2026', 'd_42')
    """
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name if name[:1].isalpha() else f"d_{name}".rstrip("_")


def _look(session: Session, location: Location) -> Found:
    columns = session.open(location)
    is_view = session.engine.dialect.name == "duckdb"
    table = dataset_table(location.name if is_view else str(location.table), columns)
    sample = select(*table.c).limit(SAMPLE_ROWS).subquery("sample")
    figures: list[Any] = [func.count()]
    for name, column_type in columns.items():
        column, is_number = sample.c[name], column_type.kind.is_numeric
        fits = column_type.kind is not Kind.OTHER
        figures.append(func.count(column))
        figures.append(func.count(distinct(column)) if fits else null())
        figures += [cast(func.min(column), Double), cast(func.max(column), Double)] if is_number else [null(), null()]
    row = session.run(select(*figures).select_from(sample), 1, f"columns of {location.said}")[0]
    seen = []
    for at, (name, column_type) in enumerate(columns.items()):
        filled, different, low, high = row[1 + 4 * at : 5 + 4 * at]
        seen.append(Seen(name, column_type, int(filled), int(different or 0), low, high))
    place = {"files": location.files} if location.files else {"table": str(location.table)}
    return Found(location.name, place, int(row[0]), seen)


def _link(session: Session, datasets: Sequence[Found]) -> None:
    """Point events to their catalogues and stages, and choose their features."""
    for found in datasets:
        if found.kind != "events":
            continue
        guess_features(found)
        for link, role in (("users", Role.USER), ("items", Role.ITEM)):
            for other in datasets:
                if other.kind == link and role in found.roles:
                    _try_catalogue(session, found, other, (link, role))
        for link in ("sent", "rejected"):
            for other in datasets:
                if other.kind == link:
                    found.links[link] = (other.name, "its name says so")


def _try_catalogue(session: Session, found: Found, other: Found, how: tuple[str, Role]) -> None:
    link, role = how
    events, known = _described(session, found), _described(session, other)
    own = events.table.c[found.roles[role].column.name]
    theirs = known.table.c[other.roles[role].column.name]
    sample = select(cast(own, Text).label("id")).where(own.is_not(None)).distinct().limit(5_000).subquery("ids")
    ids = select(cast(theirs, Text)).where(theirs.is_not(None))
    counted: Any = select(func.count(), func.count(sa.case((sample.c.id.in_(ids), 1)))).select_from(sample)
    total, contained = session.run(counted, 1, f"{link} of {found.name}")[0]
    if not total or contained / total < LEAST_CONTAINED:
        return
    found.links[link] = (other.name, f"{100 * contained / total:.0f} % of the {role} ids are in it")
    real = select(cast(theirs, Text)).where(cast(theirs, Text).in_(PLACEHOLDERS)).distinct()
    held = tuple(str(row[0]) for row in session.run(real, len(PLACEHOLDERS), f"ids of {other.name}"))
    found.placeholders_kept = tuple(sorted({*found.placeholders_kept, *held}))


def _described(session: Session, found: Found) -> Dataset:
    columns = {column.name: column.type for column in found.columns}
    is_view = session.engine.dialect.name == "duckdb"
    return Dataset(found.name, dataset_table(found.name if is_view else found.place["table"], columns), columns)
