"""CSV and JSON files of a glob: the types that their columns have together, and which files a statement can need.

DuckDB guesses the types of every file anew for each statement, from its first 20,480 rows, and reads all of them. Here
each file is guessed once, and read once for each time column that a statement bounds: what Parquet's statistics say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import sqlalchemy as sa

from checks.dataset import ColumnType, Kind
from checks.dialect import epoch_micros, parsed_time
from monitor.engine import Location, OwnColumns, kind_of
from monitor.engines.bounds import Bounds
from monitor.engines.parquet import (
    NOT_PARTED,
    File,
    Index,
    Listed,
    Mark,
    Range,
    Shape,
    described,
    family_of,
    holding,
)
from monitor.engines.paths import PARTITION, all_of, files_of, identifier, quoted, spelt

# Files whose ranges are learnt by one statement. What was learnt stays: where all of it takes longer than a statement
# may, the next run goes on.
_AT_ONCE = 20
_SAMPLE_ROWS = 20_480
_NUMBERED = re.compile(r"_[0-9]+$")
_PATH = "recwatch_path"
# The type of a column without any value, which is also that of some with values.
_OF_NOTHING = {"read_csv": "VARCHAR", "read_json": "JSON"}
# Opens one file only, to learn the types of what is part of the paths.
_ONE = {"read_csv": "files_to_sniff = 1", "read_json": "maximum_sample_files = 1"}
# Of a column that has no value in a file: within no bound.
_EMPTY = (inf, -inf)


@dataclass(slots=True)
class Guess:
    """What one file looks like.

    Args:
        mark: Tells whether it is still the same.
        types: Its columns, each with the type that it has in this file alone.
        layout: How it is laid out, as options of the table function; nothing for JSON.
        filled: Whether a column, in small letters, has a value in the rows that are guessed from, where that was asked.
    """

    mark: Mark
    types: Mapping[str, str]
    layout: str
    filled: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class TextListed(Listed):
    """The files of a glob as they were found once; each column is read as the type that all files together give it.

    Args:
        template: The table function over files.
        floats: Columns of ids that are floats, in small letters.
    """

    template: str
    floats: frozenset[str]

    @property
    def needed(self) -> Sequence[str]:
        """No file: types are told, and a column that is in none of some files is null."""
        return ()

    def family(self, declared: str) -> str | None:
        """Return what the ranges of a column of a type hold; of texts these are the times that they spell."""
        return "time" if declared == "VARCHAR" else family_of(declared)

    def origin(self, paths: Sequence[str]) -> str:
        """Return what to select from for some of the files."""
        return f"({self.select(paths)})"

    def select(self, paths: Sequence[str], path: str = "") -> str:
        """Return the statement that reads some of the files, each row with its path if a name for that is given."""
        alike: dict[int, list[str]] = {}
        for each in paths:
            alike.setdefault(id(self.files[each].shape), []).append(each)
        named = f", filename = {quoted(path)}" if path else ""
        parts = []
        for some in alike.values():
            shape = self.files[some[0]].shape
            origin = over(self.template, some, self.options + shape.options + named)
            parts.append(f"SELECT {self._named(shape)}{f', {path}' if path else ''} FROM {origin}")
        return " UNION ALL ".join(parts) or f"SELECT {self._named(None)} WHERE false"

    def _named(self, shape: Shape | None) -> str:
        """Return all columns as they are selected from files of a shape."""
        found = []
        for name, column in self.columns.items():
            key, spelt_name = name.lower(), identifier(name)
            if shape is None or not (key in shape.types or key in self.parted):
                found.append(f"CAST(NULL AS {column.declared}) AS {spelt_name}")
            else:
                found.append(_without_point(spelt_name) if key in self.floats else spelt_name)
        return ", ".join(found)


class TextIndex(Index):
    """The files of one glob, what they look like, and the ranges of the columns that were asked for.

    Args:
        pattern: The glob.
        template: The table function over files.
        ids: Columns that hold ids.
    """

    def __init__(self, pattern: str, template: str, ids: Sequence[str]) -> None:
        super().__init__(pattern)
        self._template, self._ids = template, ids
        self._function = template.partition("(")[0]
        self._guesses: dict[str, Guess] = {}
        # What the types of all came from, and these.
        self._merged: tuple[frozenset[tuple[str, Mark]], dict[str, str]] = frozenset(), {}

    def columns(self, connection: sa.Connection, listed: Listed, wanted: Sequence[Bounds]) -> OwnColumns | None:
        """Return the columns of the files that may hold a row within any of the bounds; in JSON any may lack."""
        return None if self._function == "read_json" else super().columns(connection, listed, wanted)

    def refuse(self, paths: Sequence[str]) -> None:
        """Let all files be read: the tables that have logs keep their rows in other formats."""

    def chosen(self, connection: sa.Connection, listed: Listed, wanted: Sequence[Bounds]) -> list[str]:
        """Return the files that may hold a row within any of the bounds; where all are read, they are read as told."""
        found = super().chosen(connection, listed, wanted)
        return list(listed.files) if found is None else found

    def _shapes_of(self, connection: sa.Connection, marks: Mapping[str, Mark]) -> Iterator[tuple[str, Shape]]:
        for path, mark in marks.items():
            known = self._guesses.get(path)
            if known is None or known.mark != mark:
                self._guesses[path] = known = Guess(mark, *self._look_at(connection, path))
            yield path, Shape(known.types)

    def _look_at(self, connection: sa.Connection, path: str) -> tuple[dict[str, str], str]:
        """Return the columns of a file with their types, and its layout."""
        if self._function == "read_csv":
            return _sniffed(connection, path)
        origin = over(self._template, [path], NOT_PARTED)
        types = dict(described(connection, origin))
        # So DuckDB calls the rows of a file that has none.
        if types == {"json": "JSON"} and not connection.exec_driver_sql(f"SELECT 1 FROM {origin} LIMIT 1").fetchall():
            return {}, ""
        return types, ""

    def _kept(self, connection: sa.Connection, listed: Listed, wanted: Sequence[Bounds]) -> set[str]:
        # A single file is read whatever it holds.
        if isinstance(listed, TextListed) and len(listed.files) > 1:
            with self._lock:
                _note_ranges(connection, listed, {name.lower() for bounds in wanted for name in bounds})
        return {path for bounds in wanted for path in holding(listed, bounds)}

    def _parted(self, paths: Sequence[str]) -> str:
        return f"{self._function}({spelt(paths)}, {_ONE[self._function]}, hive_partitioning = true)"

    def _described(self, connection: sa.Connection, files: dict[str, File]) -> Listed | None:
        paths = list(files)
        self._guesses = {path: self._guesses[path] for path in paths}
        options, parted = self._partitions(connection, paths)
        found = {name: found for name, found in self._types(connection).items() if name.lower() not in parted}
        floats = {name.lower() for name in self._ids if kind_of(found.get(name, "")) is Kind.NUMBER}
        types = as_text(self._template, found, self._ids)
        if not types or (self._function == "read_json" and self._differ_by_case()):
            return None
        if parted:
            one = described(connection, over(self._template, paths[:1], options))
            types |= {name: declared for name, declared in one if name.lower() in parted}
        columns = {name: ColumnType(kind_of(declared), declared) for name, declared in types.items()}
        old = self._listed
        # What other types were read as says nothing of these.
        known = old.files if old is not None and (old.columns, old.options) == (columns, options) else {}
        for path, file in files.items():
            if known.get(path) is not file:
                files[path] = File(file.mark, self._shape(self._guesses[path], types, parted))
        # The types are told, so that the files need not be opened to learn them.
        template = self._template.replace("union_by_name = true, ", "")
        return TextListed(dict(files), columns, options, parted, template, frozenset(floats))

    def _differ_by_case(self) -> bool:
        """Return whether keys of JSON differ by case alone: one of them has another name as a column, such as id_1."""
        names = {name for guess in self._guesses.values() for name in guess.types}
        small = {name.lower() for name in names}
        bases = {_NUMBERED.sub("", name) for name in names} - names
        return len(small) < len(names) or any(base.lower() in small for base in bases)

    def _shape(self, guess: Guess, types: Mapping[str, str], parted: frozenset[str]) -> Shape:
        """Return the columns of a file, of JSON those of all; equal shapes are one object."""
        told = {name.lower(): declared for name, declared in types.items() if name.lower() not in parted}
        if self._function == "read_csv":
            # By their places in the file, the one that a part of the path hides among them.
            own = {name: told.get(name.lower(), declared) for name, declared in guess.types.items()}
        else:
            own = {name: declared for name, declared in types.items() if name.lower() not in parted}
        options = f"{guess.layout}, {_told('columns', own)}"
        seen = {name.lower(): declared for name, declared in own.items() if name.lower() in told}
        return self._shapes.setdefault(options, Shape(seen, options))

    def _types(self, connection: sa.Connection) -> dict[str, str]:
        """Return the columns of all files with the types that DuckDB gives them together, not opening them again."""
        names: dict[str, str] = {}
        found: dict[str, dict[str, list[str]]] = {}
        for path, guess in self._guesses.items():
            for name, declared in guess.types.items():
                names.setdefault(name.lower(), name)
                found.setdefault(name.lower(), {}).setdefault(declared, []).append(path)
        nothing = _OF_NOTHING[self._function]
        varied = {name for name, types in found.items() if len(types) > 1}
        for name in varied:
            if nothing in found[name]:
                found[name][nothing] = [
                    path for path in found[name][nothing] if self._is_filled(connection, path, name, varied)
                ]
        found = {name: {declared: paths for declared, paths in types.items() if paths} for name, types in found.items()}
        merged = self._merge(connection, {name: types for name, types in found.items() if len(types) > 1})
        return {names[name]: merged.get(name) or next(iter(types), nothing) for name, types in found.items()}

    def _is_filled(self, connection: sa.Connection, path: str, name: str, varied: set[str]) -> bool:
        guess = self._guesses[path]
        if name not in guess.filled:
            asked = [own for own in guess.types if own.lower() in varied]
            counts = ", ".join(f"count(nullif(CAST({identifier(own)} AS VARCHAR), 'null'))" for own in asked)
            rows = f"SELECT * FROM {over(self._template, [path], NOT_PARTED)} LIMIT {_SAMPLE_ROWS}"
            counted = connection.exec_driver_sql(f"SELECT {counts} FROM ({rows})").fetchall()[0]
            guess.filled |= {own.lower(): count > 0 for own, count in zip(asked, counted, strict=True)}
        return guess.filled[name]

    def _merge(self, connection: sa.Connection, varied: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, str]:
        """Return one type for columns that have several, in small letters."""
        # A nested part without a value has this type too: the first file of a type may not stand for the others.
        nested = {
            name: "JSON" for name, types in varied.items() if any("JSON" in each and each != "JSON" for each in types)
        }
        stand = {paths[0] for name, types in varied.items() if name not in nested for paths in types.values()}
        marked = frozenset((path, self._guesses[path].mark) for path in stand)
        if marked != self._merged[0]:
            found = described(connection, over(self._template, sorted(stand), NOT_PARTED)) if stand else []
            self._merged = marked, {name.lower(): declared for name, declared in found}
        return {name: nested.get(name) or self._merged[1].get(name, "VARCHAR") for name in varied}


def _sniffed(connection: sa.Connection, path: str) -> tuple[dict[str, str], str]:
    asked = "Delimiter, Quote, Escape, Comment, DateFormat, TimestampFormat, SkipRows, HasHeader, Columns"
    found = connection.exec_driver_sql(f"SELECT {asked} FROM sniff_csv({quoted(path)})").fetchall()[0]
    *texts, skip, header, columns = found
    told = zip(("delim", "quote", "escape", "comment", "dateformat", "timestampformat"), texts, strict=True)
    # A file without quotes has none in later rows either, as when DuckDB looks by itself.
    layout = [f"{name} = {quoted('' if text == '(empty)' else text)}" for name, text in told if text is not None]
    layout = ["auto_detect = false", *layout, f"skip = {skip}", f"header = {header}"]
    return {column["name"]: column["type"] for column in columns}, f", {', '.join(layout)}"


def _note_ranges(connection: sa.Connection, listed: TextListed, columns: set[str]) -> None:
    """Note the ranges of columns in the files of which they are not known."""
    asked = {}
    for name, column in listed.columns.items():
        if name.lower() in columns - listed.parted and (family := listed.family(column.declared)) is not None:
            asked[name.lower()] = _extremes(connection, name, column.declared, family)
    left = [path for path, file in listed.files.items() if not asked.keys() <= file.ranges.keys()]
    for at in range(0, len(left), _AT_ONCE):
        some = left[at : at + _AT_ONCE]
        origin = f"({listed.select(some, _PATH)})"
        statement = f"SELECT {_PATH}, {', '.join(asked.values())} FROM {origin} GROUP BY ALL"
        found = {path: told for path, *told in connection.exec_driver_sql(statement).fetchall()}
        for path in some:
            told = found.get(path, [0, None, None] * len(asked))
            spans = [_range(*told[place : place + 3]) for place in range(0, len(told), 3)]
            # All at once: who reads these meanwhile finds every one or none.
            listed.files[path].ranges.update(zip(asked, spans, strict=True))


def _extremes(connection: sa.Connection, name: str, declared: str, family: str) -> str:
    """Return how many values a column has, the least and the greatest of them."""
    value: Any = sa.literal_column(identifier(name))
    if declared == "VARCHAR":
        value = epoch_micros(parsed_time(value))
    # The extremes are converted, not each value: an infinite one is no number, and is so noticed.
    ends = "epoch_us({}({}))" if family == "time" and declared != "VARCHAR" else "{}({})"
    spelt_value = str(value.compile(connection))
    return ", ".join([f"count({spelt_value})", *(ends.format(end, spelt_value) for end in ("min", "max"))])


def _range(values: int, low: float | None, high: float | None) -> Range | None:
    if not values:
        return _EMPTY
    return None if low is None or high is None else (low, high)


def over(template: str, paths: Sequence[str], options: str = "") -> str:
    """Return the table function over some files."""
    return f"{template.format(files=spelt(paths))[:-1]}{options})"


def whole(connection: sa.Connection, location: Location, template: str) -> str:
    """Return what to select from for all files at once, whatever there is when they are read."""
    pattern = str(location.files)
    origin = template.format(files=all_of(connection, pattern))
    if template.startswith("read_parquet"):
        return origin
    types = dict(described(connection, origin))
    # A column that is part of the path is not in the files: to give it a type is an error of DuckDB's own.
    parted = {key for path in files_of(connection, pattern)[:1] for key in PARTITION.findall(path)}
    own = {name: declared for name, declared in types.items() if name not in parted}
    told = as_text(template, own, location.ids)
    if told == own:
        return origin
    option = "types" if template.startswith("read_csv") else "columns"
    origin = f"{origin[:-1]}, {_told(option, told)})"
    floats = [_without_point(identifier(name)) for name in location.ids if kind_of(own.get(name, "")) is Kind.NUMBER]
    return f"(SELECT * REPLACE ({', '.join(floats)}) FROM {origin})" if floats else origin


def as_text(template: str, types: Mapping[str, str], ids: Sequence[str]) -> dict[str, str]:
    """Return the types to read columns as: of ids, and in JSON of times, the text that they are.

    The types of CSV and JSON are guessed from the first 20,480 rows. What comes later is bent to fit:
    of ids, 007 becomes 7, 20 digits become the nearest floating point number, and a UUID loses its case
    (duckdb/duckdb issues 25824 and 22750). In JSON a time has the format of the first ones, and one of a whole
    second, without the fraction that these have, is an error of the whole file.
    """
    texts = {name for name in ids if name in types}
    if template.startswith("read_json"):
        texts |= {name for name, declared in types.items() if kind_of(declared) in (Kind.TIMESTAMP, Kind.DATE)}
        if not any(_is_bent(types[name]) for name in texts):
            return dict(types)
    return {name: "VARCHAR" if name in texts else declared for name, declared in types.items()}


def _told(option: str, types: Mapping[str, str]) -> str:
    return f"{option} = {{{', '.join(f'{quoted(name)}: {quoted(declared)}' for name, declared in types.items())}}}"


def _without_point(name: str) -> str:
    """Return an id of a column of floats, read as text, as it is spelt elsewhere: 7.0 and 7.00 are what becomes of 7.

    An exponent stays: in CSV ``12e4`` may be a text that only looks like a number.
    """
    shorter = f"rtrim(rtrim({name}, '0'), '.')"
    return (
        f"CASE WHEN regexp_matches({name}, '^-0+[.]0+$') THEN '0'"
        f" WHEN regexp_matches({name}, '^-?[0-9]+[.][0-9]+$') THEN {shorter} ELSE {name} END AS {name}"
    )


def _is_bent(declared: str) -> bool:
    return declared != "VARCHAR" and kind_of(declared) is not Kind.INTEGER
