"""What a schema cannot say about streams: what belongs together, and which dataset reads what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from monitor.config import Config
from monitor.config_streams import OF_KAFKA, OF_PROMETHEUS, StreamConfig
from monitor.document import Problem, Where
from monitor.streams.kafka import FIXED_OPTIONS
from monitor.wording import meant

LAGS = ("lag_records", "lag_seconds")
_KAFKA_ONLY, _PROMETHEUS_ONLY = ("topic", "topics", "group", "options"), ("query", "source_label", "token")


def _kinds(config: Config) -> Iterator[Problem]:
    for name, stream in config.streams.items():
        where = ("streams", name)
        if (stream.kafka is None) == (stream.prometheus is None):
            got = "neither" if stream.kafka is None else "both"
            yield Problem(where, f"must have either kafka or prometheus, got {got}", "name one of them")
            continue
        kind, foreign = ("Kafka", _PROMETHEUS_ONLY) if stream.kafka is not None else ("Prometheus", _KAFKA_ONLY)
        for key in sorted(set(foreign) & stream.model_fields_set):
            yield Problem((*where, key), f"a stream of {kind} has no {key}", "remove it")
        yield from _kafka(where, stream) if stream.kafka is not None else _prometheus(where, stream)


def _kafka(where: Where, stream: StreamConfig) -> Iterator[Problem]:
    if (stream.topic is None) == (not stream.topics):
        got = "neither" if stream.topic is None else "both"
        yield Problem(where, f"must have either topic or topics, got {got}", "name the topic, or one for each producer")
    for key in stream.options:
        if key in FIXED_OPTIONS:
            yield Problem((*where, "options", key), "is set by recwatch itself", "remove it, or use kafka and group")
    if find_spec("confluent_kafka") is None:
        rule = "needs the package confluent-kafka, which is not installed"
        yield Problem((*where, "kafka"), rule, "install recwatch[kafka]")


def _prometheus(where: Where, stream: StreamConfig) -> Iterator[Problem]:
    if stream.query is None:
        yield Problem(where, "must have a query", "add one in PromQL")
    try:
        url = parse_url(stream.prometheus.get_secret_value() if stream.prometheus else "")
        is_http = url.scheme in ("http", "https") and bool(url.host)
    except LocationParseError:
        is_http = False
    if not is_http:
        yield Problem((*where, "prometheus"), "must be a URL", "write it like http://127.0.0.1:9090")


def _datasets(config: Config) -> Iterator[Problem]:
    for name, dataset in config.datasets.items():
        where: Where = ("datasets", name)
        if dataset.stream is None:
            if "reading" in dataset.model_fields_set:
                yield Problem((*where, "reading"), "only what is read from a stream has a reading", "add stream")
            continue
        others = [key for key in ("files", "table", "engine") if getattr(dataset, key) is not None]
        if others:
            rule = f"is read from a stream, and so cannot have {others[0]}"
            yield Problem((*where, others[0]), rule, "remove it, or stream")
        found = config.streams.get(dataset.stream)
        if found is None:
            todo = meant(dataset.stream, config.streams, "add it to streams")
            place = (("streams", dataset.stream),)
            yield Problem((*where, "stream"), "no stream has this name", todo, dataset.stream, rests_on=place)
            continue
        readings = OF_KAFKA if found.kafka is not None else OF_PROMETHEUS
        if dataset.reading not in readings:
            rule = f"the stream {dataset.stream} has no such reading"
            yield Problem((*where, "reading"), rule, f"use one of {', '.join(readings)}", dataset.reading)
        elif dataset.reading in LAGS and found.group is None:
            rule = f"needs a consumer group, which the stream {dataset.stream} does not name"
            yield Problem((*where, "reading"), rule, f"add streams.{dataset.stream}.group", dataset.reading)


RULES: tuple[Callable[[Config], Iterator[Problem]], ...] = (_kinds, _datasets)
