"""The list of metrics: it is well formed, and holds what the checks emit, no more and no less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from checks import CATALOGUE
from checks.check import Check, Sample
from checks.metrics import BY_NAME, LABELS, METRICS, Kind, Metric
from checks.window import Window
from monitor.baselines import Builder
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.crosscheck import COUNTING
from monitor.exposition import Exposition
from monitor.resolve import build
from monitor.runner import Runner
from monitor.series import series_estimate
from monitor.status import Watched
from monitor.store import Store
from monitor.stream import LiveWriter, Stream, StreamSettings

CHECKS = Path(__file__).parents[2] / "checks"
START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NOW = START + 12 * MINUTE
ROLES = {
    "event_id": "event_id", "user": "user_id", "item": "item_id", "event_type": "event_type", "value": "value",
    "event_time": "event_time", "ingested_at": "ingested_at", "source": "source", "cohort": "arm",
}  # fmt: skip
# Set by the daemon itself, for every check or about itself; the others belong to one check.
OWN = {metric.name for metric in METRICS if metric.check is None}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Watched]]:
    """Every check, run for two windows on made events with all that a pipeline can have."""
    folder = tmp_path_factory.mktemp("stream")
    writer = LiveWriter(Stream(StreamSettings(events_per_second=25, users=2_000, items=300)), folder, START)
    writer.advance(START + 12 * MINUTE)
    # Users stay in the cohort that they were drawn to.
    arms = f"SELECT *, right(user_id, 1) < '5' AS arm FROM read_parquet('{folder}/events/*.parquet')"
    duckdb.execute(f"COPY ({arms}) TO '{folder}/events.parquet'")
    every = {check.id: {"every": "5m", "window": "5m", "settle": "0s"} for check in CATALOGUE}
    # These run only where they are named.
    every["signal"] |= {"max_value": 1_000}
    every["feedback_loop"] |= {"exposed": ["true"], "control": ["false"]}
    every["click_through"] |= {
        "shown_types": ["view"],
        "hit_types": ["click"],
        "exposed": ["true"],
        "control": ["false"],
        "min_users": 2,
    }
    config = Config.model_validate(
        {
            "pipeline": "shop",
            "engines": {"files": {"url": "duckdb:///:memory:", "budget": {"seconds_per_hour": 600}}},
            "datasets": {
                "events": {
                    "files": f"{folder}/events.parquet", "roles": ROLES, "features": ["device", "value"],
                    "users": "users", "items": "items", "sent": "sent", "rejected": "rejected",
                },
                "users": {"files": f"{folder}/users.parquet", "roles": {"user": "user_id"}},
                "items": {"files": f"{folder}/items.parquet", "roles": {"item": "item_id"}},
                "sent": {
                    "files": f"{folder}/sent/*.parquet",
                    "roles": {"event_time": "bucket_start", "source": "source", "value": "sent"},
                },
                "rejected": {"files": f"{folder}/rejected/*.parquet", "roles": {"event_time": "event_time"}},
            },
            "checks": every,
            "channels": {"team": {"type": "console"}},
        }
    )  # fmt: skip
    pipeline, store = build(config), Store(f"sqlite:///{folder}/state.db", "shop")
    runner = Runner(pipeline, store, ManualClock(NOW))
    Builder(runner, store).build(Window(START, START + 5 * MINUTE))
    for end in (START + 5 * MINUTE, START + 10 * MINUTE):
        for judged in runner.run(
            "events", [(check, Window(end - 5 * MINUTE, end)) for check in pipeline.checks["events"]]
        ):
            assert not judged.failed, judged.verdicts[0].reason
            store.commit(judged)
    yield store, Watched(config, pipeline.checks, dict(runner.disabled), START, slos=pipeline.slos)
    store.close()
    pipeline.close()


def emitted(store: Store) -> list[Sample]:
    return [*store.counters(), *store.gauges()]


def test_every_check_s_metrics_are_listed_and_each_that_is_listed_is_emitted(run: tuple[Store, Watched]) -> None:
    store, _watched = run
    found = {sample.metric for sample in emitted(store)}
    assert found - {metric.name for metric in METRICS} == set()
    assert {metric.name for metric in METRICS} - OWN - found == set()


def test_what_is_counted_is_counted_once_and_late_rows_too() -> None:
    counting = {check.id for check in CATALOGUE if check.counters is not Check.counters}
    assert counting == {*COUNTING} == {check.id for check in CATALOGUE if check.late_counts}


def test_samples_have_the_labels_and_values_that_are_listed(run: tuple[Store, Watched]) -> None:
    store, _watched = run
    for sample in emitted(store):
        metric = BY_NAME[sample.metric]
        assert set(sample.labels) == set(metric.labels), sample
        for label, values in metric.values.items():
            assert sample.labels[label] in values, sample


def test_the_exposition_holds_every_metric_that_is_listed(run: tuple[Store, Watched]) -> None:
    store, watched = run
    families = list(Exposition(store, lambda: watched, ManualClock(NOW)).collect())
    assert {sample.name for family in families for sample in family.samples} == set(BY_NAME)
    for family in families:
        for sample in family.samples:
            metric = BY_NAME[sample.name]
            missing = {"pipeline", *metric.labels} - set(sample.labels)
            assert missing <= set(metric.optional), sample
            assert set(sample.labels) <= {"pipeline", *metric.labels}, sample
            assert sample.timestamp is None


def test_no_configuration_makes_more_series_than_estimated(run: tuple[Store, Watched]) -> None:
    store, watched = run
    families = Exposition(store, lambda: watched, ManualClock(NOW)).collect()
    exposed = sum(len(family.samples) for family in families)
    assert 60 < exposed <= series_estimate(watched.config, watched.checks)


def test_what_the_source_spells_is_listed() -> None:
    spelt = {
        name
        for path in CHECKS.glob("*.py")
        if path.name != "metrics.py"
        for name in re.findall(r'"(recwatch_\w+)"', path.read_text())
    }
    assert len(spelt) > 15
    assert spelt <= set(BY_NAME)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_well_formed(metric: Metric) -> None:
    assert re.fullmatch(r"recwatch_[a-z][a-z_]*[a-z]", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    for unit in ("seconds", "ratio"):
        assert (metric.unit == unit) == metric.name.removesuffix("_total").endswith(f"_{unit}")
    assert set(metric.labels) <= set(LABELS) - {"pipeline"}
    assert set(metric.values) <= set(metric.labels)
    assert set(metric.optional) <= set(metric.labels)
    assert metric.check in {None, *(check.id for check in CATALOGUE)}
    assert re.fullmatch(r"[A-Z0-9].{10,250}\.", metric.help), "one sentence, with its full stop"


def test_names_are_listed_once_and_every_label_is_used() -> None:
    assert len(BY_NAME) == len(METRICS)
    assert {"pipeline", *(label for metric in METRICS for label in metric.labels)} == set(LABELS)
