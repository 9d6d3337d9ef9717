"""The part of the configuration about streams: Kafka topics, and queries of a Prometheus."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, SecretStr

from monitor.config_types import Duration, Name, Section

Reading = Literal["count", "value", "lag_records", "lag_seconds", "silence_seconds", "end_offset"]
OF_KAFKA = ("count", "lag_records", "lag_seconds", "silence_seconds", "end_offset")
OF_PROMETHEUS = ("count", "value")
# Names of the columns that a stream is read as.
AT, SOURCE, VALUE = "at", "source", "value"


class StreamConfig(Section):
    """A Kafka topic or a query of a Prometheus, which datasets are read from."""

    kafka: Name | None = Field(None, description="Bootstrap servers of a Kafka cluster, as host:port.")
    topic: Name | None = Field(None, description="Kafka: the topic.")
    topics: dict[Name, Name] = Field(
        default_factory=dict, max_length=50, description="Kafka: in place of topic, the topic of each producer."
    )
    group: Name | None = Field(None, description="Kafka: the consumer group whose lag is read.")
    options: dict[Name, SecretStr] = Field(
        default_factory=dict, description="Kafka: further settings of the client, such as security.protocol."
    )
    prometheus: SecretStr | None = Field(None, description="URL of a Prometheus; may hold a user and a password.")
    query: Name | None = Field(None, description="Prometheus: PromQL; for a count, over a range of one step.")
    source_label: Name = Field("source", description="Prometheus: the label that names the producer.")
    token: SecretStr = Field(SecretStr(""), description="Prometheus: bearer token.")
    step: Duration = Field(timedelta(minutes=1), ge=timedelta(seconds=1), description="Time that one count is over.")
    timeout: Duration = Field(timedelta(seconds=10), ge=timedelta(seconds=1), description="Bound on one request.")

    @property
    def by_topic(self) -> dict[str, str]:
        """The topics by producer; of a single one the producer is unknown, and empty here."""
        return dict(self.topics) if self.topics else {"": str(self.topic)}


def may_be_secret(key: str) -> bool:
    """Return whether what stands under a key of a stream may be a secret."""
    plain = [name for name, field in StreamConfig.model_fields.items() if "SecretStr" not in str(field.annotation)]
    return key not in plain


def with_roles(value: Any) -> Any:
    """Return a configuration in which datasets that are read from streams have their roles.

    A single topic does not say who produced what, so its counts have no source.
    """
    datasets = value.get("datasets") if isinstance(value, dict) else None
    if not isinstance(datasets, dict):
        return value
    streams = value.get("streams") if isinstance(value.get("streams"), dict) else {}
    filled = dict(datasets)
    for name, dataset in datasets.items():
        if isinstance(dataset, dict) and isinstance(dataset.get("stream"), str) and "roles" not in dataset:
            stream = streams.get(dataset["stream"])
            is_single = isinstance(stream, dict) and "topic" in stream
            roles: dict[str, Any] = {"event_time": {"column": AT, "unit": "us"}, "value": VALUE}
            if not (is_single and dataset.get("reading", "count") in ("count", "silence_seconds")):
                roles["source"] = SOURCE
            filled[name] = {**dataset, "roles": roles}
    return {**value, "datasets": filled}
