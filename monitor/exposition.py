"""Prometheus reads the state through here: a collector over the store, without gauges of its own.

Nothing is measured while a scrape waits. Times are exported as timestamps, never as ages, so that
they keep ageing if anything stops; no sample carries a timestamp, so what vanishes is gone at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from checks.check import Outcome, Sample
from checks.metrics import METRICS, Metric
from monitor import log
from monitor.budget import about_scans
from monitor.clock import Clock
from monitor.exposition_plan import Plan, Values
from monitor.exposition_slo import about_changes, about_notifications, seen
from monitor.exposition_text import family_of, head, number, with_own_figures
from monitor.records import Figure, Run
from monitor.series import kept
from monitor.state_size import size_bytes
from monitor.status import Watched
from monitor.store import Store

SERIES, DROPPED = "recwatch_series", "recwatch_series_dropped_total"


class Exposition(Collector):
    """Turns the state into lines of text at each scrape.

    Args:
        store: Where counters, gauges, runs and verdicts are.
        watched: Tells what is watched at this moment.
        clock: Tells the time.
    """

    def __init__(self, store: Store, watched: Callable[[], Watched], clock: Clock) -> None:
        self._store, self._watched, self._clock = store, watched, clock
        self._plan: Plan | None = None
        self._lock = threading.Lock()
        self._dropped_total = 0
        self._dropped_before = 0

    def lines(self) -> list[tuple[Metric, list[str]]]:
        """Return every metric with its lines.

        Raises:
            StateError: The store cannot be read. An empty answer would look like a healthy one.
        """
        watched = self._watched()
        plan = self._plan
        if plan is None or not plan.fits(watched):
            plan = self._plan = Plan(watched)
        values = plan.values()
        with self._store.one_moment():
            plan.put(values, self._samples(watched, plan))
            self._put_stored(values, plan)
        # The two figures about the exposition itself always have their place.
        fitting, dropped = kept(values, watched.config.limits.max_series - 2)
        own: Values = {SERIES: {}, DROPPED: {}}
        total = 2 + sum(map(len, fitting.values()))
        plan.put(own, (Sample(SERIES, {}, total), Sample(DROPPED, {}, self._count_dropped(dropped))))
        fitting |= own
        return [
            (metric, [f"{series} {number(value)}\n" for series, value in fitting[metric.name].items()])
            for metric in METRICS
        ]

    def describe(self) -> Iterable[Family]:
        """Return every family without samples, so that no other collector takes its name."""
        return [family_of(metric) for metric in METRICS]

    def collect(self) -> Iterable[Family]:
        """Return every family with its samples, as prometheus-client reads the lines.

        Raises:
            StateError: The store cannot be read.

        Cost:
            About 15 us a series.
        """
        text = (head("", metric.name, metric.kind, metric.help) + "".join(lines) for metric, lines in self.lines())
        return text_string_to_metric_families("".join(text))

    def _count_dropped(self, dropped: int) -> int:
        """Return how many series were dropped so far; say so in the log whenever it begins or ends."""
        with self._lock:
            if dropped and not self._dropped_before:
                log.error("series_dropped", dropped=dropped, hint="raise limits.max_series")
            self._dropped_before = dropped
            self._dropped_total += dropped
            return self._dropped_total

    def _samples(self, watched: Watched, plan: Plan) -> Iterator[Sample]:
        yield Sample("recwatch_pipeline_up", {}, 1)
        yield Sample("recwatch_build_info", {"version": watched.version}, 1)
        yield Sample("recwatch_config_last_reload_successful", {}, int(watched.read_problem is None))
        yield Sample("recwatch_config_last_reload_success_timestamp_seconds", {}, watched.read_at.timestamp())
        yield Sample("recwatch_state_bytes", {}, size_bytes(self._store))
        yield from seen(self._store, plan.slos, self._clock.now())
        yield from about_notifications(self._store, watched)
        yield from about_changes(self._store)
        yield from about_scans(self._store, watched.config, self._clock.now())
        for run in self._store.runs():
            if (run.dataset, run.check) in plan.checks:
                yield from _about_run(run)
        for figure in self._store.latest_figures():
            if (figure.dataset, figure.check) in plan.checks:
                yield from _about_figure(figure)

    def _put_stored(self, values: Values, plan: Plan) -> None:
        """Add the counters and gauges of the state that are about what is watched."""
        for name, value in self._store.series():
            shown = plan.shown(name)
            if shown is not None:
                metric, series = shown
                values[metric][series] = value


def registry(exposition: Exposition) -> CollectorRegistry:
    """Return the registry of one pipeline: its state, and the process' own figures."""
    found = CollectorRegistry()
    found.register(exposition)
    return with_own_figures(found)


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


def _about_figure(figure: Figure) -> Iterator[Sample]:
    subject: dict[str, str] = json.loads(figure.subject)
    # Verdicts on single sources are kept for the status page.
    if "source" in subject:
        return
    labels = {"dataset": figure.dataset, "check": figure.check, **subject}
    if figure.outcome in (Outcome.GOOD, Outcome.BAD):
        yield Sample("recwatch_check_good", labels, int(figure.outcome == Outcome.GOOD))
    measured = {**labels, "measure": figure.measure}
    for name, value in (("value", figure.value), ("limit", figure.limit)):
        if value is not None:
            yield Sample(f"recwatch_check_{name}", measured, value)
