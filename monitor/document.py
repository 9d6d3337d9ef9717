"""Reads a YAML file within bounds, keeps the place of every value, and fills in what ``${...}`` stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from monitor.config import may_hold_secret
from monitor.errors import ConfigError
from monitor.references import References

Where = tuple[str | int, ...]
MOST_BYTES, MOST_NODES, MOST_DEPTH, MOST_SHOWN = 1_000_000, 20_000, 40, 60
UNSAID: Any = object()
AS_WRITTEN: Any = object()
LONGEST_NUMBER = 400
_KINDS = {"bool": "truth value", "int": "whole number", "float": "number", "null": "null", "timestamp": "date or time"}
_PLAIN = "tag:yaml.org,2002:"
# A password may stand before an @, a token in the query.
_SECRET_URL = re.compile(r"://.*[@?]", re.DOTALL)
# What PyYAML says, and what a person can do about it.
_HINTS = (
    (r"'\t'", "a tab cannot indent", "use spaces"),
    ("undefined alias", "a name after * that no & gives", "put text that starts with * into quotes"),
    ("cannot start any token", "text cannot start with this character", "put it into quotes"),
    ("mapping values are not allowed", "a colon where no key can be", "indent the line, or put the text into quotes"),
    ("another document", "there is a second document", "keep one"),
)


@dataclass(frozen=True)
class Problem:
    """What is wrong at a place of the configuration.

    Args:
        where: Keys and positions that lead to the place.
        rule: What has to hold.
        todo: What to do about it.
        got: The value seen, or ``AS_WRITTEN``; masked where it may be secret, left out by default.
        rests_on: Places where something being wrong already explains this problem.
        meant: The key that was probably meant by a misspelt one.
        at: Line and column, where ``where`` stands twice.
    """

    where: Where
    rule: str
    todo: str = ""
    got: Any = UNSAID
    rests_on: tuple[Where, ...] = ()
    meant: Where | None = None
    at: tuple[int, int] | None = None


@dataclass
class Document:
    """A configuration file as read: plain values, and where each of them stands.

    Args:
        path: The file, as the user named it.
        value: Its contents.
        places: Line and column of each key, or of each entry of a list.
        texts: How each single value is written; what was filled in is not among them.
        secrets: Places of values that came from the environment or a file.
        problems: What was found to be wrong so far.
    """

    path: Path
    value: Any = None
    places: dict[Where, tuple[int, int]] = field(default_factory=dict)
    texts: dict[Where, str] = field(default_factory=dict)
    secrets: set[Where] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def place(self, where: Where) -> tuple[int, int]:
        """Return line and column of the nearest place that exists."""
        while where and where not in self.places:
            where = where[:-1]
        return self.places.get(where, (1, 1))

    def add(self, problems: Iterable[Problem]) -> None:
        """Add problems of a later look, but for those that what is known to be wrong already explains."""
        known = {problem.where for problem in self.problems}
        known |= {problem.meant for problem in self.problems if problem.meant is not None}
        for problem in problems:
            own = {found.where for found in self.problems}
            is_explained = any(rest in own or any(within(place, rest) for place in known) for rest in problem.rests_on)
            if problem.where not in own and not is_explained:
                self.problems.append(problem)

    def said(self) -> list[str]:
        """Return the problems as lines, in the order of the file, each once."""
        lines = {}
        for problem in self.problems:
            line, column = problem.at or self.place(problem.where)
            name = spelt(problem.where)
            text = f"{self.path}:{line}:{column}: " + (f"{name}: " if name else "") + problem.rule
            if problem.got is not UNSAID:
                text += f", got {self.shown(problem.where, problem.got)}"
            lines[on_one_line(text + (f"; {problem.todo}" if problem.todo else ""))] = (line, column)
        return sorted(lines, key=lambda text: lines[text])

    def shown(self, where: Where, value: Any) -> str:
        """Return a value for a message: as written, secrets masked, long ones cut, never more than a line."""
        if value is AS_WRITTEN:
            value = self.texts.get(where, "***")
        if isinstance(value, Mapping):
            return "a mapping"
        if isinstance(value, list | tuple):
            return "a list"
        if may_hold_secret(where) or any(within(secret, where) for secret in self.secrets):
            return "***"
        if value is None or value == "":
            return "nothing"
        text = value if isinstance(value, str) else self.texts.get(where, str(value))
        if _SECRET_URL.search(text):
            return "***"
        return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def within(place: Where, other: Where) -> bool:
    """Return whether one of two places is the other one, or lies in it."""
    shorter = min(len(place), len(other))
    return place[:shorter] == other[:shorter]


def on_one_line(text: str) -> str:
    r"""Return a text with what cannot be printed written out.

    Examples:
        >>> on_one_line("a\nb")
        'a\\nb'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def spelt(where: Where) -> str:
    """Return a place as people write it.

    Examples:
        >>> spelt(("datasets", "events", "features", 0))
        'datasets.events.features[0]'
    """
    text = ""
    for part in where:
        name = f"[{part}]" if isinstance(part, int) else "***" if _SECRET_URL.search(part) else part
        text += name if isinstance(part, int) or not text else f".{name}"
    return text


def read(path: Path, environ: Mapping[str, str], keys: Sequence[str] = ()) -> Document:
    """Return a YAML file with its places; what ``${...}`` stands for is filled in.

    Args:
        path: The file; at most 1 MB.
        environ: Where ``${NAME}`` is looked up.
        keys: Only lines that begin with one of these keys are read; the others need be no YAML. All if empty.

    Raises:
        ConfigError: The file cannot be read, is not one YAML mapping, or grows beyond all bounds.
    """
    text = _text(path)
    if keys:
        # The others stay as empty lines, so that places are right.
        text = "\n".join(line if line.startswith(tuple(f"{key}:" for key in keys)) else "" for line in text.split("\n"))
    node = _composed(path, text)
    if not isinstance(node, yaml.MappingNode):
        what = "is empty" if node is None else "must be a mapping of keys"
        raise ConfigError([f"{path}:1:1: {what}; start with: datasets:"])
    document = Document(path)
    document.value = _Reader(document, References(environ, path.parent)).value(node, ())
    return document


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            [f"{path}: no such file; write one with: recwatch init PATH_OR_URL -o {quote(str(path))}"]
        ) from None
    except IsADirectoryError:
        raise ConfigError([f"{path}: is a folder; name the file in it"]) from None
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise ConfigError([f"{path}: cannot be read: {why}; check its path and rights"]) from None
    if len(content) > MOST_BYTES:
        raise ConfigError([f"{path}: has more than {MOST_BYTES:,} bytes; a configuration is shorter, name that file"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            [f"{path}:{line}:1: is not UTF-8, got the byte {content[error.start]:#x}; save it as UTF-8"]
        ) from None


class _Loader(yaml.SafeLoader):
    """Composes nodes only as deep, and as many, as a configuration can have."""

    depth = nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.nodes += 1
        # Keys are nodes, too; the exact count of values comes later, with aliases written out.
        if self.depth > MOST_DEPTH or self.nodes > 2 * MOST_NODES + 1:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            why = "nested too deep" if self.depth > MOST_DEPTH else f"more than {MOST_NODES:,} values"
            raise yaml.MarkedYAMLError(problem=why, problem_mark=event.start_mark)
        found: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return found


def _composed(path: Path, text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        says = f"has the character {error.character:#x}, which YAML does not allow; remove it"
        raise ConfigError([f"{path}:{line}:1: {says}"]) from None
    except yaml.YAMLError as error:
        mark, says = getattr(error, "problem_mark", None), str(getattr(error, "problem", None) or "cannot be read")
        at = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        told = [f"{what}; {todo}" for sign, what, todo in _HINTS if sign in says]
        hint = told[0] if told else f"{says}; check quotes, brackets and indentation up to here"
        raise ConfigError([f"{path}:{at}: is not YAML: {hint}"]) from None


class _Reader:
    """Turns YAML nodes into values, and notes where they stand."""

    def __init__(self, document: Document, references: References) -> None:
        self._document, self._references = document, references
        self._scalars = yaml.SafeLoader("")
        self._nodes = 0

    def value(self, node: yaml.Node, where: Where) -> Any:
        """Return the value of a node."""
        self._document.places.setdefault(where, _mark(node))
        self._nodes += 1
        # An alias is counted wherever it stands, and one that holds itself has no bottom.
        if self._nodes > MOST_NODES or len(where) > MOST_DEPTH:
            (line, column), most = (
                _mark(node),
                f"more than {MOST_NODES:,} values, or is nested deeper than {MOST_DEPTH}",
            )
            raise ConfigError([f"{self._document.path}:{line}:{column}: has {most}; write aliases (*name) out"])
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where)
        if node.tag not in (f"{_PLAIN}map", f"{_PLAIN}seq"):
            self._note(where, f"has the tag {node.tag.replace(_PLAIN, '!!')}, which means nothing here", "remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        return [self.value(entry, (*where, at)) for at, entry in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            at = _mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(where, "a key must be a word", "write it without brackets", at=at)
                continue
            key = key_node.value
            place = (*where, key)
            if key_node.tag == f"{_PLAIN}merge":
                self._note(place, "keys cannot be merged in", "write them out", at=at)
            elif key in found:
                says = f"stands twice, first in line {self._document.places[place][0]}"
                self._note(place, says, "keep one of them", at=at)
            else:
                self._document.places[place] = at
                found[key] = self.value(value_node, place)
        return found

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> Any:
        kind = node.tag.removeprefix(_PLAIN)
        if kind == "str":
            filled = self._references.fill(node.value)
            if filled.has_reference:
                self._document.secrets.add(where)
            else:
                self._document.texts[where] = filled.text
            for rule, todo in filled.problems:
                self._note(where, rule, todo)
            return filled.text
        if kind not in _KINDS:
            self._note(where, f"has the tag {node.tag.replace(_PLAIN, '!!')}, which means nothing here", "remove it")
            return node.value
        self._document.texts[where] = node.value
        if len(node.value) > LONGEST_NUMBER:
            # Python takes long over such numbers, and does not write them out again.
            self._note(where, f"is no {_KINDS[kind]}", "put it into quotes if it is text", node.value)
            return node.value
        try:
            return self._scalars.construct_object(node)
        except (ValueError, OverflowError, yaml.YAMLError):
            self._note(where, f"is no {_KINDS[kind]}", "correct it, or put it into quotes if it is text", node.value)
            return node.value

    def _note(self, where: Where, rule: str, todo: str, got: Any = UNSAID, at: tuple[int, int] | None = None) -> None:
        self._document.problems.append(Problem(where, rule, todo, got, at=at))


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
