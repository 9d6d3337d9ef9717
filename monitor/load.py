"""Reads a configuration file: YAML, secrets from the environment or files, paths beside the file."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from monitor.config import Config, OnCallConfig
from monitor.crosscheck import crosscheck, state_url
from monitor.document import Document, read
from monitor.errors import ConfigError
from monitor.locate import problems_of

# What says where the state is, and whose.
ON_CALL = ("pipeline", "state")
C = TypeVar("C", bound=OnCallConfig)
MOST_ATTEMPTS = 5
# A whole section is taken out only if it is wrong itself: without it, its absence would be reported.
LEAST_DEPTH = 2
DEFAULT_STATE = Config.model_fields["state"].default.get_secret_value()
# A database in a file: what comes before its path, the path, and the options.
_FILE_URL = re.compile(r"(?P<start>(?:sqlite|duckdb)(?:\+\w+)?:///)(?P<path>[^?]+)(?P<options>.*)", re.DOTALL)
# Paths that are none: in memory, on a server, or a URI of SQLite's own.
_NO_PATHS = (":", "md:", "file:", "motherduck:")


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of a file.

    Relative paths in ``files`` and in the URLs of SQLite and DuckDB start at the file's folder.

    Args:
        path: The file.
        environ: Where ``${NAME}`` is looked up.

    Raises:
        ConfigError: With every problem that was found, by line; secrets are masked.
    """
    document = read(path, environ)
    config = _validated(anchored(document.value, path.absolute().parent), document, Config)
    if config is not None:
        document.add(crosscheck(config))
    if config is None or document.problems:
        raise ConfigError(document.said())
    return config


def load_on_call(path: Path) -> tuple[OnCallConfig, list[str]]:
    """Return what those on call need of a file that somebody may be editing, and every problem that it has.

    Where there are problems, all but ``pipeline`` and ``state`` is as if it were not in the file. If it is no YAML,
    the lines that begin with these two are read alone.

    Raises:
        ConfigError: The file cannot be read, or what is wrong with it may be about these two.
    """
    try:
        return load(path), []
    except ConfigError as error:
        problems = error.problems
    folder = path.absolute().parent
    try:
        document = read(path, os.environ)
        _validated(anchored(document.value, folder), document, Config)
    except ConfigError:
        document = _lines(path, problems)
    own = {key: document.value[key] for key in ON_CALL if key in document.value}
    config = _validated(anchored(own, folder), document, OnCallConfig)
    if config is not None:
        document.add(state_url(config))
    # What is misspelt may stand for one of them.
    wrong = {place[0] for problem in document.problems for place in (problem.where, problem.meant) if place}
    if config is None or wrong.intersection(ON_CALL):
        raise ConfigError(list(dict.fromkeys([*problems, *document.said()])))
    return config, problems


def _lines(path: Path, problems: list[str]) -> Document:
    """Return the lines of a file that those on call need; without any, its problems are raised."""
    try:
        return read(path, os.environ, ON_CALL)
    except ConfigError:
        raise ConfigError(problems) from None


def _validated(value: Any, document: Document, kind: type[C]) -> C | None:
    """Return the configuration, noting what is wrong with it.

    Wrong parts are taken out and the rest is tried again, so that problems of all kinds are found
    at once; None where too little is left.
    """
    for attempt in range(MOST_ATTEMPTS):
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            if attempt == 0:
                # What is wrong later on is wrong because something was taken out.
                document.add(problems_of(error, document))
            taken = [_take_out(value, entry["loc"]) for entry in error.errors(include_url=False)]
            if not any(taken):
                return None
    return None


def _take_out(value: Any, location: tuple[str | int, ...]) -> bool:
    """Remove the innermost part of a location that exists; return whether anything was removed."""
    inner, path = value, []
    for part in location:
        if isinstance(inner, dict) and part in inner:
            path.append((inner, part))
            inner = inner[part]
    if len(path) < LEAST_DEPTH and (not path or path[-1][1] != location[-1]):
        return False
    parent, part = path[-1]
    del parent[part]
    return True


def anchored(value: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration with relative paths made absolute, whatever else it holds."""
    found = {**value, "state": _anchored_url(value.get("state", DEFAULT_STATE), folder)}
    server = value.get("server")
    if isinstance(server, dict) and isinstance(tls := server.get("tls"), dict):
        beside = {key: _beside(name, folder) for key, name in tls.items()}
        found["server"] = {**server, "tls": beside}
    for section, key, change in (("datasets", "files", _anchored_path), ("engines", "url", _anchored_url)):
        entries = value.get(section)
        if isinstance(entries, dict):
            found[section] = {
                name: {**entry, key: change(entry[key], folder)} if isinstance(entry, dict) and key in entry else entry
                for name, entry in entries.items()
            }
    return found


def _beside(value: Any, folder: Path) -> Any:
    return os.path.join(folder, os.path.expanduser(value)) if isinstance(value, str) and value else value


def _anchored_path(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not value or "://" in value:
        return value
    # Stars are for the part that the user wrote; those in the name of a folder are just its name.
    return os.path.join(glob.escape(str(folder)), os.path.expanduser(value))


def _anchored_url(value: Any, folder: Path) -> Any:
    match = _FILE_URL.fullmatch(value) if isinstance(value, str) else None
    if match is None or match["path"].startswith(_NO_PATHS):
        return value
    path = os.path.join(str(folder).replace("%", "%25").replace("?", "%3F"), os.path.expanduser(match["path"]))
    return f"{match['start']}{path}{match['options']}"
