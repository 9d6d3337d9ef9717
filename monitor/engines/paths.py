"""Paths of files as DuckDB takes them, and which files a glob stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

import sqlalchemy as sa

from monitor.errors import EngineError

# Paths in one statement; what a thousand of some columns have to tell does not fit into the default memory.
_AT_ONCE = 250
PARTITION = re.compile(r"/([^/=]+)=[^/=]*(?=/)")
_WILD = frozenset("*?[]{}\\")
# What begins so is being written, or no data: Spark, Hive and pandas leave it out, too. A partition may begin so.
_HIDDEN, _MAY_BE_HIDDEN = re.compile(r"\.|_[^=]*$"), re.compile(r"(^|/)[._]")


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
    # A folder stands for what is in it.
    if _WILD.isdisjoint(pattern) and os.path.isfile(pattern):
        return [pattern]
    return [path for (path,) in connection.exec_driver_sql(f"SELECT file FROM glob({quoted(pattern)})").fetchall()]


def _shown(pattern: str, found: Sequence[str]) -> list[str]:
    named = [part for part in PurePath(pattern).parts if _HIDDEN.match(part)]
    # Of many files few may be hidden, and to take each path apart takes as long as to look at the file.
    shown = [path for path in found if not (_MAY_BE_HIDDEN.search(path) and _is_hidden(path, named))]
    if found and not shown:
        raise EngineError(f"files {pattern}: names of all that match begin with . or _; write that into the pattern")
    return shown


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
