"""What a check means, in full: its docstring, its settings with their origin, and the SQL it would run."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from checks.baseline import Baseline
from checks.check import Check
from checks.fuse import fuse
from checks.measure import Listing, Measure
from checks.rows import Rows
from checks.settings import Setting
from monitor.config import Config
from monitor.durations import duration_text
from monitor.resolve import Pipeline, Resolver
from monitor.schedule import newest
from monitor.store import Store

COMMON, OWN, DEFAULT = "checks", "datasets", "default"


@dataclass(frozen=True)
class Explained:
    """One setting: its value, where it comes from, and what it means."""

    name: str
    value: str
    origin: str
    meaning: str


def words(check: type[Check[Any]]) -> tuple[str, Mapping[str, str]]:
    """Return the first sentence of a check's docstring, and its sections by title."""
    text = inspect.cleandoc(check.__doc__ or "")
    head, *rest = text.split("\n\n")
    sections = {}
    for part in rest:
        title, _, body = part.partition(":\n")
        sections[title] = " ".join(line.strip() for line in body.splitlines()).replace("``", "")
    return head, sections


def settings(check: type[Check[Any]], config: Config | None, dataset: str | None) -> Iterator[Explained]:
    """Yield every setting of a check, with where its value comes from."""
    hints = get_type_hints(check.settings_type, include_extras=True)
    has_config = config is not None and dataset is not None
    values = config.settings(dataset, check.id, check.settings_type) if has_config else check.settings_type()  # type: ignore[union-attr, arg-type]
    for field in dataclasses.fields(check.settings_type):
        meaning = _meaning(hints[field.name])
        origin = _origin(config, dataset, check.id, field.name) if has_config else DEFAULT  # type: ignore[arg-type]
        yield Explained(field.name, value_text(getattr(values, field.name)), origin, meaning)


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


def _meaning(annotation: Any) -> str:
    """Return what a setting means, with its bounds."""
    if get_origin(annotation) is not Annotated:
        return ""
    kind, *found = get_args(annotation)
    # The outermost says most about this very setting.
    setting = [entry for entry in found if isinstance(entry, Setting)][-1]
    return setting.doc + _bounds(setting, kind)


def _bounds(setting: Setting, annotation: Any) -> str:
    unit = "s" if annotation is timedelta else ""
    parts = [
        f"{word} {bound:g}{unit}"
        for word, bound in (("at least", setting.low), ("at most", setting.high))
        if bound is not None
    ]
    return f" ({', '.join(parts)})" if parts else ""


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
    return {True: "true", False: "false", None: "null"}.get(value, str(value)) if not isinstance(value, str) else value


def statements(pipeline: Pipeline, dataset: str, check: Check[Any], at: datetime, store: Store | None) -> list[str]:
    """Return the SQL that a check would run on its newest window as of a moment.

    Raises:
        EngineError: The engine cannot be asked for the columns.
    """
    with ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        described = resolver.dataset(dataset)
        reason = check.absent(described)
        if reason is not None:
            return [f"-- disabled: it {reason}"]
        window = newest(check, at)
        baseline = store.baseline(dataset, check.id, window) if store is not None else Baseline()
        parts = check.measures(Rows(described, window), baseline)
        found = []
        for scan in fuse([part for part in parts if isinstance(part, Measure)]):
            engine = resolver.session(scan.rows.dataset.name).engine
            head = "-- counts, one row per source; shared with all checks on this window"
            found.append(f"{head}\n{engine.compile(scan.statement)}")
        for part in parts:
            if isinstance(part, Listing):
                engine = resolver.session(part.rows.dataset.name).engine
                only = ", only if the counts say so" if part.only_if else ""
                head = f"-- {part.name}: at most {part.row_limit:,} rows{only}"
                found.append(f"{head}\n{engine.compile(part.statement)}")
    return found
