"""Streams within a pipeline: what Kafka produced against what landed in files, and lag held against a limit."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pytest

from checks.check import Outcome, Verdict
from checks.window import Window
from monitor.clock import ManualClock, SystemClock
from monitor.commands.validate import unused
from monitor.config import Config
from monitor.config_streams import OF_KAFKA, OF_PROMETHEUS
from monitor.daemon import Daemon
from monitor.demo import free_port
from monitor.load import load
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store

MINUTE = timedelta(minutes=1)


class Shop:
    """Two topics, files that a loader writes from them, and the configuration of both.

    Args:
        broker: Where the topics are.
        folder: Where files, state and configuration go.
        name: What topics and group are called.
    """

    def __init__(self, broker: Any, folder: Path, name: str) -> None:
        self.broker, self.folder = broker, folder
        self.web, self.ios, self.group = broker.topic(f"{name}.web", 2), broker.topic(f"{name}.ios"), f"{name}-loader"
        # Whole minutes that are over.
        self.end = datetime.now(UTC).replace(second=0, microsecond=0) - 5 * MINUTE
        self.start = self.end - MINUTE
        self.path = folder / "recwatch.yml"
        self.path.write_text(f"""
state: sqlite:///{folder}/state.db
server: {{port: 0}}
streams:
  clicks: {{kafka: "{broker.servers}", topics: {{web: {self.web}, ios: {self.ios}}}, group: {self.group}, timeout: 2s}}
datasets:
  events:
    files: {folder}/events.parquet
    roles: {{event_time: at, source: app}}
    sent: produced
    sources: [web, ios]
  produced: {{stream: clicks}}
  lag:
    stream: clicks
    reading: lag_records
    checks: {{signal: {{max_value: 30, combine: sum}}}}
checks:
  ingestion: {{min_rows: 10}}
  freshness: {{max_age: 10m}}
""")

    def produce(self, web: int, ios: int) -> None:
        """Produce events spread over the minute, and a few in the minute after."""
        for topic, count, partitions in ((self.web, web, 2), (self.ios, ios, 1)):
            for partition in range(partitions):
                step = 60_000 * partitions / count
                times = [int(self.start.timestamp() * 1_000 + step * at) for at in range(count // partitions)]
                self.broker.produce(topic, [*times, times[-1] + 60_000], partition)

    def land(self, web: int, ios: int) -> None:
        """Write events of the minute to a file."""
        with closing(duckdb.connect()) as connection:
            rows = f"""
                SELECT TIMESTAMP '{self.start:%Y-%m-%d %H:%M:%S}' + to_microseconds(i * 1000) AS at, app
                FROM (SELECT 'web' AS app, unnest(range({web})) AS i UNION ALL SELECT 'ios', unnest(range({ios})))"""
            connection.execute(f"COPY ({rows}) TO '{self.folder}/events.parquet'")

    def judged(self, dataset: str, *checks: str) -> list[Verdict]:
        """Return the verdicts of checks on the minute; signals are judged now."""
        with closing(build(load(self.path))) as pipeline:
            now = datetime.now(UTC)
            due = [
                (check, Window(self.start, self.end) if check.catches_up else Window(now - MINUTE, now))
                for check in pipeline.checks[dataset]
                if check.id in checks
            ]
            found = Runner(pipeline, None, SystemClock()).run(dataset, due)
            return [verdict for judged in found for verdict in judged.verdicts]


@pytest.fixture
def shop(broker: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Shop:
    return Shop(broker, tmp_path, request.node.name.replace("test_", "")[:40])


def test_what_is_lost_between_topic_and_files_is_found(shop: Shop) -> None:
    shop.produce(web=80, ios=40)
    shop.land(web=80, ios=40)
    assert {verdict.outcome for verdict in shop.judged("events", "ingestion")} == {Outcome.GOOD}
    shop.land(web=80, ios=33)
    whole, *sources = shop.judged("events", "ingestion")
    assert (whole.outcome, whole.good, whole.total, whole.details["silent_drop"]) == (Outcome.BAD, 113, 120, 7)
    assert {verdict.source: (verdict.outcome, verdict.details["silent_drop"]) for verdict in sources} == {
        "web": (Outcome.GOOD, 0), "ios": (Outcome.BAD, 7),
    }  # fmt: skip


def test_kafka_being_down_is_an_error_of_the_one_check_that_needs_it(shop: Shop) -> None:
    shop.produce(web=80, ios=40)
    shop.land(web=80, ios=40)
    shop.broker.disconnect()
    try:
        found = {verdict.check: verdict for verdict in shop.judged("events", "ingestion", "freshness")}
        (signal,) = shop.judged("lag", "signal")
    finally:
        shop.broker.connect()
    assert found["freshness"].outcome is Outcome.GOOD
    for verdict in (found["ingestion"], signal):
        assert verdict.outcome is Outcome.ERROR
        assert verdict.reason.startswith(f"stream clicks: {shop.broker.servers}: ")


def test_lag_is_held_against_its_limit(shop: Shop) -> None:
    shop.produce(web=80, ios=40)
    shop.broker.commit(shop.web, shop.group, [41, 31])
    shop.broker.commit(shop.ios, shop.group, [21])
    whole, *partitions = shop.judged("lag", "signal")
    assert (whole.outcome, whole.value, whole.limit) == (Outcome.GOOD, 30, 30)
    assert {verdict.source: verdict.value for verdict in partitions} == {"web/0": 0, "web/1": 10, "ios/0": 20}
    shop.broker.produce(shop.ios, [int(shop.end.timestamp() * 1_000)])
    whole, *partitions = shop.judged("lag", "signal")
    assert (whole.outcome, whole.value) == (Outcome.BAD, 31)
    assert whole.reason == "sum of the values is 31, at most 30 is good"


def test_on_a_stream_only_those_checks_run_that_it_names(shop: Shop) -> None:
    config = load(shop.path)
    assert config.watched() == ["events", "lag"]
    with closing(build(config)) as pipeline:
        assert [check.id for check in pipeline.checks["lag"]] == ["signal"]
        assert "signal" not in {check.id for check in pipeline.checks["events"]}
        assert "lag-signal" in pipeline.slos
    assert list(unused(config)) == []


def test_a_daemon_that_was_away_counts_every_minute_once(shop: Shop) -> None:
    shop.produce(web=80, ios=40)
    shop.land(web=80, ios=33)
    # Before it was away, and after: the second daemon catches up with the state alone.
    for at in (shop.end, shop.end + 3 * MINUTE):
        daemon = Daemon(shop.path, ManualClock(at))
        try:
            checks = [check for check in daemon.live.pipeline.checks["events"] if check.id == "ingestion"]
            daemon.tick("events", checks)
            counted = {
                (sample.labels["source"], sample.labels["result"]): sample.value
                for sample in daemon.store.counters()
                if sample.metric == "recwatch_ingest_events_total"
            }
        finally:
            daemon.live.watch.close()
            daemon.live.pipeline.close()
            daemon.store.close()
    # Three records came in the minute after, and none of them has landed.
    assert counted["ios", "ok"] == 33
    assert counted["web", "ok"] == 80
    assert (counted["ios", "failed"], counted["web", "failed"]) == (7 + 1, 2)


def test_commands_know_streams(shop: Shop, recwatch: Callable[..., Any]) -> None:
    shop.land(web=8, ios=4)
    validated = recwatch("validate", "-c", str(shop.path))
    assert validated.code == 0
    assert "lag_records of the stream clicks" in validated.out
    explained = recwatch("explain", "ingestion", "-c", str(shop.path), "--dataset", "events")
    assert explained.code == 0, explained.err
    shop.broker.drop(shop.ios)
    failed = recwatch("doctor", "-c", str(shop.path))
    assert failed.code == 3
    assert f"stream clicks: topic {shop.ios}: Broker: Unknown topic or partition; create it" in failed.out


def test_the_value_of_a_signal_is_a_metric(shop: Shop) -> None:
    shop.produce(web=80, ios=40)
    shop.broker.commit(shop.ios, shop.group, [21])
    with closing(build(load(shop.path))) as pipeline, closing(Store(f"sqlite:///{shop.folder}/state.db", "x")) as store:
        now = datetime.now(UTC)
        (check,) = pipeline.checks["lag"]
        for judged in Runner(pipeline, store, SystemClock()).run("lag", [(check, Window(now - MINUTE, now))]):
            store.commit(judged)
        values = {
            sample.labels["source"]: sample.value
            for sample in store.gauges()
            if sample.metric == "recwatch_signal_value"
        }
    assert values == {"(all)": 41 + 41 + 20, "web/0": 41, "web/1": 41, "ios/0": 20}


def test_a_single_topic_does_not_say_who_produced_what(broker: Any) -> None:
    config = Config.model_validate(
        {
            "streams": {"one": {"kafka": broker.servers, "topic": "one"}},
            "datasets": {
                "events": {"files": "events.parquet", "roles": {"event_time": "at"}, "sent": "produced"},
                "produced": {"stream": "one"},
                "lag": {"stream": "one", "reading": "end_offset"},
            },
        }
    )
    assert sorted(config.datasets["produced"].roles) == ["event_time", "value"]
    assert sorted(config.datasets["lag"].roles) == ["event_time", "source", "value"]


# -- Prometheus, and the guide -------------------------------------------------------------------------


def test_a_query_is_a_signal_and_prometheus_being_down_is_never_healthy(scraped: Any, tmp_path: Path) -> None:
    scraped.text = "error_ratio 0.02\n"
    scraped.until("error_ratio")
    outcomes = {}
    for name, url, query in (
        ("within", scraped.url, "error_ratio"),
        ("above", scraped.url, "error_ratio * 10"),
        ("absent", scraped.url, "no_such_metric"),
        ("wrong", scraped.url, "sum("),
        ("down", f"http://127.0.0.1:{free_port()}", "error_ratio"),
    ):
        config = Config.model_validate(
            {
                "state": f"sqlite:///{tmp_path}/state.db",
                "streams": {"ratio": {"prometheus": url, "query": query}},
                "datasets": {
                    "errors": {"stream": "ratio", "reading": "value", "checks": {"signal": {"max_value": 0.05}}}
                },
            }
        )
        with closing(build(config)) as pipeline:
            now = datetime.now(UTC)
            ((check,),) = pipeline.checks.values()
            (judged,) = Runner(pipeline, None, SystemClock()).run("errors", [(check, Window(now - MINUTE, now))])
            outcomes[name] = judged.verdicts[0].outcome.value
    assert outcomes == {"within": "good", "above": "bad", "absent": "unknown", "wrong": "error", "down": "error"}


def test_the_guide_is_a_right_configuration(tmp_path: Path) -> None:
    guide = resources.files("monitor").joinpath("guides", "sources.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "recwatch.yml").write_text(written)
    config = load(tmp_path / "recwatch.yml", {"KAFKA_PASSWORD": "one", "PROM_PASSWORD": "two"})
    assert config.watched() == ["events", "accepted", "loader_lag", "loader_delay", "clicks_silent", "p99"]
    readings = set(re.findall(r"^\| `(\w+)`", guide, re.MULTILINE))
    assert readings == {*OF_KAFKA, *OF_PROMETHEUS}
    assert list(unused(config)) == []
