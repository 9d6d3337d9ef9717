"""Reads a configuration file: YAML, secrets from the environment or files, paths beside the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from monitor.config import Config
from monitor.crosscheck import crosscheck
from monitor.errors import ConfigError
from monitor.locate import Document, problems_of, read

MOST_ATTEMPTS = 5
# A whole section is taken out only if it is wrong itself: without it, its absence would be reported.
LEAST_DEPTH = 2
_FILE_URLS = ("sqlite:///", "duckdb:///")


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of a file.

    Args:
        path: The file; relative paths in it are taken from its folder.
        environ: Where ``${NAME}`` is looked up.

    Raises:
        ConfigError: With every problem that was found, by line.
    """
    document = read(path, environ)
    value = anchored(document.value, path.resolve().parent)
    config = _validated(value, document)
    if config is not None:
        # What is wrong already (a variable that is not set, say) is not wrong for a second reason,
        # and what is about all datasets may be so because one of them was taken out.
        known = {problem.where for problem in document.problems}
        whole = {("datasets",)} if known else set()
        document.problems.extend(found for found in crosscheck(config) if found.where not in known | whole)
    if config is None or document.problems:
        raise ConfigError(document.said())
    return config


def _validated(value: Any, document: Document) -> Config | None:
    """Return the configuration, noting what is wrong with it.

    Wrong parts are taken out and the rest is tried again, so that problems of all kinds are found
    at once; None where too little is left.
    """
    for attempt in range(MOST_ATTEMPTS):
        try:
            return Config.model_validate(value)
        except ValidationError as error:
            if attempt == 0:
                # What is wrong later on is wrong because something was taken out.
                document.problems.extend(problems_of(error, document))
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


def anchored(value: Any, folder: Path) -> Any:
    """Return the configuration with relative paths made absolute, whatever else it holds."""
    if not isinstance(value, dict):
        return value
    found = {**value, "state": _anchored_url(value.get("state", "sqlite:///recwatch-state.db"), folder)}
    for section, key, change in (("datasets", "files", _anchored_path), ("engines", "url", _anchored_url)):
        entries = value.get(section)
        if isinstance(entries, dict):
            found[section] = {
                name: {**entry, key: change(entry[key], folder)} if isinstance(entry, dict) and key in entry else entry
                for name, entry in entries.items()
            }
    return found


def _anchored_path(value: Any, folder: Path) -> Any:
    is_local = isinstance(value, str) and "://" not in value
    return str(folder / value) if is_local else value


def _anchored_url(value: Any, folder: Path) -> Any:
    for start in _FILE_URLS:
        if isinstance(value, str) and value.startswith(start):
            name = value.removeprefix(start)
            if name and not name.startswith(("/", ":")):
                return f"{start}{folder / name}"
    return value
