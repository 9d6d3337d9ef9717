"""The files of many pipelines: which ones there are, and what one of them may not say beside the others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from monitor.config import Config
from monitor.config_server import ServerConfig
from monitor.document import read
from monitor.errors import ConfigError, RecwatchError
from monitor.load import load

ENDINGS = (".yml", ".yaml")


class Agreement:
    """What holds for all files of one process: names that are unlike each other, and one server.

    Args:
        files: The files, in order; the first that has a section ``server`` says where all are served.
        given: Parts of where to serve, whatever the files say.
    """

    def __init__(self, files: Sequence[Path], given: Mapping[str, object] | None = None) -> None:
        self._given = given or {}
        self._stated_in, stated = _stated(files)
        self.server = self._placed(stated)

    def read(self, path: Path, taken: Mapping[Path, str]) -> Config:
        """Return the configuration of a file, as one of many.

        Args:
            path: The file.
            taken: Names of pipelines, by the files that have them.

        Raises:
            ConfigError: It is wrong, has the name of another, or wants to be served elsewhere.
        """
        config = load(path)
        problems = [*named_alike(path, config.pipeline, taken), *self._served_apart(path, config)]
        if problems:
            raise ConfigError(problems)
        # Who may see what depends on the address that is really bound.
        return config.model_copy(update={"server": self.server})

    def _served_apart(self, path: Path, config: Config) -> list[str]:
        if "server" not in config.model_fields_set or self._placed(config.server) == self.server:
            return []
        if path == self._stated_in:
            return [f"{path}: server: cannot change while the process runs; restart it"]
        of = f"that of {self._stated_in}" if self._stated_in else "where the others are served already"
        return [f"{path}: server: must be {of}: one process has one server; state it in one file, or with --host"]

    def _placed(self, server: ServerConfig) -> ServerConfig:
        return server.model_copy(update=dict(self._given))


def files_of(places: Sequence[Path]) -> list[Path]:
    """Return the files in some places, in the order of the places, those of a folder by name."""
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            found += sorted(path for path in place.iterdir() if path.suffix in ENDINGS and path.is_file())
        elif place.is_file():
            found.append(place)
    return list(dict.fromkeys(found))


def nothing_here(places: Sequence[Path]) -> str:
    """Return what to say of places without a single file."""
    return f"{', '.join(map(str, places))}: no configuration is here; add a file that ends in .yml"


def named_alike(path: Path, name: str, taken: Mapping[Path, str]) -> list[str]:
    """Return what is wrong with the name of a pipeline beside those of other files."""
    return [
        f"{path}: pipeline: must be unlike that of {other}, got {name}; rename one of them"
        for other, used in taken.items()
        if other != path and used == name
    ]


def name_in(path: Path) -> str | None:
    """Return the name of the pipeline of a file that may be wrong; None where it does not tell it."""
    try:
        found = read(path, os.environ).value.get("pipeline")
    except (RecwatchError, ValueError, AttributeError):
        return None
    return str(found) if found else None


def _stated(files: Sequence[Path]) -> tuple[Path | None, ServerConfig]:
    """Return the first file that says where to serve, and where that is."""
    for path in files:
        try:
            config = load(path)
        except (RecwatchError, ValueError):
            # It is told about when it is started.
            continue
        if "server" in config.model_fields_set:
            return path, config.server
    return None, ServerConfig()
