"""What a check means, in full: its docstring, its settings with their origin, and the SQL it would run."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args, get_origin, get_type_hints

import sqlalchemy as sa

from checks.baseline import Baseline
from checks.check import Check
from checks.fuse import fuse
from checks.measure import Listing, Measure
from checks.rows import Rows
from checks.settings import Setting
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.durations import duration_text
from monitor.errors import EngineError
from monitor.resolve import Pipeline, Resolver
from monitor.runner import Runner, Task
from monitor.schedule import newest
from monitor.store import Store

DEFAULT = "default"
_PIECE = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[(),]|\s+|[^\s'"(),]+|.""")
# Words that begin a line, and the words after which they do not.
_CLAUSES: Mapping[str, tuple[str, ...]] = {
    "WITH": (),
    "SELECT": (),
    "FROM": ("DISTINCT",),
    "WHERE": (),
    "GROUP": ("WITHIN",),
    "HAVING": (),
    "ORDER": (),
    "LIMIT": (),
    "UNION": (),
    "LEFT": (),
    "INNER": (),
    "JOIN": ("OUTER", "INNER", "LEFT", "CROSS"),
}


@dataclass(frozen=True)
class Explained:
    """One setting.

    Args:
        name: Its key.
        value: As the configuration would spell it.
        origin: Where it is set, or ``default``.
        bounds: What it may be, such as ``0 to 1``; empty where everything of its kind may be.
        meaning: One sentence.
    """

    name: str
    value: str
    origin: str
    bounds: str
    meaning: str


@dataclass(frozen=True)
class Statement:
    """A statement that a check would run, and what it is for."""

    title: str
    sql: str


def words(check: type[Check[Any]]) -> tuple[str, Mapping[str, str]]:
    """Return the first sentence of a check's docstring, and its sections by title."""
    text = inspect.cleandoc(check.__doc__ or "")
    head, *rest = text.split("\n\n")
    sections = {}
    for part in rest:
        title, _, body = part.partition(":\n")
        sections[title] = " ".join(line.strip() for line in body.splitlines()).replace("``", "")
    return head, sections


def settings(check: type[Check[Any]], config: Config | None, dataset: str) -> Iterator[Explained]:
    """Yield every setting of a check on a dataset, with where its value comes from.

    Args:
        check: Which check.
        config: Where settings stand; None for the defaults.
        dataset: Which dataset; unused without a configuration.
    """
    hints = get_type_hints(check.settings_type, include_extras=True)
    values = config.settings(dataset, check.id, check.settings_type) if config else check.settings_type()
    for field in (one for one in dataclasses.fields(check.settings_type) if one.init):
        origin = _origin(config, dataset, check.id, field.name) if config else DEFAULT
        kind, *found = get_args(hints[field.name])
        # The outermost says most about this very setting.
        setting = [entry for entry in found if isinstance(entry, Setting)][-1]
        value = value_text(getattr(values, field.name))
        yield Explained(field.name, value, origin, _bounds(setting, kind), setting.doc)


def _origin(config: Config, dataset: str, check: str, name: str) -> str:
    sections = (
        (config.datasets[dataset].checks, f"datasets.{dataset}.checks.{check}"),
        (config.checks, f"checks.{check}"),
    )
    for section, where in sections:
        own = getattr(section, check)
        if own is not None and name in own.model_fields_set:
            return where
    return DEFAULT


def _bounds(setting: Setting, kind: Any) -> str:
    """Return what a setting may be."""
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    low, high = (
        None if bound is None else duration_text(timedelta(seconds=bound)) if kind is timedelta else f"{bound:g}"
        for bound in (setting.low, setting.high)
    )
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"{low} or more" if low is not None else f"{high} or less" if high is not None else ""


def value_text(value: Any) -> str:
    """Return a setting's value as the configuration would spell it."""
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(value_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_text(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def statements(
    pipeline: Pipeline, dataset: str, check: Check[Any], at: datetime, store: Store | None
) -> tuple[list[str], list[Statement]]:
    """Return remarks, and the SQL that a check would run on its newest window as of a moment.

    Args:
        pipeline: Engines and checks.
        dataset: A watched dataset.
        check: One of its checks.
        at: Which window is the newest.
        store: Where baselines come from; None where there is no state yet.

    Raises:
        EngineError: The engine cannot be asked for the columns, or the data has not what the check reads.
    """
    with ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        runner = Runner(pipeline, store, ManualClock(at))
        runner.remembers = False
        window = newest(check, at)
        described = runner.describe(resolver, dataset, [Task(check, window)])
        reason = check.absent(described)
        if reason is not None:
            return [f"no SQL: the check is disabled, it {reason}"], []
        baseline = store.baseline(dataset, check.id, window) if store is not None else Baseline()
        remarks = []
        if check.has_reference and not baseline.frozen:
            remarks.append("there is no reference yet, so less is read; recwatch baseline build makes one")
        try:
            parts = check.measures(Rows(described, window), baseline)
        except ValueError as error:
            raise EngineError(str(error)) from error
        return remarks, [*_views(resolver, pipeline, dataset), *_statements(resolver, parts)]


def _views(resolver: Resolver, pipeline: Pipeline, dataset: str) -> Iterator[Statement]:
    """Yield what the names of datasets stand for, where recwatch makes a view of them for itself."""
    for name in dict.fromkeys((dataset, *pipeline.config.datasets[dataset].links.values())):
        session = resolver.session(name)
        if session.engine.dialect.name == "duckdb":
            views: Any = sa.text("duckdb_views()")
            made: Any = sa.select(sa.column("sql")).select_from(views).where(sa.column("view_name") == name)
            for (sql,) in session.run(made, 1, f"view of {name}"):
                yield Statement(f"what {name} stands for", sql.strip().removesuffix(";"))


def _statements(resolver: Resolver, parts: Sequence[Measure | Listing]) -> Iterator[Statement]:
    for scan in fuse([part for part in parts if isinstance(part, Measure)]):
        engine = resolver.session(scan.rows.dataset.name).engine
        title = "counts, one row per source; fused with the other checks on this window"
        yield Statement(title, readable(engine.compile(scan.statement)))
    for part in parts:
        if isinstance(part, Listing):
            engine = resolver.session(part.rows.dataset.name).engine
            rows = "1 row" if part.row_limit == 1 else f"{part.row_limit:,} rows"
            title = f"{part.name}, at most {rows}" + (", only if the counts ask for it" if part.only_if else "")
            yield Statement(title, readable(engine.compile(part.statement)))


def readable(sql: str) -> str:
    """Return a statement with a line for each clause, column and condition; nothing but spaces changes.

    Examples:
        >>> print(readable("SELECT a, count(*) AS n FROM (SELECT a FROM t WHERE x AND y) AS r GROUP BY a"))
        SELECT a,
          count(*) AS n
        FROM (
          SELECT a
          FROM t
          WHERE x
            AND y
        ) AS r
        GROUP BY a
    """
    text, previous = "", ""
    # For each open bracket: whether it holds a query, the clause that it is in, and its depth.
    brackets: list[tuple[bool, str, int]] = [(True, "", 0)]
    for piece in _PIECE.findall(sql):
        if piece.isspace():
            text += "" if text.endswith((" ", "\n")) else " "
            continue
        word = piece.upper()
        is_query, clause, depth = brackets[-1]
        if previous == "(" and word in ("SELECT", "WITH"):
            is_query, depth = True, _depth(text) + 1
        if word == ")" and len(brackets) > 1:
            brackets.pop()
            text = _new_line(text, depth - 1) if is_query else text
        elif is_query and word in _CLAUSES and previous not in _CLAUSES[word]:
            brackets[-1] = (True, word, depth)
            text = _new_line(text, depth)
        elif is_query and word == "AND" and clause in ("WHERE", "HAVING"):
            text = _new_line(text, depth + 1)
        text += piece
        if piece == "(":
            brackets.append((False, "", depth))
        elif piece == "," and is_query and clause in ("SELECT", "WITH"):
            text = _new_line(text, depth + (clause == "SELECT"))
        previous = word
    return text


def _depth(text: str) -> int:
    line = text.rpartition("\n")[2]
    return (len(line) - len(line.lstrip(" "))) // 2


def _new_line(text: str, depth: int) -> str:
    return f"{text.rstrip(' ')}\n{'  ' * depth}" if text.strip() else text
