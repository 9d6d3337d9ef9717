"""Finds the place of a problem in a configuration file: line and column of every key and value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from monitor.config import Config, DatasetConfig, EngineConfig
from monitor.errors import ConfigError

Where = tuple[str | int, ...]
_REFERENCE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?)\}")
_SECRET_KEYS = {"url", "state"}
MOST_NODES = 20_000


@dataclass(frozen=True)
class Problem:
    """What is wrong at a place of the configuration."""

    where: Where
    says: str


@dataclass
class Document:
    """A configuration file as read: plain values, and where each of them stands."""

    path: Path
    value: Any = None
    places: dict[Where, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    secrets: set[Where] = field(default_factory=set)

    def place(self, where: Where) -> tuple[int, int]:
        """Return line and column of the nearest place that exists."""
        while where and where not in self.places:
            where = where[:-1]
        return self.places.get(where, (1, 1))

    def said(self) -> list[str]:
        """Return the problems as lines, in the order of the file, each once."""
        lines = {}
        for problem in self.problems:
            line, column = self.place(problem.where)
            name = spelt(problem.where)
            head = f"{self.path}:{line}:{column}: " + (f"{name}: " if name else "")
            lines[head + problem.says] = (line, column)
        return sorted(lines, key=lambda text: lines[text])

    def shown(self, where: Where, value: Any) -> str:
        """Return a value for a message; secrets are masked, long ones cut."""
        if where in self.secrets or (where and where[-1] in _SECRET_KEYS):
            return "***"
        text = str(value)
        return text if len(text) <= 60 else f"{text[:57]}..."


def spelt(where: Where) -> str:
    """Return a place as people write it.

    Examples:
        >>> spelt(("datasets", "events", "features", 0))
        'datasets.events.features[0]'
    """
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read(path: Path, environ: Mapping[str, str]) -> Document:
    """Return a YAML file with its places; what ``${...}`` stands for is filled in.

    Raises:
        ConfigError: The file cannot be read, or is not one YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; write one with: recwatch init"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        raise ConfigError([f"{path}:{at}: is not YAML: {getattr(error, 'problem', None) or error}"]) from None
    if not isinstance(node, yaml.MappingNode):
        what = "is empty" if node is None else "must be a mapping of keys"
        raise ConfigError([f"{path}:1:1: {what}; start with: datasets:"])
    document = Document(path)
    reader = _Reader(document, environ, path.parent)
    document.value = reader.value(node, ())
    return document


class _Reader:
    """Turns YAML nodes into values, and notes where they stand."""

    def __init__(self, document: Document, environ: Mapping[str, str], folder: Path) -> None:
        self._document, self._environ, self._folder = document, environ, folder
        self._scalars = yaml.SafeLoader("")
        self._nodes = 0

    def value(self, node: yaml.Node, where: Where) -> Any:
        """Return the value of a node."""
        self._document.places.setdefault(where, (node.start_mark.line + 1, node.start_mark.column + 1))
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise ConfigError([f"{self._document.path}: has more than {MOST_NODES:,} values; aliases may multiply"])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(entry, (*where, at)) for at, entry in enumerate(node.value)]
        found = self._scalars.construct_object(node)
        return self._filled(found, where) if isinstance(found, str) else found

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            place = (*where, key)
            self._document.places[place] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key in found:
                self._document.problems.append(Problem(place, "stands twice; keep one of them"))
            found[key] = self.value(value_node, place)
        return found

    def _filled(self, text: str, where: Where) -> str:
        def fill(match: re.Match[str]) -> str:
            self._document.secrets.add(where)
            if match["file"]:
                return self._from_file(match["file"], where)
            found = self._environ.get(match["name"], match["default"])
            if found is None:
                says = f"the environment variable {match['name']} is not set; export it"
                self._document.problems.append(Problem(where, says))
            return found or ""

        return _REFERENCE.sub(fill, text)

    def _from_file(self, name: str, where: Where) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8").strip()
        except OSError as error:
            says = f"the file {name} cannot be read: {error.strerror}; check its path and rights"
            self._document.problems.append(Problem(where, says))
            return ""


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """Return the problems of a schema error; a misspelt key that is also missing is one problem."""
    found, hinted = [], set()
    for entry in error.errors(include_url=False):
        if entry["loc"][-1] == "str" and isinstance(entry.get("input"), dict):
            # A role is a name or a mapping; of a mapping, what is wrong with it as one is reported.
            continue
        where = _known_place(entry["loc"], document)
        if entry["type"] == "extra_forbidden":
            hint, name = _nearest(where, error)
            hinted.add((*where[:-1], name))
            found.append(Problem(where, f"unknown key; {hint}"))
        else:
            found.append(Problem(where, _said(entry, where, document)))
    return [problem for problem in found if problem.where not in hinted or "unknown key" in problem.says]


def _known_place(where: Where, document: Document) -> Where:
    """Return a location without the names of union members that pydantic puts into it."""
    kept: Where = ()
    for at, part in enumerate(where):
        is_last_missing = at == len(where) - 1 and isinstance(part, str) and part.isidentifier()
        if (*kept, part) in document.places or is_last_missing:
            kept = (*kept, part)
    return kept


def _nearest(where: Where, error: ValidationError) -> tuple[str, str]:
    names = _names(where[:-1])
    close = get_close_matches(str(where[-1]), names, 1, 0.6)
    if close:
        return f"did you mean {close[0]}?", close[0]
    return f"use one of {', '.join(sorted(names))}", ""


def _names(where: Where) -> list[str]:
    """Return the keys that may stand at a place."""
    section: type[BaseModel] | None = Config
    parts = list(where)
    if parts[:1] == ["datasets"]:
        section = DatasetConfig
        parts = parts[2:]
    elif parts[:1] == ["engines"]:
        section, parts = EngineConfig, parts[2:]
    for part in parts:
        if section is None:
            return []
        found = section.model_fields.get(str(part))
        section = _model(found.annotation) if found is not None else None
    return list(section.model_fields) if section is not None else []


def _model(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _said(entry: Any, where: Where, document: Document) -> str:
    """Return one problem in words: the rule, the value, what to do."""
    if entry["type"] == "missing":
        return f"is missing; add {where[-1]}"
    value = document.shown(where, entry.get("input"))
    if entry["type"] in ("enum", "literal_error"):
        names = re.findall(r"'([^']*)'", str(entry["ctx"]["expected"]))
        close = get_close_matches(value, names, 1, 0.6)
        todo = f"did you mean {close[0]}?" if close else f"use one of {', '.join(names)}"
        return f"is not known, got {value}; {todo}"
    message = str(entry["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if ";" in message and entry["type"] == "value_error":
        rule, _, todo = message.partition(";")
        return f"{rule}, got {value};{todo}"
    return f"{message.replace('input should', 'must')}, got {value}"
