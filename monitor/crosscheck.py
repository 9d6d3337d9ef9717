"""What a schema cannot say about a configuration: references, and settings that contradict each other.

A rule is a small function that yields problems; to add one, write it and name it in ``RULES``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from checks import CATALOGUE
from checks.check import Check
from checks.dataset import Role
from checks.rows import PRIVATE_ROLES
from monitor import crosscheck_alerting, crosscheck_streams
from monitor.config import (
    DATASET_NAME,
    EMBEDDED,
    Config,
    DatasetConfig,
    OnCallConfig,
    TimeColumn,
    column_name,
    described,
)
from monitor.config_server import too_short
from monitor.document import AS_WRITTEN, Problem, Where
from monitor.durations import duration_text
from monitor.engines import NAMES
from monitor.engines.duckdb import reader
from monitor.engines.generic import generic
from monitor.errors import ConfigError, EngineError
from monitor.resolve import TIME_ROLES, enabled_checks, engine_name
from monitor.series import series_estimate

# Event counts need windows that tile the time line; each row is then counted once.
COUNTING = ("ingestion", "unknown_ids", "duplicates", "contract", "click_through")
CLOCKS = (Role.EVENT_TIME, Role.INGESTED_AT)
# Whose values are labels or stand on pages.
TOLD_ROLES = (Role.SOURCE, Role.EVENT_TYPE, Role.ITEM)
LINK_ROLES: Mapping[str, tuple[Role, ...]] = {
    "users": (Role.USER,),
    "items": (Role.ITEM,),
    "user_vocabulary": (Role.USER,),
    "item_vocabulary": (Role.ITEM,),
    "sent": CLOCKS,
    "rejected": CLOCKS,
}
JOINED = ("users", "items", "user_vocabulary", "item_vocabulary")
STATES = ("sqlite", "postgresql")
# The driver that recwatch brings along; a URL names none, or this one.
DRIVERS = {"postgresql": "psycopg", "sqlite": "pysqlite", "duckdb": "duckdb_sqlalchemy", "hive": "thrift"}
DRIVERS |= dict.fromkeys(("mariadb", "mysql"), "pymysql")
OTHERS = (
    "bigquery", "clickhouse", "databricks", "mssql", "oracle", "postgres", "presto", "redshift", "snowflake", "spark",
    "trino",
)  # fmt: skip
_SECRET_OPTION = re.compile(r"pass(word|wd|phrase)?\b|pwd|secret|token", re.IGNORECASE)
EXAMPLE_URL = "postgresql://user:${PASSWORD}@host/database"
EXAMPLE_STATE = f"sqlite:///recwatch-state.db, or {EXAMPLE_URL}"


def crosscheck(config: Config) -> list[Problem]:
    """Return what is wrong beyond the schema."""
    return [
        problem for rule in (*RULES, *crosscheck_streams.RULES, *crosscheck_alerting.RULES) for problem in rule(config)
    ]


def _names(config: Config) -> Iterator[Problem]:
    for name in config.datasets:
        if not re.fullmatch(DATASET_NAME, name):
            rule = "must be lower case letters, digits and _, at most 63, and start with a letter"
            yield Problem(("datasets", name), rule, "rename it", name)


# -- engines and where data lies -----------------------------------------------------------------


def _urls(config: Config) -> Iterator[Problem]:
    for name, engine in config.engines.items():
        text = engine.url.get_secret_value()
        known = list(NAMES)
        if _is_installed(text):
            known.append(make_url(text).get_backend_name())
        yield from _url_problems(("engines", name, "url"), text, known)


def state_url(config: OnCallConfig) -> Iterator[Problem]:
    """Yield what is wrong with the address of the state."""
    state = config.state.get_secret_value()
    yield from _url_problems(("state",), state, list(STATES), EXAMPLE_STATE)
    url = _parsed(state)
    if url is not None and url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        yield Problem(
            ("state",), "must be a file, what is in memory would be lost", "write sqlite:///recwatch-state.db"
        )


def _url_problems(where: Where, text: str, known: list[str], example: str = EXAMPLE_URL) -> Iterator[Problem]:
    url = _parsed(text)
    if url is None:
        yield Problem(where, "must be a SQLAlchemy URL", f"write it like {example}", text)
        return
    backend, _, driver = url.drivername.partition("+")
    if backend not in known:
        # A scheme that nobody has heard of may be part of a secret.
        said = backend if backend in OTHERS or backend in DRIVERS else "this kind of database"
        yield Problem(where, f"no support for {said}", f"use one of {', '.join(known)}")
    elif driver and driver != DRIVERS.get(backend, driver):
        yield Problem(where, f"no support for another driver of {backend}", f"start the URL with {backend}://")
    elif _SECRET_OPTION.search(" ".join(url.query)):
        # Only what stands before the @ is masked where a URL is shown.
        yield Problem(
            where, "has a secret among its options", "move it before the @, or into a file that the driver reads"
        )
    elif "@" in (url.host or ""):
        yield Problem(where, "has an @ too many, so that it is unclear where the password ends", "write %40 for it")


def _is_installed(text: str) -> bool:
    """Return whether SQLAlchemy has a dialect and a driver for a URL."""
    url = _parsed(text)
    try:
        return url is not None and generic(url) is not None
    except ValueError:
        return False


def _parsed(text: str) -> URL | None:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        return None


def _locations(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        where = ("datasets", name)
        either = ((*where, "files"), (*where, "table"))
        if dataset.stream is not None:
            continue
        if dataset.files is None and dataset.table is None:
            yield Problem(where, "must have files or table", "add one of them", rests_on=either)
        elif dataset.files is not None and dataset.table is not None:
            yield Problem(where, "must have either files or table, got both", "remove one of them")
        elif dataset.engine is not None and dataset.engine not in (*config.engines, EMBEDDED):
            known = ("engines", dataset.engine)
            yield crosscheck_alerting.named((*where, "engine"), "engine", dataset.engine, list(config.engines), known)
        elif dataset.table is not None:
            yield from _table_problems(config, where, dataset)
        else:
            yield from _file_problems(config, where, str(dataset.files), engine_name(config, dataset))


def _table_problems(config: Config, where: Where, dataset: DatasetConfig) -> Iterator[Problem]:
    if not config.engines:
        rule = "needs an engine to read it from, and there is none"
        yield Problem((*where, "table"), rule, "add engines", rests_on=(("engines",),))
    elif dataset.engine == EMBEDDED and EMBEDDED not in config.engines:
        yield Problem((*where, "engine"), f"the engine {EMBEDDED} has no tables, only files", "name another")
    elif dataset.engine is None and len(config.engines) > 1:
        known = ", ".join(config.engines)
        rule = "could be in any of several engines"
        yield Problem((*where, "table"), rule, f"add engine: one of {known}", dataset.table)


def _file_problems(config: Config, where: Where, files: str, engine: str) -> Iterator[Problem]:
    url = _parsed(config.engines[engine].url.get_secret_value()) if engine in config.engines else None
    if url is not None and url.get_backend_name() != "duckdb":
        rule = f"files are read by DuckDB, and the engine {engine} is {url.get_backend_name()}"
        yield Problem((*where, "files"), rule, "remove engine, or name a table", rests_on=(("engines", engine),))
        return
    try:
        reader(files)
    except EngineError as error:
        _rule, _, todo = str(error).partition("; ")
        yield Problem((*where, "files"), "must end in the name of a format", todo, AS_WRITTEN)


# -- datasets and what they are to each other ----------------------------------------------------


def _links(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        for link, target in dataset.links.items():
            where = ("datasets", name, link)
            found = config.datasets.get(target)
            if found is None:
                known = [other for other in config.datasets if other != name]
                yield crosscheck_alerting.named(where, "dataset", target, known, ("datasets", target))
                continue
            roles = ("datasets", target, "roles")
            if not any(role in found.roles for role in LINK_ROLES[link]):
                rule = f"needs the role {' or '.join(LINK_ROLES[link])} in dataset {target}"
                yield Problem(where, rule, f"add {'.'.join(roles)}.{LINK_ROLES[link][0]}", rests_on=(roles,))
            own, other = engine_name(config, dataset), engine_name(config, found)
            if link in JOINED and own != other:
                rule = f"is joined to {name}, so both must lie on one engine"
                rests_on = (("engines",), ("datasets", name, "engine"), ("datasets", target, "engine"))
                yield Problem(where, rule, "move one of them", f"{other} and {own}", rests_on)


def _cycle(config: Config) -> list[str]:
    """Return datasets that point to each other in a circle, the first one again at the end."""
    graph = {name: set(dataset.links.values()) & set(config.datasets) for name, dataset in config.datasets.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1][::-1]
        return found
    return []


def _circles(config: Config) -> Iterator[Problem]:
    circle = _cycle(config)
    if circle:
        link = next(link for link, target in config.datasets[circle[0]].links.items() if target == circle[1])
        rule = f"leads in a circle, {' to '.join(circle)}, which cannot be read"
        yield Problem(("datasets", circle[0], link), rule, "remove one of these links")


def _units(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        for role, column in dataset.roles.items():
            if isinstance(column, TimeColumn) and column.unit != "auto" and role not in TIME_ROLES:
                where = ("datasets", name, "roles", str(role), "unit")
                yield Problem(where, f"only a time has a unit, and {role} is none", "remove it", column.unit)


def _ids_stay(config: Config) -> Iterator[Problem]:
    """Features, sources, types and items are told by their values, and those of these ids must not leave."""
    for name, dataset in config.datasets.items():
        ids = {column_name(dataset.roles[role]): role for role in PRIVATE_ROLES if role in dataset.roles}
        features = [(("features", at), column, "take it out") for at, column in enumerate(dataset.features)]
        roles = [
            (("roles", role), column_name(dataset.roles[role]), "name another column")
            for role in TOLD_ROLES
            if role in dataset.roles
        ]
        for place, column, todo in features + roles:
            if column in ids:
                rule = f"must not be the column of the role {ids[column]}, whose values never leave the engine"
                yield Problem(("datasets", name, *place), rule, todo, column)


def _watched(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        where = ("datasets", name)
        if dataset.watch and not set(CLOCKS) & set(dataset.roles):
            rule, rests_on = "needs a time to be watched", ((*where, "roles"),)
            yield Problem((*where, "watch"), rule, "add roles.event_time", rests_on=rests_on)
    if not config.watched() and not _cycle(config):
        rule = "no dataset is watched: none that others do not point to has a time"
        todo = "add roles.event_time to the one with the events"
        yield Problem(("datasets",), rule, todo, rests_on=(("datasets",),))


def _changes(config: Config) -> Iterator[Problem]:
    for at, changes in enumerate(config.changes):
        where, target = ("changes", at, "dataset"), config.datasets.get(changes.dataset)
        if target is None:
            yield crosscheck_alerting.named(where, "dataset", changes.dataset, list(config.datasets), ("datasets",))
        elif Role.EVENT_TIME not in target.roles:
            rule, rests_on = (
                f"must have the role event_time, which {changes.dataset} lacks",
                ("datasets", changes.dataset),
            )
            yield Problem(where, rule, "add roles.event_time", changes.dataset, rests_on=(rests_on,))


# -- checks and their settings -------------------------------------------------------------------


def _checks(config: Config) -> Iterator[tuple[str, type[Check[Any]], Any]]:
    """Yield every check on every watched dataset with its settings."""
    for name in config.watched():
        for check in CATALOGUE:
            yield name, check, config.settings(name, check.id, check.settings_type)


def _cadences(config: Config) -> Iterator[Problem]:
    for name, check, settings in _checks(config):
        for field in ("every", "window", "settle"):
            value = getattr(settings, field)
            if value % timedelta(seconds=1):
                yield Problem(
                    _place(config, name, check.id, field), "must be whole seconds", "round it", duration_text(value)
                )
        if check.id in COUNTING and settings.enabled and settings.every != settings.window:
            where = _place(config, name, check.id, "window", "every")
            got = f"every {duration_text(settings.every)} and window {duration_text(settings.window)}"
            yield Problem(where, "every and window must be equal, so that each event is counted once", "set both", got)


def _patterns(config: Config) -> Iterator[Problem]:
    for name, check, settings in _checks(config):
        for field in fields(settings):
            value = getattr(settings, field.name)
            if field.name.endswith("_pattern") and value is not None:
                try:
                    re.compile(value)
                except (re.error, RecursionError, OverflowError) as error:
                    where, got = _place(config, name, check.id, field.name), f"{value} ({error})"
                    yield Problem(where, "must be a regular expression", "mend it", got)


def _bounds(config: Config) -> Iterator[Problem]:
    for name, check, settings in _checks(config):
        for column, (low, high) in getattr(settings, "ranges", {}).items():
            if not low <= high:
                where, got = (*_place(config, name, check.id, "ranges"), column), f"{low:g} and {high:g}"
                yield Problem(where, "the least value must not exceed the greatest", "swap or mend them", got)
        least, most = getattr(settings, "min_value", None), getattr(settings, "max_value", None)
        if least is not None and most is not None and least > most:
            where, got = _place(config, name, check.id, "min_value", "max_value"), f"{least:g} and {most:g}"
            yield Problem(where, "no value is at least min_value and at most max_value", "swap or mend them", got)
        if getattr(settings, "torso_share", 1) < getattr(settings, "head_share", 0):
            where = _place(config, name, check.id, "torso_share", "head_share")
            got = f"torso_share {settings.torso_share:g} and head_share {settings.head_share:g}"
            rule = "the torso holds the head, so torso_share must be at least head_share"
            yield Problem(where, rule, "raise it", got)
        if both := sorted({*getattr(settings, "exposed", ())} & {*getattr(settings, "control", ())}):
            where = _place(config, name, check.id, "control", "exposed")
            yield Problem(where, "a value is exposed or control, not both", "take it out of one", ", ".join(both))


def _asked_for(config: Config) -> Iterator[Problem]:
    """A check that somebody configured for a dataset must be able to run there.

    Settings for all datasets ask for nothing: there, a check that cannot run is disabled.
    """
    for name, check, settings in _checks(config):
        dataset = config.datasets[name]
        reason = check(settings).absent(described(name, dataset))
        if reason is not None and settings.enabled and getattr(dataset.checks, check.id) is not None:
            named = re.search(r"role (\w+)", reason)
            add = "add features" if "feature" in reason else "set both" if " and " in reason else "set one"
            todo = f"add roles.{named[1]}" if named else add
            rule = f"{reason}, which dataset {name} does not set"
            where = ("datasets", name, "checks", check.id)
            rests_on = (("datasets", name, "roles"), ("datasets", name, "features"), where)
            yield Problem(where, rule, f"{todo}, or set enabled: false", rests_on=rests_on)


def _budget(config: Config) -> Iterator[Problem]:
    try:
        series_estimate(config, {name: enabled_checks(config, name) for name in config.watched()})
    except ConfigError as error:
        rule, _, todo = error.problems[0].removeprefix("limits.max_series: ").partition("; ")
        yield Problem(("limits", "max_series"), rule, todo, rests_on=(("datasets",),))


def _place(config: Config, dataset: str, check: str, *names: str) -> Where:
    """Return where the first of these settings stands: with the dataset, else with all."""
    sections = (
        (config.datasets[dataset].checks, ("datasets", dataset, "checks", check)),
        (config.checks, ("checks", check)),
    )
    for name in names:
        for section, where in sections:
            own = getattr(section, check)
            if own is not None and name in own.model_fields_set:
                return (*where, name)
    return ("checks", check)


def _secrets(config: Config) -> Iterator[Problem]:
    for key, rule, todo in config.server.auth.problems() if config.server.auth is not None else ():
        other = ("server", "auth", "password" if key == "user" else "user")
        yield Problem(("server", "auth", key), rule, todo, rests_on=(other,))
    for key, secret in (("key", config.evidence.key), ("token", config.evidence.token)):
        yield from (Problem(("evidence", key), *wrong) for wrong in too_short(secret))


RULES: tuple[Callable[[Config], Iterator[Problem]], ...] = (
    _names,
    _urls,
    state_url,
    _locations,
    _links,
    _circles,
    _changes,
    _units,
    _ids_stay,
    _watched,
    _cadences,
    _patterns,
    _bounds,
    _asked_for,
    _budget,
    _secrets,
)
