"""Prometheus' own linter finds nothing to say about /metrics."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from checks import CATALOGUE
from checks.check import Outcome, Sample, Verdict
from checks.measure import Tally
from checks.metrics import METRICS, Kind, Metric
from checks.window import Window
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.exposition import Exposition, registry
from monitor.objectives import points
from monitor.records import Judged
from monitor.resolve import build
from monitor.runner import run_samples
from monitor.status import Watched
from monitor.store import Store

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool")
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
CHANNELS = {"team": {"type": "console"}}
HOSTILE = 'a "source"\\ with\na line {le="1"}'


def lint(text: bytes) -> str:
    done = subprocess.run([str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, timeout=60)
    return (done.stdout + done.stderr).decode() + ("" if done.returncode == 0 else f"exit {done.returncode}")


def sample(metric: Metric) -> Sample:
    labels = {name: metric.values.get(name, (HOSTILE,))[0] for name in metric.labels}
    return Sample(metric.name, {**labels, "dataset": "events"}, 3)


def test_the_exposition_is_clean(tmp_path: Path) -> None:
    """With every metric that is listed, and labels that try to break out."""
    config = Config.model_validate(
        {
            "datasets": {"events": {"files": "x.csv", "roles": {"event_time": "at"}}},
            "engines": {"files": {"url": "duckdb:///:memory:", "budget": {"seconds_per_hour": 600}}},
            "checks": {
                "signal": {"max_value": 1},
                "click_through": {"shown_types": ["view"], "hit_types": ["click"]},
                "feedback_loop": {"exposed": ["model"], "control": ["organic"]},
            },
            "channels": CHANNELS,
        }
    )
    pipeline, store = build(config), Store(f"sqlite:///{tmp_path}/state.db", "default")
    window = Window(NOON - timedelta(minutes=1), NOON)
    for check in CATALOGUE:
        verdicts = [Verdict(check.id, "events", window, Outcome.GOOD, "psi", 0.1, 0.2, feature=HOSTILE)]
        own = [metric for metric in METRICS if metric.check == check.id]
        counters = [sample(metric) for metric in own if metric.kind is Kind.COUNTER]
        gauges = [sample(metric) for metric in own if metric.kind is Kind.GAUGE]
        increments = [*counters, *run_samples(check.id, "events", verdicts)]
        tally = Tally("events", window)
        ours = [slo for slo in pipeline.slos.values() if slo.check == check.id]
        found = tuple(points(ours, [replace(verdicts[0], good=1, total=2)], NOON))
        store.commit(Judged(check.id, "events", window, verdicts, NOON, 0.1, tally, increments, gauges, points=found))
    watched = Watched(config, pipeline.checks, {}, NOON, slos=pipeline.slos)
    text = generate_latest(registry(Exposition(store, lambda: watched, ManualClock(NOON))))
    store.close()
    pipeline.close()
    lines = text.decode().splitlines()
    assert [metric.name for metric in METRICS if not any(line.startswith(f"{metric.name}{{") for line in lines)] == []
    assert lint(text) == ""


def test_the_linter_would_complain() -> None:
    assert "no help text" in lint(b"# TYPE wrong_total gauge\nwrong_total 1\n")
