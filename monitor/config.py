"""The schema of the configuration file. Check settings derive from the checks' own dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, Field, SecretStr, create_model, model_validator
from pydantic.json_schema import GenerateJsonSchema

from checks import CATALOGUE
from checks.dataset import LINKS, Dataset, Role, dataset_table
from checks.settings import CheckSettings, Setting, seconds
from monitor.config_alerting import PLAIN_CHANNEL_FIELDS, AlertingConfig
from monitor.config_server import ServerConfig
from monitor.config_streams import Reading, StreamConfig, may_be_secret, with_roles
from monitor.config_types import Duration, Moment, Name, Section, parse_number
from monitor.durations import duration_text

EMBEDDED = "files"
DATASET_NAME = "[a-z][a-z0-9_]{0,62}"
# Part of a JSON Schema: a value that the environment or a file fills in.
_REFERENCE = {"type": "string", "pattern": r"\$\{"}


class BudgetConfig(Section):
    """What the checks of this pipeline may ask of an engine."""

    seconds_per_hour: float = Field(gt=0, le=360_000, description="Statement time in each hour of the clock.")
    reserve: float = Field(0.1, ge=0, lt=1, description="Share kept for checks of the present, such as freshness.")


class EngineConfig(Section):
    """A database that datasets are read from."""

    url: SecretStr = Field(description="SQLAlchemy URL; take secrets from ${NAME} or ${file:PATH}.")
    timeout: Duration = Field(timedelta(seconds=60), gt=timedelta(0), description="Bound on one statement.")
    memory_limit: Name | None = Field(
        None,
        description="DuckDB only: memory before it spills to the working folder; by default 25 MB a thread and at"
        " least 170, for JSON 80 MB a thread and at least 300.",
    )
    threads: int | None = Field(
        None, ge=1, description="DuckDB only: threads; by default one a core, and at least three."
    )
    concurrency: int = Field(2, ge=1, le=64, description="How many windows are judged on it at once.")
    budget: BudgetConfig | None = Field(None, description="What may be asked of it; by default no limit.")


class TimeColumn(Section):
    """A time column, with the unit it is written in where its type does not tell."""

    column: Name
    unit: Literal["auto", "s", "ms", "us"] = Field("auto", description="Unit of a numeric time column.")


Roles = dict[Role, Name | TimeColumn]


def column_name(column: Name | TimeColumn) -> str:
    """Return the name of the column that plays a role, however it was written."""
    return column.column if isinstance(column, TimeColumn) else column


def _partial(settings: type[CheckSettings], check: str) -> type[Section]:
    """Return the section that may set each field of a check's settings."""
    hints = get_type_hints(settings, include_extras=True)
    fields: dict[str, Any] = {}
    for declared in (one for one in dataclasses.fields(settings) if one.init):
        annotation, constraint = _field(hints[declared.name])
        # What is not set here comes from elsewhere, so None never reaches a check; editors show what does.
        shown = {"default": _plain(_default(declared))}
        fields[declared.name] = (annotation, Field(None, json_schema_extra=shown, **constraint))
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
    if annotation is datetime:
        return Moment, constraint
    if get_origin(annotation) is not None and timedelta in get_args(annotation):
        return dict[str, Duration], constraint
    if {int, float} & {annotation, *get_args(annotation)}:
        return Annotated[annotation, BeforeValidator(parse_number)], constraint
    return annotation, constraint


def _default(declared: dataclasses.Field[Any]) -> Any:
    return declared.default if declared.default_factory is dataclasses.MISSING else declared.default_factory()


def _plain(value: Any) -> Any:
    """Return a default as JSON can hold it, spelt as in a configuration."""
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, SecretStr):
        # What is secret is what somebody writes there, not what stands in the code.
        return value.get_secret_value()
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value.isoformat() if isinstance(value, datetime) else value


_CHECK_FIELDS: dict[str, Any] = {
    check.id: (_partial(check.settings_type, check.id) | None, None) for check in CATALOGUE
}
ChecksConfig = create_model("ChecksConfig", __base__=Section, __doc__="Settings by check.", **_CHECK_FIELDS)


class DatasetConfig(Section):
    """A table or a set of files, and the roles of its columns."""

    engine: str | None = Field(None, description="Which engine; by default files are read by DuckDB.")
    files: Name | None = Field(
        None,
        description="Path or glob of Parquet, CSV or JSON files, or the _delta_log of a Delta table; or else table.",
    )
    table: Name | None = Field(None, description="Table or view, with its schema where needed.")
    stream: Name | None = Field(None, description="In place of files or table: which stream it is read from.")
    reading: Reading = Field("count", description="What is read of the stream.")
    watch: bool | None = Field(None, description="Whether checks run on it; by default on event data.")
    roles: Roles = Field(default_factory=dict, description="Which column plays which role.")
    features: tuple[Name, ...] = Field((), description="Columns whose distribution is watched.")
    users: str | None = Field(None, description="Dataset of known users.")
    items: str | None = Field(None, description="Dataset of known items (the catalogue).")
    user_vocabulary: str | None = Field(None, description="Dataset of users that the model knows.")
    item_vocabulary: str | None = Field(None, description="Dataset of items that the model knows.")
    sent: str | None = Field(None, description="Dataset of what the producers sent.")
    rejected: str | None = Field(None, description="Dataset of rejected or dead-lettered events.")
    sources: tuple[str, ...] | None = Field(
        None,
        description="Producers told apart; by default the largest. The rest, and any that is called (all), (none) or"
        " other, is other; null is (none).",
    )
    most_sources: int = Field(10, ge=1, le=50, description="How many producers are told apart at most.")
    checks: ChecksConfig = Field(default_factory=ChecksConfig, description="Settings for this dataset only.")

    @property
    def links(self) -> dict[str, str]:
        """The datasets that this one points to, by what they are to it."""
        return {link: getattr(self, link) for link in LINKS if getattr(self, link) is not None}


class BaselinesConfig(Section):
    """How references are kept up to date by the daemon."""

    auto: bool = Field(True, description="Whether the daemon builds a missing reference by itself.")
    span: Duration = Field(timedelta(days=7), ge=seconds(1), description="How much history a reference covers.")
    refresh: Duration = Field(
        timedelta(days=1), ge=seconds(1), description="How often an unpinned reference is built anew."
    )


class LimitsConfig(Section):
    """Bounds on what the daemon uses."""

    max_series: int = Field(5_000, ge=100, description="Most time series on /metrics.")
    catch_up_windows: int = Field(60, ge=1, description="Most missed windows judged in one step.")
    catch_up: Duration = Field(timedelta(hours=24), description="Windows older than this are not caught up.")
    reopen: Duration = Field(timedelta(hours=6), description="How far back windows are judged again for late rows.")
    keep: Duration = Field(timedelta(days=35), ge=seconds(1), description="How long windows and verdicts are kept.")


class EvidenceConfig(Section):
    """What is kept of a bad verdict for those who look into it."""

    enabled: bool = Field(True, description="Whether evidence is collected.")
    keep: Duration = Field(timedelta(days=30), ge=seconds(1), description="How long it is kept.")
    every: Duration = Field(
        timedelta(minutes=10), ge=seconds(1), description="Least time between two pieces about the same subject."
    )
    segments: tuple[Name, ...] = Field(
        (),
        max_length=10,
        description="Columns by which bad rows are counted, besides event type, source and features of text.",
    )
    columns: tuple[Name, ...] = Field(
        (), max_length=20, description="Columns that a sample of bad rows may show, besides those of event roles."
    )
    sample_rows: int = Field(10, ge=0, le=50, description="Rows of a sample; 0 shows none.")
    min_group: int = Field(10, ge=1, description="Segments of fewer distinct users are not shown.")
    reports: bool = Field(True, description="Whether a drift alarm gets a report, where Evidently is installed.")
    key: SecretStr = Field(
        SecretStr(""),
        description="Key of the pseudonyms of ids; by default one lies in the state, beside what it protects.",
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="What a reader must show; needed where the server is not on loopback and has no auth.",
    )


class ChangesConfig(Section):
    """Deploys or other changes that a dataset lists, one in a row; they explain alarms."""

    dataset: Name = Field(description="Which dataset; its role event_time says when.")
    text: Name = Field(description="Column that says what was changed, such as a version.")
    kind: Literal["deploy", "model", "config", "other"] = Field("deploy", description="What they are.")


class OnCallConfig(AlertingConfig):
    """What those on call need of a file: whose state is where, and who is told."""

    pipeline: str = Field("default", min_length=1, max_length=64, description="Name of the pipeline, a label.")
    state: SecretStr = Field(
        SecretStr("sqlite:///recwatch-state.db"), description="SQLAlchemy URL of the state database."
    )


class Config(OnCallConfig):
    """A whole configuration file: one pipeline."""

    server: ServerConfig = Field(default_factory=ServerConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    baselines: BaselinesConfig = Field(default_factory=BaselinesConfig)
    evidence: EvidenceConfig = Field(default_factory=EvidenceConfig)
    engines: dict[str, EngineConfig] = Field(default_factory=dict)
    streams: dict[str, StreamConfig] = Field(
        default_factory=dict, max_length=50, description="Kafka topics and queries of a Prometheus."
    )
    datasets: dict[str, DatasetConfig] = Field(
        min_length=1, json_schema_extra={"propertyNames": {"pattern": f"^{DATASET_NAME}$"}}
    )
    checks: ChecksConfig = Field(default_factory=ChecksConfig)
    changes: tuple[ChangesConfig, ...] = Field(
        (), max_length=10, description="Datasets that list deploys and other changes."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_roles(cls, value: Any) -> Any:
        return with_roles(value)

    def settings(self, dataset: str, check_id: str, settings_type: type[CheckSettings]) -> CheckSettings:
        """Return the settings of a check on a dataset: its own over common ones over defaults."""
        values: dict[str, Any] = {"enabled": self.asks_for(dataset, check_id, settings_type)}
        for section in (self.checks, self.datasets[dataset].checks):
            own = getattr(section, check_id)
            if own is not None:
                values.update({name: getattr(own, name) for name in own.model_fields_set})
        return settings_type(**values)

    def asks_for(self, dataset: str, check_id: str, settings_type: type[CheckSettings]) -> bool:
        """Return whether a check is for a dataset at all, if only to be switched off there.

        A signal is, where it is named. For a stream only those checks are that the dataset itself names.
        """
        is_stream = self.datasets[dataset].stream is not None
        sections = (self.datasets[dataset].checks, *(() if is_stream else (self.checks,)))
        is_named = any(getattr(section, check_id) is not None for section in sections)
        return is_named or (settings_type().enabled and not is_stream)

    def watched(self) -> list[str]:
        """Return the datasets that checks run on: those with events, unless told otherwise."""
        linked = {
            target for name, dataset in self.datasets.items() for target in dataset.links.values() if target != name
        } | {changes.dataset for changes in self.changes}
        return [
            name
            for name, dataset in self.datasets.items()
            if (dataset.watch if dataset.watch is not None else name not in linked and _has_clock(dataset))
        ]


def _has_clock(dataset: DatasetConfig) -> bool:
    return Role.EVENT_TIME in dataset.roles or Role.INGESTED_AT in dataset.roles


def described(name: str, dataset: DatasetConfig) -> Dataset:
    """Return a dataset as far as the configuration tells; which columns exist is known to the data only."""
    roles = {role: str(role) for role in dataset.roles}
    return Dataset(name, dataset_table(name, {}), {}, roles, features=dataset.features)


def may_hold_secret(where: tuple[str | int, ...]) -> bool:
    """Return whether what stands at a place of the file may be a secret, misplaced ones included.

    Examples:
        >>> may_hold_secret(("engines", "warehouse")), may_hold_secret(("engines", "warehouse", "timeout"))
        (True, False)
    """
    if where[:1] == ("engines",):
        plain = [name for name, field in EngineConfig.model_fields.items() if field.annotation is not SecretStr]
        return len(where) < 3 or where[2] not in plain
    if where[:1] == ("streams",):
        return len(where) < 3 or may_be_secret(str(where[2]))
    if where[:1] == ("channels",):
        return len(where) < 3 or where[2] not in PLAIN_CHANNEL_FIELDS
    if where[:2] == ("notify", "heartbeat"):
        return where[2:3] != ("every",)
    if where[:2] == ("server", "auth"):
        return where[2:3] != ("user",)
    if where[:1] == ("evidence",):
        return len(where) > 1 and where[1] in ("key", "token")
    field = Config.model_fields.get(str(where[0])) if where else None
    return field is not None and field.annotation is SecretStr


class _Schema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        return super().encode_default(_plain(dft))


def json_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of the configuration, for editors."""
    schema = _or_reference(Config.model_json_schema(schema_generator=_Schema))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "recwatch.yml"}


def _or_reference(schema: Any) -> Any:
    """Return a schema in which ``${NAME}`` may stand for every number, truth value and choice."""
    if isinstance(schema, list):
        return [_or_reference(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    # The names of roles are keys, and nothing is filled into keys.
    found = {key: value if key == Role.__name__ else _or_reference(value) for key, value in schema.items()}
    if "enum" not in found and found.get("type") not in ("integer", "number", "boolean"):
        return found
    told = {key: found.pop(key) for key in ("title", "description", "default") if key in found}
    return {"anyOf": [found, _REFERENCE], **told}
