"""What a schema cannot say about a configuration: references, and settings that contradict each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from checks import CATALOGUE
from checks.dataset import Dataset, Role, dataset_table
from monitor.config import EMBEDDED, Config
from monitor.durations import duration_text
from monitor.locate import Problem

# Event counts need windows that tile the time line; each row is then counted once.
COUNTING = ("ingestion", "unknown_ids", "duplicates", "contract")
LINK_ROLES = {
    "users": (Role.USER,),
    "items": (Role.ITEM,),
    "user_vocabulary": (Role.USER,),
    "item_vocabulary": (Role.ITEM,),
    "sent": (Role.EVENT_TIME, Role.INGESTED_AT),
    "rejected": (Role.EVENT_TIME, Role.INGESTED_AT),
}
JOINED = ("users", "items", "user_vocabulary", "item_vocabulary")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def crosscheck(config: Config) -> list[Problem]:
    """Return what is wrong beyond the schema."""
    return [problem for rule in RULES for problem in rule(config)]


def _names(config: Config) -> Iterator[Problem]:
    for name in config.datasets:
        if not _NAME.fullmatch(name):
            says = f"must be lower case letters, digits and _, and start with a letter, got {name}; rename it"
            yield Problem(("datasets", name), says)


def _engines(config: Config) -> Iterator[Problem]:
    from monitor.engines import DIALECTS

    known = [dialect.name for dialect in DIALECTS]
    for name, engine in config.engines.items():
        where = ("engines", name, "url")
        try:
            backend = make_url(engine.url.get_secret_value()).get_backend_name()
        except ArgumentError:
            yield Problem(where, "is no SQLAlchemy URL, got ***; write postgresql://user:${PASSWORD}@host/database")
            continue
        if backend not in known:
            yield Problem(where, f"no support for {backend}; use one of {', '.join(known)}")


def _datasets(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        where = ("datasets", name)
        if dataset.engine is not None and dataset.engine not in (*config.engines, EMBEDDED):
            yield Problem((*where, "engine"), _unknown("engine", dataset.engine, list(config.engines)))
        elif dataset.table is not None and not config.engines:
            says = "a table needs an engine to read it from, and there is none; add engines"
            yield Problem((*where, "table"), says)
        elif dataset.table is not None and dataset.engine is None and len(config.engines) > 1:
            yield Problem(where, f"which engine has the table is not said; add engine: {next(iter(config.engines))}")


def _links(config: Config) -> Iterator[Problem]:
    from monitor.resolve import engine_name

    for name, dataset in config.datasets.items():
        for link, target in dataset.links.items():
            where = ("datasets", name, link)
            found = config.datasets.get(target)
            if found is None:
                yield Problem(where, _unknown("dataset", target, list(config.datasets)))
                continue
            if not any(role in found.roles for role in LINK_ROLES[link]):
                roles = " or ".join(LINK_ROLES[link])
                yield Problem(
                    where,
                    f"needs the role {roles} in dataset {target}; add datasets.{target}.roles.{LINK_ROLES[link][0]}",
                )
            if link in JOINED and engine_name(config, dataset) != engine_name(config, found):
                yield Problem(where, f"is joined to {name}, so both must lie on one engine; move one of them")


def _watched(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        if dataset.watch and not {Role.EVENT_TIME, Role.INGESTED_AT} & set(dataset.roles):
            yield Problem(("datasets", name, "watch"), "needs a time role to be watched; add roles.event_time")
    if not config.watched():
        says = "no dataset is watched: none that others do not point to has a time role; add roles.event_time to one"
        yield Problem(("datasets",), says)


def _cadences(config: Config) -> Iterator[Problem]:
    for name in config.watched():
        for check in CATALOGUE:
            settings = config.settings(name, check.id, check.settings_type)
            where = _section(config, name, check.id)
            every, window = duration_text(settings.every), duration_text(settings.window)
            if check.id in COUNTING and every != window:
                says = "every and window must be equal, so that each event is counted once"
                yield Problem(where, f"{says}, got {every} and {window}; set both to one")
            for field in ("every", "window", "settle"):
                value = getattr(settings, field)
                if value % timedelta(seconds=1):
                    yield Problem((*where, field), f"must be whole seconds, got {duration_text(value)}; round it")


def _settings(config: Config) -> Iterator[Problem]:
    for name in config.watched():
        for check in CATALOGUE:
            settings: Any = config.settings(name, check.id, check.settings_type)
            where = _section(config, name, check.id)
            for field in fields(settings):
                value = getattr(settings, field.name)
                if field.name.endswith("_pattern") and value is not None:
                    try:
                        re.compile(value)
                    except re.error as error:
                        says = f"is no regular expression: {error}, got {value}; mend it"
                        yield Problem((*where, field.name), says)
            for column, (low, high) in getattr(settings, "ranges", {}).items():
                if low > high:
                    says = f"the least value must not exceed the greatest, got {low:g} and {high:g}; swap them"
                    yield Problem((*where, "ranges", column), says)
            if getattr(settings, "torso_share", 1) < getattr(settings, "head_share", 0):
                yield Problem((*where, "torso_share"), "must be at least head_share; raise it")


def _asked_for(config: Config) -> Iterator[Problem]:
    """A check that somebody configured for a dataset must be able to run on it."""
    for name in config.watched():
        dataset = config.datasets[name]
        roles = {role: str(role) for role in dataset.roles}
        described = Dataset(name, dataset_table(name, {}), {}, roles, features=dataset.features)
        for check in CATALOGUE:
            own = getattr(dataset.checks, check.id)
            if own is None or own.enabled is False:
                continue
            reason = check(config.settings(name, check.id, check.settings_type)).absent(described)
            if reason is not None:
                says = f"{reason}, which dataset {name} does not set; add it, or set enabled: false"
                yield Problem(("datasets", name, "checks", check.id), says)


def _section(config: Config, dataset: str, check: str) -> tuple[str, ...]:
    """Return where the settings of a check stand: with the dataset, else with all."""
    if getattr(config.datasets[dataset].checks, check) is not None:
        return ("datasets", dataset, "checks", check)
    return ("checks", check)


def _unknown(what: str, name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    todo = f"did you mean {close[0]}?" if close else f"use one of {', '.join(known) or 'none yet'}"
    return f"no {what} has this name, got {name}; {todo}"


RULES: tuple[Callable[[Config], Iterator[Problem]], ...] = (
    _names,
    _engines,
    _datasets,
    _links,
    _watched,
    _cadences,
    _settings,
    _asked_for,
)
