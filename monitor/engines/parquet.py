"""Which Parquet files of a glob a statement can need, from statistics that are read once for each file.

A file is left out only where its own statistics, by which the engine skips row groups too, say that no row
can be wanted. What cannot be compared is read.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import inf
from typing import Any

import sqlalchemy as sa

from checks.dataset import ColumnType
from checks.measure import MISSING
from monitor.engine import OwnColumns, kind_of
from monitor.engines.bounds import Bound, Bounds
from monitor.engines.paths import PARTITION, all_of, chunks, files_of, quoted, refuse, spelt

NOT_PARTED = ", hive_partitioning = false"
_TIMES = re.compile(r"TIMESTAMP|DATE$")
_INTEGERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?$")
_FAMILIES = ((_TIMES, "time"), (_INTEGERS, "integer"), (re.compile(r"DOUBLE$"), "double"))

# Inode, size, and when its content and its place were last changed, in nanoseconds.
Mark = tuple[int, int, int, int]
Range = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """The columns of a file: type by name in small letters, as names know no case.

    Args:
        types: The columns.
        options: What the table function is told of such files, where it does not find that out by itself.
    """

    types: Mapping[str, str]
    options: str = ""


@dataclass(slots=True)
class File:
    """What is known of one file.

    Args:
        mark: Tells whether it is still the same.
        shape: Its columns.
        ranges: For each column that was asked for, least and greatest value; None where these are not known.
    """

    mark: Mark
    shape: Shape
    ranges: dict[str, Range | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Listed:
    """The files of a glob as they were found once.

    Args:
        files: By path, in the order of the engine.
        columns: Columns of all files together.
        options: What else the engine is told, so that a part of the files is read as all of them would be.
        parted: Columns that are part of the paths, in small letters.
    """

    files: Mapping[str, File]
    columns: Mapping[str, ColumnType]
    options: str
    parted: frozenset[str]

    def origin(self, paths: Sequence[str]) -> str:
        """Return the table function over some of the files."""
        # Of files of one shape the engine need open just the first to learn the columns.
        are_alike = len({id(self.files[path].shape) for path in paths}) == 1
        by_name = "" if are_alike else ", union_by_name = true"
        return f"read_parquet({spelt(paths)}{by_name}{self.options})"

    @cached_property
    def samples(self) -> list[str]:
        """Return the first file of each shape."""
        first: dict[int, str] = {}
        for path, file in self.files.items():
            first.setdefault(id(file.shape), path)
        return list(first.values())

    @property
    def needed(self) -> Sequence[str]:
        """The files that are read whatever is wanted, so that columns and their types are those of all files."""
        return self.samples

    def family(self, declared: str) -> str | None:
        """Return what the ranges of a column of a type hold; None where they hold nothing."""
        return family_of(declared)


class Index:
    """The files of one glob, and the statistics of those that were seen.

    Args:
        pattern: The glob.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._lock = threading.Lock()
        self._files: dict[str, File] = {}
        self._shapes: dict[str, Shape] = {}
        self._asked: set[str] = set()
        self._listed: Listed | None = None

    def refresh(self, connection: sa.Connection) -> Listed | None:
        """Return the files as they are now; None where they have to be read as one.

        Cost:
            One look at each file's entry in its folder, and the footers of the files that are new or changed.
        """
        marks = self._marks(connection)
        if marks is None:
            return None
        with self._lock:
            new = [path for path, mark in marks.items() if path not in self._files or self._files[path].mark != mark]
            if not new and self._listed is not None and marks.keys() == self._listed.files.keys():
                return self._listed
            self.refuse(new)
            shapes = dict(self._shapes_of(connection, {path: marks[path] for path in new}))
            if len(shapes) < len(new):
                return None
            read = {path: File(marks[path], shapes[path]) for path in new}
            for path, column, span in self._ranges(connection, read, self._asked):
                read[path].ranges[column] = span
            files = {path: read.get(path) or self._files[path] for path in marks}
            listed = self._described(connection, files)
            self._files, self._listed = files, listed
            return listed

    def refuse(self, paths: Sequence[str]) -> None:
        """Look whether new files lie in a table whose log says which of them are part of it.

        Raises:
            EngineError: They do.
        """
        refuse(self._pattern, paths)

    def whole(self, connection: sa.Connection) -> str:
        """Return the table function over all files, whatever there is by now."""
        return f"read_parquet({all_of(connection, self._pattern)}, union_by_name = true)"

    def chosen(self, connection: sa.Connection, listed: Listed, wanted: Sequence[Bounds]) -> list[str] | None:
        """Return the files that may hold a row within any of the bounds; None stands for all of them.

        Cost:
            The footers of all files, once for each column that is bounded.
        """
        if not all(wanted):
            return None
        kept = self._kept(connection, listed, wanted) | set(listed.needed)
        return [path for path in listed.files if path in kept]

    def columns(self, connection: sa.Connection, listed: Listed, wanted: Sequence[Bounds]) -> OwnColumns | None:
        """Return the columns of the files that may hold a row within any of the bounds; None if there is no such file.

        A file that has no value of a column tells no type of it.

        Cost:
            The footers of these files, where a column has not the same type in all files.
        """
        paths = self._kept(connection, listed, wanted) if all(wanted) else set(listed.files)
        if not paths:
            return None
        types = {path: listed.files[path].shape.types for path in paths}
        kinds: dict[str, set[str]] = {}
        for path in listed.samples:
            for name, declared in listed.files[path].shape.types.items():
                kinds.setdefault(name, set()).add(declared)
        varied = {name for name, declared in kinds.items() if len(declared) > 1} - listed.parted
        filled = set(self._filled(connection, sorted(paths), varied))
        found = {}
        for name, column in listed.columns.items():
            key = name.lower()
            if key in listed.parted:
                found[name] = frozenset({column.declared})
                continue
            having = [path for path in paths if key in types[path]]
            told = {types[path][key] for path in having if key not in varied or (path, key) in filled}
            if having:
                found[name] = frozenset(told | ({MISSING} if len(having) < len(paths) else set()))
        return found

    def _filled(self, connection: sa.Connection, paths: Sequence[str], columns: set[str]) -> Iterator[tuple[str, str]]:
        """Yield path and column where a column has values that are not null, or may have."""
        if not columns:
            return
        names = ", ".join(quoted(name) for name in sorted(columns))
        for some in chunks(paths):
            # The parts of a nested column have its name first. A column of the null type has no statistics.
            empty = f"SELECT file_name, lower(name) FROM parquet_schema({spelt(some)}) WHERE logical_type LIKE 'Null%'"
            statement = (
                "SELECT file_name, split_part(lower(path_in_schema), ', ', 1) AS name"
                f" FROM parquet_metadata({spelt(some)}) WHERE name IN ({names}) AND (file_name, name) NOT IN ({empty})"
                " GROUP BY ALL HAVING sum(num_values - coalesce(stats_null_count, 0)) > 0"
            )
            yield from ((path, column) for path, column in connection.exec_driver_sql(statement).fetchall())

    def _kept(self, connection: sa.Connection, listed: Listed, wanted: Sequence[Bounds]) -> set[str]:
        with self._lock:
            missing = {name.lower() for bounds in wanted for name in bounds} - self._asked
            if missing:
                for path, column, span in self._ranges(connection, self._files, missing):
                    self._files[path].ranges[column] = span
                self._asked |= missing
        kept = set[str]()
        for bounds in {tuple(sorted(bounds.items())): bounds for bounds in wanted}.values():
            kept |= holding(listed, bounds)
        return kept

    def _marks(self, connection: sa.Connection) -> dict[str, Mark] | None:
        return None if "://" in self._pattern else marks_of(files_of(connection, self._pattern))

    def _shapes_of(self, connection: sa.Connection, marks: Mapping[str, Mark]) -> Iterator[tuple[str, Shape]]:
        """Yield each path with its shape; equal shapes are one object."""
        told = "list((name, duckdb_type, type, num_children, repetition_type) ORDER BY column_id)::VARCHAR"
        for some in chunks(list(marks)):
            statement = f"SELECT file_name, {told} FROM parquet_schema({spelt(some)}) GROUP BY file_name"
            for path, words in connection.exec_driver_sql(statement).fetchall():
                if words not in self._shapes:
                    columns = described(connection, f"read_parquet({spelt([path])}{NOT_PARTED})")
                    self._shapes[words] = Shape({name.lower(): declared for name, declared in columns})
                yield path, self._shapes[words]

    def _ranges(
        self, connection: sa.Connection, files: Mapping[str, File], columns: set[str]
    ) -> Iterator[tuple[str, str, Range | None]]:
        """Yield path, column and range, for the columns whose ranges can be told."""
        if not columns:
            return
        names = ", ".join(quoted(name) for name in sorted(columns))
        for some in chunks(list(files)):
            statement = (
                f"SELECT file_name, lower(path_in_schema), count(*), {_EXTREMES}"
                f" FROM parquet_metadata({spelt(some)}) WHERE lower(path_in_schema) IN ({names}) GROUP BY ALL"
            )
            for path, column, groups, *extremes in connection.exec_driver_sql(statement).fetchall():
                family = family_of(files[path].shape.types.get(column, ""))
                yield path, column, _range(family, groups, extremes)

    def _described(self, connection: sa.Connection, files: dict[str, File]) -> Listed | None:
        """Return all files with their columns, or None where a part of them would not be read as all are."""
        paths = list(files)
        options, parted = self._partitions(connection, paths)
        shapes = {id(file.shape) for file in files.values()}
        old = self._listed
        if old is not None and old.options == options and shapes == {id(file.shape) for file in old.files.values()}:
            return Listed(dict(files), old.columns, options, parted)
        listed = Listed(dict(files), {}, options, parted)
        whole = described(connection, self.whole(connection))
        if whole != described(connection, listed.origin(listed.samples)):
            return None
        columns = {name: ColumnType(kind_of(declared), declared) for name, declared in whole}
        return Listed(listed.files, columns, options, parted)

    def _partitions(self, connection: sa.Connection, paths: Sequence[str]) -> tuple[str, frozenset[str]]:
        """Return how the paths are read as columns: their types are guessed from the values in all paths."""
        keys = [tuple(PARTITION.findall(f"/{path}")) for path in paths]
        if not keys[0] or any(set(some) != set(keys[0]) for some in keys):
            return NOT_PARTED, frozenset()
        # Only the first file is opened for that.
        types = dict(described(connection, self._parted(paths)))
        pinned = ", ".join(f"{quoted(key)}: {quoted(types[key])}" for key in dict.fromkeys(keys[0]) if key in types)
        return f", hive_partitioning = true, hive_types = {{{pinned}}}", frozenset(key.lower() for key in keys[0])

    def _parted(self, paths: Sequence[str]) -> str:
        return f"read_parquet({spelt(paths)}, hive_partitioning = true)"


def marks_of(paths: Iterable[str]) -> dict[str, Mark] | None:
    """Return the marks of the files that are there; None where one cannot be looked at, or none is there."""
    marks = {}
    for path in paths:
        if "?" in path or "\\" in path:
            return None
        try:
            entry = os.stat(path)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        marks[path] = (entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns)
    return marks or None


def holding(listed: Listed, bounds: Bounds) -> set[str]:
    """Return the files that may hold a row within all of some bounds."""
    shapes = [listed.files[path].shape for path in listed.samples]
    files: Mapping[str, File] = listed.files
    for name, bound in bounds.items():
        column = name.lower()
        if column in listed.parted:
            continue
        # All rows of a file without the column are null there, and null lies within no bound.
        absent = {id(shape) for shape in shapes if column not in shape.types}
        told = {id(shape) for shape in shapes if column in shape.types and _tells(listed, shape, name, bound)}
        low, high = -inf if bound.low is None else bound.low, inf if bound.high is None else bound.high
        files = {
            path: file
            for path, file in files.items()
            if (shape := id(file.shape)) not in absent
            and (
                shape not in told
                or (seen := file.ranges.get(column)) is None
                or not (seen[1] < low or seen[0] > high)
            )
        }  # fmt: skip
    return set(files)


def _tells(listed: Listed, shape: Shape, name: str, bound: Bound) -> bool:
    """Return whether the range of a column can be held against a bound."""
    family = listed.family(shape.types[name.lower()])
    if bound.is_time != (family == "time") or family != listed.family(listed.columns[name].declared):
        return False
    # NaN is greater than all numbers and no part of the statistics.
    return family != "double" or bound.high is not None


@cache
def family_of(declared: str) -> str | None:
    """Return the family of a type whose values the ranges of a column hold; None where they hold none."""
    return next((family for pattern, family in _FAMILIES if pattern.match(declared)), None)


def _extremes() -> str:
    """Return, for each family, how many row groups tell both ends, and the least and the greatest of these."""
    parts = []
    for cast in ("epoch_us(try_cast({} AS TIMESTAMPTZ))", "try_cast({} AS HUGEINT)", "try_cast({} AS DOUBLE)"):
        low, high = cast.format("stats_min_value"), cast.format("stats_max_value")
        parts.append(f"least(count({low}), count({high})), min({low}), max({high})")
    return ", ".join(parts)


_EXTREMES = _extremes()


def _range(family: str | None, groups: int, extremes: Sequence[Any]) -> Range | None:
    """Return least and greatest value of a column; None unless every row group tells both."""
    if family is None:
        return None
    told, low, high = extremes[3 * (place := ("time", "integer", "double").index(family)) : 3 * place + 3]
    return (low, high) if told == groups else None


def described(connection: sa.Connection, origin: str) -> list[tuple[str, str]]:
    """Return the columns of what can be selected from, each with its type."""
    return [(row[0], row[1]) for row in connection.exec_driver_sql(f"DESCRIBE SELECT * FROM {origin}").fetchall()]


def columns_of(connection: sa.Connection, origin: str) -> dict[str, ColumnType]:
    """Return the columns of what can be selected from."""
    return {name: ColumnType(kind_of(declared), declared) for name, declared in described(connection, origin)}
