"""The schema of the configuration file. Check settings derive from the checks' own dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    create_model,
    model_validator,
)

from checks import CATALOGUE
from checks.dataset import LINKS, Role
from checks.settings import CheckSettings, Setting
from monitor.durations import HINT, parse_duration

EMBEDDED = "files"

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "description": HINT, "examples": ["30s", "5m", "1h30m"]}),
]


class Section(BaseModel):
    """A part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineConfig(Section):
    """A database that datasets are read from."""

    url: SecretStr = Field(description="SQLAlchemy URL; take secrets from ${NAME} or ${file:PATH}.")
    timeout: Duration = Field(timedelta(seconds=60), description="Bound on one statement.")
    memory_limit: str = Field("1GB", description="DuckDB only: memory it may use before it spills.")
    threads: int | None = Field(None, ge=1, description="DuckDB only: threads; by default one a core.")


class TimeColumn(Section):
    """A time column, with the unit it is written in where its type does not tell."""

    column: str
    unit: Literal["auto", "s", "ms", "us"] = Field("auto", description="Unit of a numeric time column.")


Roles = dict[Role, str | TimeColumn]


def _partial(settings: type[CheckSettings], check: str) -> type[Section]:
    """Return the section that may set each field of a check's settings."""
    hints = get_type_hints(settings, include_extras=True)
    fields: dict[str, Any] = {}
    for declared in dataclasses.fields(settings):
        annotation, constraint = _field(hints[declared.name])
        fields[declared.name] = (annotation | None, Field(None, **constraint))
    name = "".join(word.title() for word in check.split("_"))
    return create_model(name, __base__=Section, __doc__=f"Settings of {check}.", **fields)


def _field(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """Return the type and constraints of a setting; durations are written as text."""
    constraint: dict[str, Any] = {}
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        for setting in metadata:
            if isinstance(setting, Setting):
                # The outermost comes last, and says most about this very setting.
                constraint["description"] = setting.doc
                is_duration = annotation is timedelta
                for bound, name in ((setting.low, "ge"), (setting.high, "le")):
                    if bound is not None:
                        constraint[name] = timedelta(seconds=bound) if is_duration else bound
    if annotation is timedelta:
        return Duration, constraint
    if get_origin(annotation) is not None and timedelta in get_args(annotation):
        return dict[str, Duration], constraint
    return annotation, constraint


_CHECK_FIELDS: dict[str, Any] = {
    check.id: (_partial(check.settings_type, check.id) | None, None) for check in CATALOGUE
}
ChecksConfig = create_model("ChecksConfig", __base__=Section, __doc__="Settings by check.", **_CHECK_FIELDS)


class DatasetConfig(Section):
    """A table or a set of files, and the roles of its columns."""

    engine: str | None = Field(None, description="Which engine; by default files are read by DuckDB.")
    files: str | None = Field(None, description="Path or glob of Parquet, CSV or JSON files.")
    table: str | None = Field(None, description="Table or view, with its schema where needed.")
    watch: bool | None = Field(None, description="Whether checks run on it; by default on event data.")
    roles: Roles = Field(default_factory=dict, description="Which column plays which role.")
    features: tuple[str, ...] = Field((), description="Columns whose distribution is watched.")
    users: str | None = Field(None, description="Dataset of known users.")
    items: str | None = Field(None, description="Dataset of known items (the catalogue).")
    user_vocabulary: str | None = Field(None, description="Dataset of users that the model knows.")
    item_vocabulary: str | None = Field(None, description="Dataset of items that the model knows.")
    sent: str | None = Field(None, description="Dataset of what the producers sent.")
    rejected: str | None = Field(None, description="Dataset of rejected or dead-lettered events.")
    sources: tuple[str, ...] | None = Field(None, description="Producers told apart; by default the largest.")
    most_sources: int = Field(10, ge=1, le=50, description="How many producers are told apart at most.")
    checks: ChecksConfig = Field(default_factory=ChecksConfig, description="Settings for this dataset only.")

    @model_validator(mode="after")
    def _is_somewhere(self) -> DatasetConfig:
        if (self.files is None) == (self.table is None):
            raise ValueError("must have either files or table; add one of them")
        return self

    @property
    def links(self) -> dict[str, str]:
        """The datasets that this one points to, by what they are to it."""
        return {link: getattr(self, link) for link in LINKS if getattr(self, link) is not None}


class ServerConfig(Section):
    """Where metrics, health and the status page are served."""

    host: str = Field("127.0.0.1", description="Address to bind; loopback unless told otherwise.")
    port: int = Field(9464, ge=0, le=65535, description="Port; 0 takes a free one.")


class BaselinesConfig(Section):
    """How references are kept up to date by the daemon."""

    auto: bool = Field(True, description="Whether the daemon builds a missing reference by itself.")
    span: Duration = Field(timedelta(days=7), description="How much history a reference covers.")
    refresh: Duration = Field(timedelta(days=1), description="How often an unpinned reference is built anew.")


class LimitsConfig(Section):
    """Bounds on what the daemon uses."""

    max_series: int = Field(5_000, ge=100, description="Most time series on /metrics.")
    catch_up_windows: int = Field(60, ge=1, description="Most missed windows judged in one step.")
    catch_up: Duration = Field(timedelta(hours=24), description="Windows older than this are not caught up.")
    reopen: Duration = Field(timedelta(hours=6), description="How far back windows are judged again for late rows.")
    keep: Duration = Field(timedelta(days=35), description="How long windows and verdicts are kept.")


class Config(Section):
    """A whole configuration file: one pipeline."""

    pipeline: str = Field("default", min_length=1, max_length=64, description="Name of the pipeline, a label.")
    state: SecretStr = Field(
        SecretStr("sqlite:///recwatch-state.db"), description="SQLAlchemy URL of the state database."
    )
    server: ServerConfig = Field(default_factory=ServerConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    baselines: BaselinesConfig = Field(default_factory=BaselinesConfig)
    engines: dict[str, EngineConfig] = Field(default_factory=dict)
    datasets: dict[str, DatasetConfig] = Field(min_length=1)
    checks: ChecksConfig = Field(default_factory=ChecksConfig)

    def settings(self, dataset: str, check_id: str, settings_type: type[CheckSettings]) -> CheckSettings:
        """Return the settings of a check on a dataset: its own over common ones over defaults."""
        values: dict[str, Any] = {}
        for section in (self.checks, self.datasets[dataset].checks):
            own = getattr(section, check_id)
            if own is not None:
                values.update({name: getattr(own, name) for name in own.model_fields_set})
        return settings_type(**values)

    def watched(self) -> list[str]:
        """Return the datasets that checks run on: those with events, unless told otherwise."""
        linked = {name for dataset in self.datasets.values() for name in dataset.links.values()}
        return [
            name
            for name, dataset in self.datasets.items()
            if (dataset.watch if dataset.watch is not None else name not in linked and _has_clock(dataset))
        ]


def _has_clock(dataset: DatasetConfig) -> bool:
    return Role.EVENT_TIME in dataset.roles or Role.INGESTED_AT in dataset.roles


def json_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of the configuration, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "recwatch.yml"}
