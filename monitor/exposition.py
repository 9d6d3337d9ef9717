"""Prometheus reads the state through here: a collector over the store, without gauges of its own.

Nothing is measured while a scrape waits. Times are exported as timestamps, never as ages, so that
they keep ageing if anything stops; no sample carries a timestamp, so what vanishes is gone at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from checks.check import Outcome, Sample, Verdict
from checks.metrics import BY_NAME, CHECK_RUNS, METRICS, PIPELINE, Kind, Metric
from monitor import log
from monitor.budget import about_scans, engines_used
from monitor.clock import Clock
from monitor.exposition_slo import about_changes, about_notifications, about_objectives, running
from monitor.exposition_text import registry_with
from monitor.records import Run
from monitor.series import kept, label_value
from monitor.state_size import size_bytes
from monitor.status import Watched
from monitor.store import Store

SERIES, DROPPED = "recwatch_series", "recwatch_series_dropped_total"


class Exposition(Collector):
    """Turns the state into metric families at each scrape.

    Args:
        store: Where counters, gauges, runs and verdicts are.
        watched: Tells what is watched at this moment.
        clock: Tells the time.
    """

    def __init__(self, store: Store, watched: Callable[[], Watched], clock: Clock) -> None:
        self._store, self._watched, self._clock = store, watched, clock
        self._lock = threading.Lock()
        self._dropped_total = 0
        self._dropped_before = 0

    def describe(self) -> Iterable[Family]:
        """Return every family without samples, so that no other collector takes its name."""
        return [family_of(metric) for metric in METRICS]

    def collect(self) -> Iterable[Family]:
        """Return every family with its samples.

        Raises:
            StateError: The store cannot be read. An empty answer would look like a healthy one.
        """
        watched = self._watched()
        unique = {(sample.metric, frozenset(sample.labels.items())): sample for sample in self._samples(watched)}
        samples: dict[str, list[Sample]] = {}
        for sample in unique.values():
            samples.setdefault(sample.metric, []).append(sample)
        # The two figures about the exposition itself always have their place.
        fitting, dropped = kept(samples, watched.config.limits.max_series - 2)
        fitting[SERIES] = [Sample(SERIES, {}, 2 + sum(map(len, fitting.values())))]
        fitting[DROPPED] = [Sample(DROPPED, {}, self._count_dropped(dropped))]
        families, pipeline = [], {PIPELINE: label_value(watched.config.pipeline)}
        for metric in METRICS:
            family = family_of(metric)
            for sample in fitting.get(metric.name, ()):
                labels = {name: label_value(text) for name, text in sample.labels.items()}
                family.add_sample(metric.name, {**pipeline, **labels}, sample.value)
            families.append(family)
        return families

    def _count_dropped(self, dropped: int) -> int:
        """Return how many series were dropped so far; say so in the log whenever it begins or ends."""
        with self._lock:
            if dropped and not self._dropped_before:
                log.error("series_dropped", dropped=dropped, hint="raise limits.max_series")
            self._dropped_before = dropped
            self._dropped_total += dropped
            return self._dropped_total

    def _samples(self, watched: Watched) -> Iterator[Sample]:
        yield from _about_configuration(watched)
        yield Sample("recwatch_state_bytes", {}, size_bytes(self._store))
        slos = running(watched)
        yield from about_objectives(self._store, slos, self._clock.now())
        yield from about_notifications(self._store, watched)
        yield from about_changes(self._store)
        yield from about_scans(self._store, watched.config, self._clock.now())
        checks = {(dataset, kind.id) for dataset, kind, check in watched.every() if check is not None}
        yield from _unborn_runs(checks)
        current = _Current(checks, set(slos), set(engines_used(watched.config)), watched.config.channels)
        for sample in (*self._store.counters(), *self._store.gauges()):
            # A dataset or check that was taken out of the configuration would be stale for ever.
            if current.has(sample):
                yield sample
        runs = [run for run in self._store.runs() if (run.dataset, run.check) in checks]
        for run in runs:
            yield from _about_run(run)
        ran = {(run.dataset, run.check) for run in runs}
        yield from _about_verdicts([found for found in self._store.latest() if (found.dataset, found.check) in ran])


def registry(exposition: Exposition) -> CollectorRegistry:
    """Return the registry of one pipeline."""
    return registry_with(exposition)


def family_of(metric: Metric) -> Family:
    """Return the family of a metric, without samples."""
    family = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    return family(metric.name, metric.help, labels=(PIPELINE, *metric.labels))


@dataclass(frozen=True)
class _Current:
    """What is watched at this moment."""

    checks: Container[tuple[str, str]]
    slos: Container[str]
    engines: Container[str]
    channels: Container[str]

    def has(self, sample: Sample) -> bool:
        """Return whether a series that was kept is about something that is still watched."""
        metric, labels = BY_NAME.get(sample.metric), sample.labels
        if metric is None:
            return False
        for label, present in (("slo", self.slos), ("engine", self.engines), ("channel", self.channels)):
            if label in labels:
                return labels[label] in present
        return (labels.get("dataset", ""), metric.check or labels.get("check", "")) in self.checks


def _about_configuration(watched: Watched) -> Iterator[Sample]:
    yield Sample("recwatch_pipeline_up", {}, 1)
    yield Sample("recwatch_build_info", {"version": watched.version}, 1)
    yield Sample("recwatch_config_last_reload_successful", {}, int(watched.read_problem is None))
    yield Sample("recwatch_config_last_reload_success_timestamp_seconds", {}, watched.read_at.timestamp())
    for dataset, kind, check in watched.every():
        labels = {"dataset": dataset, "check": kind.id}
        yield Sample("recwatch_check_enabled", labels, int(check is not None))
        if check is not None:
            yield Sample("recwatch_check_interval_seconds", labels, check.settings.every.total_seconds())


def _unborn_runs(running: Iterable[tuple[str, str]]) -> Iterator[Sample]:
    """Yield zeros for the runs of checks that have yet to run; the store's own counts replace them."""
    for dataset, check in running:
        for outcome in CHECK_RUNS.values["outcome"]:
            yield Sample(CHECK_RUNS.name, {"dataset": dataset, "check": check, "outcome": outcome}, 0)


def _about_run(run: Run) -> Iterator[Sample]:
    labels = {"dataset": run.dataset, "check": run.check}
    yield Sample("recwatch_check_duration_seconds", labels, run.duration_seconds)
    moments: dict[str, datetime | None] = {
        "last_run": run.finished_at,
        "last_success": run.succeeded_at,
        "watermark": run.watermark,
    }
    for name, at in moments.items():
        if at is not None:
            yield Sample(f"recwatch_check_{name}_timestamp_seconds", labels, at.timestamp())


def _about_verdicts(verdicts: Sequence[Verdict]) -> Iterator[Sample]:
    for verdict in verdicts:
        if not verdict.is_whole:
            continue
        labels = {"dataset": verdict.dataset, "check": verdict.check, **verdict.subject}
        if verdict.outcome in (Outcome.GOOD, Outcome.BAD):
            yield Sample("recwatch_check_good", labels, int(verdict.outcome is Outcome.GOOD))
        measured = {**labels, "measure": verdict.measure}
        for name, value in (("value", verdict.value), ("limit", verdict.limit)):
            if value is not None:
                yield Sample(f"recwatch_check_{name}", measured, value)
