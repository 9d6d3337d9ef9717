"""Which datasets lie at a path or URL: files of a folder by their names, tables of a database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from glob import escape, glob, has_magic
from itertools import count
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from monitor.engine import Engine, Location
from monitor.engines import NAMES
from monitor.engines.duckdb import READERS
from monitor.engines.paths import LOG, is_log
from monitor.errors import ConfigError, EngineError
from monitor.schema import metadata

MOST_DATASETS = 200
MOST_DEPTH = 6
MOST_COMPARED = 20
# Files that an engine reads from afar; their folders cannot be listed from here.
_REMOTE = ("s3://", "gs://", "gcs://", "r2://", "az://", "abfss://", "hf://", "http://", "https://")
# What tells the parts of one dataset apart: a number or a date, or what Spark and the like write.
_PART = re.compile(
    r"""(?:^|[-_.])(?:part|chunk|shard)[-_.]?\d.*$   # part-0001, events.part-00000-5c1d-c000.snappy
      | (?:^|[-_.])[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}.*$   # a UUID
      | (?:^|[-_.])\d[\d\-_T:.Zof]*$   # events_2026-03-01, data-00000-of-00010
      | \d{2,}$   # events20260301, h052""",
    re.IGNORECASE | re.VERBOSE,
)
_SYSTEM = ("information_schema",)
_SYSTEM_OF_MYSQL = ("mysql", "performance_schema", "sys")
_PARTITION = re.compile(r"[^=]+=.*|\d[\d\-_T:.Z]*")
# The columns of a file, so that files of one shape become one dataset.
ColumnsOf = Callable[[Path], frozenset[str]]


def database_url(target: str) -> str | None:
    """Return the URL of the database that a target is, with the whole path; None if it is files.

    Raises:
        ConfigError: It is a URL, but none that an engine knows.
        EngineError: There is no such database file.
    """
    if target.startswith(_REMOTE):
        return None
    if "://" not in target:
        return _file_url(Path(target))
    target = re.sub(r"^postgres://", "postgresql://", target)
    try:
        url = make_url(target)
    except (sa.exc.ArgumentError, ValueError):
        shown = target.partition("://")[0]
        says = "is no URL of a database; write it like postgresql://user@host/database, mysql://user@host/database or duckdb:///FILE"
        raise ConfigError([f"{shown}://...: {says}"]) from None
    if url.get_backend_name() not in NAMES:
        raise ConfigError([f"{url.drivername}://...: no support for it; use one of {', '.join(NAMES)}"])
    is_file = url.get_backend_name() in ("duckdb", "sqlite") and not (url.database or "").startswith(("md:", "file:"))
    if is_file:
        if not Path(url.database or "").is_file():
            raise EngineError(f"{url.database or ':memory:'}: no such database file; give one that is there")
        url = url.set(database=str(Path(str(url.database)).absolute()))
    return url.render_as_string(hide_password=False)


def _file_url(path: Path) -> str | None:
    if not path.is_file() or path.suffix.lower() not in (".duckdb", ".ddb", ".db", ".db3", ".sqlite", ".sqlite3"):
        return None
    with path.open("rb") as file:
        is_sqlite = file.read(15) == b"SQLite format 3"
    return f"{'sqlite' if is_sqlite else 'duckdb'}:///{path.absolute()}"


def tables(engine: Engine) -> tuple[list[Location], list[str]]:
    """Return the tables and views of a database, and notes on what is left out.

    Partitions of a PostgreSQL table are read through it, and the state of recwatch is no data.
    """
    inspector = sa.inspect(engine.sqlalchemy_engine)
    found: list[tuple[str | None, str]] = []
    for schema in _schemas(inspector, engine.sqlalchemy_engine.url.database):
        names = {*inspector.get_table_names(schema), *inspector.get_view_names(schema)}
        if inspector.dialect.name == "postgresql":
            names |= set(inspector.get_materialized_view_names(schema))
            names -= _partitions(engine, schema or inspector.default_schema_name)
        if names >= set(metadata.tables):
            names -= set(metadata.tables)
        found += [(schema, name) for name in sorted(names)]
    notes = [f"table {name}: a name with a dot or ${{ cannot be written" for _, name in found if _odd(name)]
    fitting = [(schema, name) for schema, name in found if not _odd(name)]
    if len(fitting) > MOST_DATASETS:
        notes.append(f"{len(fitting) - MOST_DATASETS:,} more tables: only the first {MOST_DATASETS} were looked at")
    if not fitting:
        raise EngineError(f"{engine.where}: holds no table; name another database")
    taken: set[str] = set()
    locations = []
    for schema, name in fitting[:MOST_DATASETS]:
        own = free_name(f"{schema}_{name}" if schema else name, taken)
        locations.append(Location(own, table=name, schema=schema))
    return locations, notes


def _odd(name: str) -> bool:
    # A dot ends the schema, and ${ begins what the environment fills in.
    return "." in name or "${" in name


def _schemas(inspector: sa.Inspector, database: str | None) -> Iterator[str | None]:
    """Yield None for the default schema, then the names of others that people made."""
    # What other databases call a schema is the database of a URL on some: the one that is named is meant.
    is_schema = inspector.dialect.name in ("hive", "mariadb", "mysql")
    if database or not is_schema or inspector.default_schema_name:
        yield None
    if inspector.dialect.name == "sqlite" or (is_schema and database):
        return
    system = (*_SYSTEM, *(_SYSTEM_OF_MYSQL if inspector.dialect.name in ("mariadb", "mysql") else ()))
    for name in inspector.get_schema_names():
        # DuckDB spells them database.schema.
        database, _, schema = name.rpartition(".")
        is_system = schema in system or schema.startswith("pg_") or database in ("system", "temp")
        if not is_system and schema != inspector.default_schema_name:
            yield schema


def _partitions(engine: Engine, schema: str | None) -> set[str]:
    statement = sa.text(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relispartition AND n.nspname = :schema"
    )
    with engine.sqlalchemy_engine.connect() as connection:
        return {str(row[0]) for row in connection.execute(statement, {"schema": schema})}


def files(target: str, columns_of: ColumnsOf) -> tuple[list[Location], list[str]]:
    """Return the datasets that lie in a file, a glob or a folder, and notes on what is left out.

    Files of a folder whose names differ in a number, a date or a UUID only are one dataset; so are
    those of a folder in it, if they have the same columns.

    Raises:
        EngineError: There is nothing to read.
    """
    path = Path(target)
    if is_log(target):
        path = path.parent
    if path.is_dir():
        named = list(_folder(path, columns_of, 0))
        if not named:
            raise EngineError(f"{target}: holds no file that can be read; use one of {', '.join(READERS)}")
    else:
        named = [_single(target, path)]
    taken: set[str] = set()
    locations = [Location(free_name(name, taken), files=where) for name, where in named[:MOST_DATASETS]]
    left = len(named) - len(locations)
    return locations, [f"{left:,} more files: only the first {MOST_DATASETS} were looked at"] if left else []


def _single(target: str, path: Path) -> tuple[str, str]:
    if not target.startswith(_REMOTE) and not path.exists() and not glob(target, recursive=True):
        raise EngineError(f"{target}: no such file or folder; give a file, a folder, a glob or a database URL")
    if not _ending(path):
        raise EngineError(f"{target}: the ending says no format; use one of {', '.join(READERS)}")
    plain = [part for part in path.parent.parts if not has_magic(part)]
    name = _trunk(path).replace("*", "").strip("-_.") or (plain[-1] if plain else "events")
    return name, escape(target) if path.exists() else target


def _folder(folder: Path, columns_of: ColumnsOf, depth: int) -> Iterator[tuple[str, str]]:
    """Yield name and glob of each dataset in a folder."""
    if (log := folder / LOG).is_dir():
        yield folder.resolve().name, str(log)
        return
    visible = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith((".", "_"))]
    inner = [entry for entry in visible if entry.is_dir()]
    parted = [entry for entry in inner if _PARTITION.fullmatch(entry.name)]
    if any(log for entry in parted for log in entry.rglob(LOG)):
        # What the folders of days or keys hold are tables of their own.
        parted = []
    if parted:
        # The folder is one dataset, cut by date or key.
        for ending in sorted({_ending(file) for entry in parted for file in entry.rglob("*")} - {""}):
            yield folder.resolve().name, f"{escape(str(folder))}/**/*{ending}"
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in visible:
        if file.is_file() and _ending(file) and not parted:
            groups.setdefault((_trunk(file), _ending(file)), []).append(file)
    yield from _grouped(folder, groups, columns_of, depth)
    if depth < MOST_DEPTH:
        for entry in inner:
            if entry not in parted:
                yield from _folder(entry, columns_of, depth + 1)


def _grouped(
    folder: Path, groups: dict[tuple[str, str], list[Path]], columns_of: ColumnsOf, depth: int
) -> Iterator[tuple[str, str]]:
    own = folder.resolve().name
    for ending in sorted({ending for _, ending in groups}):
        members = {trunk: paths for (trunk, other), paths in groups.items() if other == ending}
        firsts = [paths[0] for paths in members.values()]
        is_one = len(firsts) == 1 or (len(firsts) <= MOST_COMPARED and len({columns_of(path) for path in firsts}) == 1)
        if depth and is_one:
            yield own, f"{escape(str(folder))}/*{ending}"
            continue
        for trunk, paths in members.items():
            patterns = _pattern(folder, trunk, ending, paths)
            for pattern in patterns:
                yield trunk or own, pattern


def _pattern(folder: Path, trunk: str, ending: str, paths: Sequence[Path]) -> list[str]:
    """Return one glob that matches these files and no others, else each file by itself."""
    if len(paths) > 1:
        stem = f"{escape(str(folder / trunk))}" if trunk else f"{escape(str(folder))}/"
        for middle in ("*", "[-_.]*", "[0-9]*", "[0-9][0-9]*", "[-_.][0-9]*", "[-_.][p0-9]*"):
            pattern = f"{stem}{middle}{ending}"
            if {Path(name) for name in glob(pattern)} == set(paths):
                return [pattern]
    return [escape(str(path)) for path in paths]


def _ending(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    return next((path.name[name.rindex(ending) :] for ending in READERS if name.endswith(ending)), "")


def _trunk(path: Path) -> str:
    """Return a file's name without its ending and without what numbers it."""
    return _PART.sub("", path.name.removesuffix(_ending(path)))


def free_name(text: str, taken: set[str]) -> str:
    """Return a name that a dataset may have and that is not taken, and take it.

    Examples:
        >>> taken = set()
        >>> free_name("Shop Events-2026", taken), free_name("shop_events 2026", taken), free_name("42", taken)
        ('shop_events_2026', 'shop_events_2026_2', 'd_42')
    """
    name = plain_name(text)
    for number in count(2):
        if name not in taken:
            break
        name = f"{plain_name(text)[:55]}_{number}"
    taken.add(name)
    return name


def plain_name(text: str) -> str:
    """Return a text as a dataset or pipeline may be called."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return (name if name[:1].isalpha() else f"d_{name}".rstrip("_"))[:60]


def pipeline_name(target: str) -> str:
    """Return what a pipeline may be called by where its data lies."""
    if "://" in target and not target.startswith(_REMOTE):
        url = make_url(target)
        database = url.database or "default"
        # On Spark it can be catalog.database; elsewhere what follows a dot is the ending of a file.
        return plain_name(database.rpartition(".")[2] if url.get_backend_name() == "hive" else Path(database).stem)
    path = Path(target)
    if path.is_dir():
        return plain_name(path.resolve().name)
    if has_magic(target):
        plain = [part for part in path.parent.absolute().parts if not has_magic(part)]
        return plain_name(plain[-1])
    return plain_name(path.name.removesuffix(_ending(path) or path.suffix))
