"""Paths of files as DuckDB takes them, and which files a glob stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from glob import escape
from pathlib import PurePath

import sqlalchemy as sa

from monitor.errors import EngineError

# Paths in one statement; what a thousand of some columns have to tell does not fit into the default memory.
_AT_ONCE = 250
PARTITION = re.compile(r"/([^/=]+)=[^/=]*(?=/)")
LOG = "_delta_log"
_WILD = frozenset("*?[]{}\\")
_FIXED = re.compile(r"([^*?\[\]{}\\/]*/)*")
# What begins so is being written, or no data: Spark, Hive and Arrow leave it out, too. A partition may begin so.
_HIDDEN, _MAY_BE_HIDDEN = re.compile(r"\.|_[^=]*$"), re.compile(r"(^|/)[._]")
# Names of Iceberg's files of metadata.
_ICEBERG = re.compile(r"(v\d+|\d+-[0-9a-f-]+)(\.gz)?\.metadata\.json(\.gz)?")
_STALE = "its folder also holds files that are no part of it any more"
ELSEWHERE = "read it through Spark or another engine, as a table"


def is_log(files: str) -> bool:
    """Return whether a path is that of a Delta table's log, and stands for the table's files."""
    return PurePath(files).name == LOG


def refuse(files: str, paths: Iterable[str]) -> None:
    """Look whether files lie in a table whose log says which of them are part of it.

    Args:
        files: The pattern, for the error.
        paths: Files, or folders that hold some.

    Raises:
        EngineError: They do.

    Cost:
        A few looks at each folder above them.
    """
    looked_at = set[str]()
    for folder in {os.path.dirname(path) for path in paths}:
        place = os.path.realpath(folder)
        while place not in looked_at:
            if os.path.isdir(f"{place}/{LOG}"):
                raise EngineError(f"files {files}: {place} is a Delta table, and {_STALE}; write files: {place}/{LOG}")
            if os.path.isdir(f"{place}/.hoodie") or _is_iceberg(f"{place}/metadata"):
                raise EngineError(f"files {files}: {place} is a table of Hudi or Iceberg, and {_STALE}; {ELSEWHERE}")
            looked_at.add(place)
            place = os.path.dirname(place)


def _is_iceberg(folder: str) -> bool:
    return os.path.isdir(folder) and any(map(_ICEBERG.fullmatch, os.listdir(folder)))


def files_of(connection: sa.Connection, pattern: str) -> list[str]:
    """Return the files that a path or a glob stands for, without those that are hidden and not named themselves.

    Raises:
        EngineError: All of them are hidden.

    Cost:
        A look into each folder.
    """
    return _shown(pattern, _matching(connection, pattern))


def all_of(connection: sa.Connection, pattern: str) -> str:
    """Return what a path or a glob stands for as an argument in SQL: itself, where nothing of it is left out.

    What is elsewhere is read as it is: to list it, and then to look at each file, would take twice the time.

    Raises:
        EngineError: All of it is hidden.
    """
    if "://" in pattern:
        return quoted(pattern)
    found = _matching(connection, pattern)
    shown = _shown(pattern, found)
    return quoted(pattern) if shown == found else spelt(shown)


def _matching(connection: sa.Connection, pattern: str) -> list[str]:
    if _WILD.isdisjoint(pattern) and os.path.isfile(pattern):
        return [pattern]
    if os.path.isdir(pattern):
        # A folder that is called like a file stands for all such files in it, however deep.
        pattern = f"{escape(pattern.rstrip('/'))}/**/*{PurePath(pattern).suffix}"
    return [path for (path,) in connection.exec_driver_sql(f"SELECT file FROM glob({quoted(pattern)})").fetchall()]


def _shown(pattern: str, found: Sequence[str]) -> list[str]:
    named = [part for part in PurePath(pattern).parts if _HIDDEN.match(part)]
    start = fixed(pattern)
    # Of many files few may be hidden, and to take each path apart takes as long as to look at the file.
    shown = [
        path
        for path in found
        if not (_MAY_BE_HIDDEN.search(rest := path.removeprefix(start)) and _is_hidden(rest, named))
    ]
    if found and not shown:
        said = "names of all that match begin with . or _, as of what is still being written"
        raise EngineError(f"files {pattern}: {said}; to read it, begin that part of the pattern so")
    return shown


def fixed(pattern: str) -> str:
    """Return the folders of a pattern before the first that may match several; with a slash, if there is one."""
    found = _FIXED.match(pattern)
    return found.group() if found else ""


def _is_hidden(path: str, named: Sequence[str]) -> bool:
    parts = [part for part in PurePath(path).parts if _HIDDEN.match(part)]
    return any(not any(fnmatchcase(part, pattern) for pattern in named) for part in parts)


def chunks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield as many paths as are asked about at once."""
    for at in range(0, len(paths), _AT_ONCE):
        yield paths[at : at + _AT_ONCE]


def spelt(paths: Sequence[str]) -> str:
    """Return paths as a list in SQL."""
    return f"[{', '.join(map(quoted, paths))}]"


def identifier(name: str) -> str:
    """Return a name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def quoted(text: str) -> str:
    """Return a text as a literal in SQL."""
    return "'" + text.replace("'", "''") + "'"
