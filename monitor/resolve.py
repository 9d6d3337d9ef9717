"""Builds the nouns from a valid configuration: engines, checks, and datasets as the data is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Double, Text, and_, case, cast, func, select

from alerts.slo import Slo
from checks import CATALOGUE, Check
from checks.dataset import ColumnType, Dataset, Kind, Role, TimeUnit
from checks.rows import GROUPS, ID_ROLES, LONGEST_SOURCE, Rows, by_frequency
from checks.window import Window
from monitor.config import EMBEDDED, Config, DatasetConfig, TimeColumn, column_name
from monitor.engine import Engine, Location, Session
from monitor.engines import connect
from monitor.errors import EngineError
from monitor.slos import objectives
from monitor.streams import Stream, connect_streams

TIME_ROLES = (Role.EVENT_TIME, Role.INGESTED_AT, Role.VALID_FROM, Role.VALID_TO)
# A number below the bound of its unit lies before the year 5138; the smallest unit that fits wins.
_UNIT_BOUNDS = {TimeUnit.SECONDS: 1e11, TimeUnit.MILLISECONDS: 1e14, TimeUnit.MICROSECONDS: 1e17}


@dataclass
class Pipeline:
    """A configuration brought to life: engines, the checks of every watched dataset, and objectives by name."""

    config: Config
    engines: Mapping[str, Engine]
    checks: Mapping[str, Sequence[Check[Any]]]
    slos: Mapping[str, Slo] = field(default_factory=dict)
    units: dict[tuple[str, Role], TimeUnit] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)

    def close(self) -> None:
        """Close all engines and streams."""
        for engine in self.engines.values():
            engine.close()
        for stream in self.streams.values():
            stream.close()


def build(config: Config) -> Pipeline:
    """Return the pipeline of a configuration; nothing is connected yet."""
    engines = {
        name: connect(
            name,
            engine.url.get_secret_value(),
            engine.timeout.total_seconds(),
            {"memory_limit": engine.memory_limit, "threads": engine.threads},
        )
        for name, engine in config.engines.items()
    }
    if any(engine_name(config, dataset) == EMBEDDED for dataset in config.datasets.values()):
        engines.setdefault(EMBEDDED, connect(EMBEDDED, "duckdb:///:memory:"))
    checks = {name: enabled_checks(config, name) for name in config.watched()}
    return Pipeline(config, engines, checks, objectives(config, checks), streams=connect_streams(config))


def enabled_checks(config: Config, dataset: str) -> list[Check[Any]]:
    """Return the checks of a dataset with their settings, but for those that are switched off."""
    settings = {check.id: config.settings(dataset, check.id, check.settings_type) for check in CATALOGUE}
    return [check(settings[check.id], settings) for check in CATALOGUE if settings[check.id].enabled]


def engine_name(config: Config, dataset: DatasetConfig) -> str:
    """Return which engine a dataset is read from: its own, else DuckDB for files, else the only one."""
    if dataset.engine:
        return dataset.engine
    return EMBEDDED if dataset.files or dataset.stream else next(iter(config.engines), EMBEDDED)


class Resolver:
    """Describes datasets as they are at this moment, over one set of sessions.

    Args:
        pipeline: What is described.
        stack: Holds the sessions that are opened on the way, and closes them.
    """

    def __init__(self, pipeline: Pipeline, stack: ExitStack) -> None:
        self._pipeline, self._stack = pipeline, stack
        self._sessions: dict[str, Session] = {}
        self._datasets: dict[str, Dataset] = {}
        self._engines: dict[str, str] = {}

    def session(self, dataset: str, span: Window | None = None) -> Session:
        """Return the session on which a dataset is read.

        Args:
            dataset: Its name.
            span: What will be asked about; a stream is read for it now. Without it none of its rows are there.

        Raises:
            EngineError: The engine or the stream cannot be reached.
        """
        config = self._pipeline.config.datasets[dataset]
        session = self._session(dataset)
        if config.stream is not None and span is not None:
            told = self._pipeline.streams[config.stream].read(config.reading, span)
            session.open(Location(dataset, rows=tuple(told)))
        return session

    def _session(self, dataset: str) -> Session:
        config = self._pipeline.config
        name = engine_name(config, config.datasets[dataset])
        if name not in self._sessions:
            self._sessions[name] = self._stack.enter_context(self._pipeline.engines[name].session())
        return self._sessions[name]

    def dataset(self, name: str) -> Dataset:
        """Return a dataset with its columns, roles and links.

        Raises:
            EngineError: The dataset cannot be read, or the engine not be reached.
        """
        if name not in self._datasets:
            self._datasets[name] = self._describe(name)
        return self._datasets[name]

    def _describe(self, name: str) -> Dataset:
        config, session = self._pipeline.config.datasets[name], self._session(name)
        location = locate(name, config)
        columns = session.open(location)
        named = {role: column_name(column) for role, column in config.roles.items()}
        roles = {role: column for role, column in named.items() if column in columns}
        lost = {role: column for role, column in named.items() if column not in columns}
        table = session.engine.dialect.table(location, columns)
        links, unread = self._links(config)
        dataset = Dataset(name, table, columns, roles, {}, config.features, links, config.sources or (), lost, unread)
        return replace(dataset, time_units=self._units(dataset, session))

    def _links(self, config: DatasetConfig) -> tuple[dict[str, Dataset], dict[str, str]]:
        """Return the datasets that one points to, and why others cannot be read: not every check needs them."""
        links, unread = {}, {}
        for link, target in config.links.items():
            try:
                links[link] = self.dataset(target)
            except EngineError as error:
                if error.unreachable:
                    raise
                unread[link] = str(error)
        return links, unread

    def _units(self, dataset: Dataset, session: Session) -> dict[Role, TimeUnit]:
        """Return how each time column is written."""
        units = {}
        for role in TIME_ROLES:
            if role not in dataset.roles:
                continue
            known = self._pipeline.units.get((dataset.name, role))
            declared = self._pipeline.config.datasets[dataset.name].roles[role]
            kind = dataset.columns[dataset.roles[role]].kind
            if kind.is_numeric:
                said = declared.unit if isinstance(declared, TimeColumn) else "auto"
                unit = TimeUnit(said) if said != "auto" else known or time_unit(session, dataset, role)
                if unit is not None:
                    self._pipeline.units[dataset.name, role] = unit
                units[role] = unit or TimeUnit.SECONDS
            else:
                units[role] = _typed_unit(dataset, role, kind, session)
        return units


def locate(name: str, config: DatasetConfig) -> Location:
    """Return where a dataset lies."""
    if config.files is not None:
        ids = tuple(column_name(config.roles[role]) for role in ID_ROLES if role in config.roles)
        return Location(name, files=config.files, ids=ids)
    if config.stream is not None:
        # Which columns it has is known; its rows are read when they are asked for.
        return Location(name, rows=())
    schema, _, table = str(config.table).rpartition(".")
    return Location(name, table=table, schema=schema or None)


def _typed_unit(dataset: Dataset, role: Role, kind: Kind, session: Session) -> TimeUnit:
    if kind in (Kind.TIMESTAMP, Kind.DATE):
        return TimeUnit.NATIVE if session.engine.dialect.has_native_time else TimeUnit.TEXT
    if kind is Kind.TEXT:
        return TimeUnit.TEXT
    column = dataset.roles[role]
    declared: ColumnType = dataset.columns[column]
    raise EngineError(f"dataset {dataset.name}: column {column} ({role}) is no time, got {declared.declared}")


def time_unit(session: Session, dataset: Dataset, role: Role) -> TimeUnit | None:
    """Return the unit of a numeric time column by the size of its values; None if it has none.

    The majority of a sample decides, so that a few corrupt values do no harm.
    """
    column = dataset.table.c[dataset.roles[role]]
    # As floating point: the least integer has no absolute value.
    sample = select(func.abs(cast(column, Double)).label("x")).where(column.is_not(None)).limit(1_000).subquery()
    votes: list[Any] = []
    low = 0.0
    for high in _UNIT_BOUNDS.values():
        votes.append(func.count(case(((sample.c.x >= low) & (sample.c.x < high), 1))))
        low = high
    counted = session.run(select(*votes).select_from(sample), 1, f"unit of {dataset.name}.{column.name}")[0]
    best = max(range(len(votes)), key=lambda at: counted[at])
    return tuple(_UNIT_BOUNDS)[best] if counted[best] else None


def largest_sources(session: Session, dataset: Dataset, window: Window, most: int) -> tuple[str, ...]:
    """Return the producers with the most rows in a window, at most this many.

    Texts that are too long to be a name are none, nor are names of recwatch's own; their rows go with ``other``.
    """
    rows = Rows(dataset, window)
    source, counted = cast(rows.column(Role.SOURCE), Text), func.count()
    named = and_(source.is_not(None), func.length(source) <= LONGEST_SOURCE, source.not_in(GROUPS))
    each = rows.select(source.label("source"), counted.label("n")).where(named).group_by(source).subquery().c
    statement = select(each.source).order_by(*by_frequency(each.source, each.n)).limit(most)
    return tuple(str(row[0]) for row in session.run(statement, most, f"sources of {dataset.name}"))
