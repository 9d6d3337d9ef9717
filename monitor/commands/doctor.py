"""``recwatch doctor``: what is installed, and whether anything stands in the way."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from checks.contract import Contract
from checks.dataset import Dataset, Kind, Role
from checks.dialect import count_if
from checks.rows import ID_ROLES, Rows
from checks.window import EPOCH, MICROSECOND, Window, micros, moment
from monitor import state_size
from monitor._launch import PACKAGES
from monitor.cli import EXIT_CONFIG, EXIT_UNREACHABLE, version
from monitor.columns import TIME_RANGES
from monitor.config import Config
from monitor.engine import Engine, Session
from monitor.errors import ConfigError, EngineError, RecwatchError
from monitor.load import load
from monitor.probes import findings
from monitor.resolve import TIME_ROLES, Pipeline, Resolver, build
from monitor.schema import exists
from monitor.store import Store
from monitor.streams import connect_streams

LIBRARIES = (
    "sqlalchemy", "duckdb", "duckdb-sqlalchemy", "psycopg", "apscheduler", "prometheus-client", "pydantic", "numpy",
    "waitress",
)  # fmt: skip
# What brings more than the default, and by which extra it comes.
EXTRAS = {
    "evidently": "reports",
    "scipy": "reports",
    "confluent-kafka": "kafka",
    "deltalake": "delta",
    "pyhive": "spark",
    "pymysql": "mysql",
}

HERE = Path("recwatch.yml")
# Rows by which it is told what a column holds.
SAMPLE = 1_000
LARGEST = sys.float_info.max
LATEST = moment(TIME_RANGES["us"][1])


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also try this file; without, recwatch.yml if it is there.",
)
@click.option("--engine", "url", metavar="URL", help="Try what the checks need on this database instead.")
def command(path: Path | None, url: str | None) -> None:
    """Say what is installed; with a configuration, whether its state, engines, streams and datasets answer.

    With --engine, ask a database each thing that the checks need, and compare with the known answer; nothing is
    written there.

    Exits 2 if the installation or the configuration is wrong, 3 if something does not answer, an engine lacks what a
    check needs, or the data has not the columns that the configuration names.
    """
    if url is not None:
        _conformance(url)
        return
    click.echo(f"recwatch {version()} on Python {platform.python_version()}, {platform.system()}")
    missing = [_said_of_library(name) for name in LIBRARIES]
    for name, extra in EXTRAS.items():
        _say_extra(name, extra)
    strangers = [_said_of_package(name) for name in PACKAGES]
    path = path or (HERE if HERE.is_file() else None)
    config = None if path is None else load(path)
    if config is not None:
        click.echo(f"{path}: the configuration is fine")
        if not all([*_states(config), *_engines(config), *_streams(config)]):
            raise SystemExit(EXIT_UNREACHABLE)
    if any(missing) or any(strangers):
        raise SystemExit(EXIT_CONFIG)


def _conformance(url: str) -> None:
    try:
        shown, found = make_url(url).set(query={}).render_as_string(hide_password=True), []
        click.echo(shown)
        for finding in findings(url):
            remark = "" if finding.is_needed or finding.result == "ok" else " (no check rests on it)"
            click.echo(f"  {finding.what:<28} {finding.result:<8} {finding.said}{remark}".rstrip())
            found.append(finding)
    except (ArgumentError, ValueError) as error:
        raise ConfigError([f"--engine: {error}"]) from None
    lacking = [finding.what for finding in found if finding.is_needed and finding.result != "ok"]
    if lacking:
        click.echo(f"{len(lacking)} of {len(found)} fail: {', '.join(lacking)}; see monitor/guides/engines.md")
        raise SystemExit(EXIT_UNREACHABLE)
    click.echo(f"every check can run there; {len(found)} things tried")


def _said_of_library(name: str) -> bool:
    """Print the version of a library; return whether it is missing."""
    try:
        click.echo(f"  {name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        click.echo(f"  {name} is missing; install recwatch again")
        return True
    return False


def _say_extra(name: str, extra: str) -> None:
    try:
        click.echo(f"  {name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        click.echo(f"  {name} is not installed; where it is wanted: pip install 'recwatch[{extra}]'")


def _said_of_package(name: str) -> bool:
    """Print where one of recwatch's packages is; return whether it is somebody else's."""
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        click.echo(f"  package {name} cannot be loaded: {error}; install recwatch again")
        return True
    where = Path(str(package.__file__)).parent if package.__file__ else "a folder without code"
    # An editable installation lists no owners at all.
    others = [owner for owner in metadata.packages_distributions().get(name, []) if owner != "recwatch"]
    is_stranger = getattr(package, "OWNER", None) != "recwatch"
    says = "is not recwatch's and hides it; use an environment of its own" if is_stranger else "is recwatch's own"
    shared = f", but {', '.join(others)} brings one of this name, too; use an environment of its own" if others else ""
    click.echo(f"  package {name} at {where} {says}{shared}")
    return is_stranger or bool(others)


def _states(config: Config) -> Iterator[bool]:
    """Try the state, say how it did, and yield whether it did well."""
    url = config.state.get_secret_value()
    if exists(url):

        def look() -> list[str]:
            with closing(Store(url, config.pipeline)) as store:
                return [_said_of_size(store)]

        yield _tried("state", look)
    elif not (folder := Path(make_url(url).database or "").parent).is_dir():
        click.echo(f"  state: cannot be made, there is no folder {folder}; make it, or write another path")
        yield False
    elif not os.access(folder, os.W_OK):
        click.echo(f"  state: cannot be made, {folder} cannot be written; change its rights, or set state")
        yield False
    else:
        click.echo("  state: none yet, the daemon will make it")


def _said_of_size(store: Store) -> str:
    counted = ", ".join(f"{count:,} {table}" for table, count in state_size.rows(store).items() if count)
    return f"it takes {state_size.size_bytes(store) / 1e6:,.1f} MB: {counted or 'no rows yet'}"


def _engines(config: Config) -> Iterator[bool]:
    """Try every engine, say how it did, and yield whether it did well."""
    pipeline = build(config)
    try:
        for engine in pipeline.engines.values():

            def connect(engine: Engine = engine) -> None:
                with engine.session():
                    pass

            yield _tried(f"engine {engine.name} ({engine.dialect.name})", connect)
        for name, dataset in config.datasets.items():
            if dataset.stream is None:
                yield _tried(f"dataset {name}", partial(_look_at, pipeline, name))
    finally:
        pipeline.close()


def _look_at(pipeline: Pipeline, name: str) -> list[str]:
    """Look whether a dataset has the columns that it is said to have, and whether its times are times.

    Returns:
        Warnings about what can be read all the same.

    Raises:
        EngineError: It cannot be read, or has not.
    """
    with ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        dataset, session = resolver.dataset(name), resolver.session(name)
        wrong = [dataset.no_column(column, f"role {role}") for role, column in dataset.lost.items()]
        for what, columns in _named(pipeline.config, name):
            wrong += [dataset.no_column(column, what) for column in columns if column not in dataset.columns]
        for role in TIME_ROLES:
            if role in dataset.roles and (said := _no_times(session, dataset, role, _floor(pipeline, name))):
                wrong.append(f"column {dataset.roles[role]} (role {role}) holds {said}")
        if wrong:
            raise EngineError(f"dataset {name}: {'; '.join(wrong)}")
        held = {role: dataset.roles[role] for role in ID_ROLES if role in dataset.roles}
        inexact = {role: column for role, column in held.items() if _has_inexact_ids(session, dataset, column)}
    return [
        f"warning: column {column} (role {role}) is {dataset.columns[column].declared} and has ids beyond 2^53, which"
        " lose digits there: several become one; keep them as integers or text"
        for role, column in inexact.items()
    ]


def _named(config: Config, name: str) -> Iterator[tuple[str, Collection[str]]]:
    """Yield what else names columns of a dataset, and which."""
    dataset, sections = config.datasets[name], [config.datasets[name].checks]
    yield "features", dataset.features
    yield "text of changes", [changes.text for changes in config.changes if changes.dataset == name]
    if config.watched() == [name]:
        # Of several, each may lack columns that others have.
        sections.append(config.checks)
        yield "evidence.segments", config.evidence.segments
        yield "evidence.columns", config.evidence.columns
    for contract in (getattr(section, Contract.id) for section in sections):
        if contract is not None:
            yield "ranges of contract", contract.ranges or ()
            yield "required by contract", contract.required or ()


def _has_inexact_ids(session: Session, dataset: Dataset, name: str) -> bool:
    """Return whether a column of floats has, in a sample, an id that is larger than what floats tell apart."""
    kind, column = dataset.columns[name], dataset.table.c[name]
    if kind.kind is not Kind.NUMBER or kind.declared.upper().startswith(("DECIMAL", "NUMERIC")):
        return False
    found = select(column.label("id")).where(column.is_not(None)).limit(SAMPLE).subquery()
    # What is no number at all, or infinite, is larger still.
    asked = select(func.count()).select_from(found).where(func.abs(found.c["id"]).between(2.0**53, LARGEST))
    return bool(session.run(asked, 1, f"ids of {dataset.name}")[0][0])


def _floor(pipeline: Pipeline, name: str) -> datetime:
    """Return the time before which no event of a dataset can be."""
    own = (check.settings for check in pipeline.checks.get(name, ()) if check.id == Contract.id)
    return next(own, Contract.settings_type()).epoch_floor


def _no_times(session: Session, dataset: Dataset, role: Role, floor: datetime) -> str:
    """Return what a sample of a column holds in place of times; empty if most are such, or it holds nothing at all."""
    rows = Rows(dataset, Window(EPOCH, EPOCH + MICROSECOND))
    column, at, is_number = rows.column(role), rows.micros(role), dataset.kind(role).is_numeric
    # A text that is no time may be anything, and is not shown.
    shown = (column if is_number else at).label("shown")
    sample = select(shown, at.label("at")).select_from(dataset.table).where(column.is_not(None)).limit(SAMPLE)
    found: Any = sample.subquery().c
    plausible = count_if(found.at.between(micros(floor), micros(LATEST)))
    asked: Any = select(func.count(), func.count(found.at), plausible, func.min(found.shown), func.max(found.shown))
    values, times, fitting, low, high = session.run(asked, 1, f"times of {dataset.name}")[0]
    if values and not times:
        return "no times; name a column of times, text among them in ISO 8601"
    # A life may begin and end at any time.
    if role not in (Role.EVENT_TIME, Role.INGESTED_AT) or 2 * fitting >= times:
        return ""
    held, unit = (f"{low} to {high}", f" as Unix {dataset.time_units[role]}") if is_number else (_days(low, high), "")
    said = f"{held}, of which most are{unit} no times from {floor:%Y} to {LATEST:%Y}"
    return f"{said}; name the column of the time{', or its unit' if is_number else ''}"


def _days(first: int, last: int) -> str:
    """Return two times of a sample as days; what no calendar has is cut off at its ends."""
    ends = (micros(datetime.min.replace(tzinfo=UTC)), micros(datetime.max.replace(tzinfo=UTC)))
    return " to ".join(moment(min(max(at, ends[0]), ends[1])).date().isoformat() for at in (first, last))


def _streams(config: Config) -> Iterator[bool]:
    """Try every stream, say how it did, and yield whether it did well."""
    for name, stream in connect_streams(config).items():
        try:
            yield _tried(f"stream {name}", stream.probe)
        finally:
            stream.close()


def _tried(what: str, call: Callable[[], Sequence[str] | None]) -> bool:
    """Try something, say how it did and what it remarks; return whether it did well."""
    started = time.perf_counter()
    try:
        remarks = call() or ()
    except RecwatchError as error:
        # What an engine says of a dataset names files or a table, which are not what stands in the configuration.
        said = str(error)
        click.echo(f"  {said}" if said.startswith(what.split(" (")[0]) else f"  {what}: {said}")
        return False
    click.echo(f"  {what}: answers after {1000 * (time.perf_counter() - started):.0f} ms")
    for remark in remarks:
        click.echo(f"    {remark}")
    return True
