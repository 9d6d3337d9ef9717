"""What the configuration alone says on /metrics, and which series of the state belong to it: reckoned once for each."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from checks.check import Sample
from checks.metrics import BY_NAME, CHECK_RUNS, METRICS, PIPELINE
from monitor.budget import engines_used
from monitor.exposition_slo import defined, running
from monitor.exposition_text import spell
from monitor.status import Watched

# Values by metric, and by series as they are spelt.
Values = dict[str, dict[str, float]]
# Series come and go; for each that can be shown this many are kept as they were spelt, some 500 bytes each.
KEPT_TIMES = 2


class Plan:
    """The part of an exposition that stays until another configuration is in force.

    Args:
        watched: What is watched.
    """

    def __init__(self, watched: Watched) -> None:
        self._of = watched
        self._pipeline = (PIPELINE, watched.config.pipeline)
        self.slos = running(watched)
        self.checks = {(dataset, kind.id) for dataset, kind, check in watched.every() if check is not None}
        engines = frozenset(engines_used(watched.config))
        current = _Current(self.checks, self.slos, engines, watched.config.channels)
        remembering = lru_cache(KEPT_TIMES * watched.config.limits.max_series)
        # By the name of a series in the state: its metric and how it is spelt; None if it is not shown.
        self.shown = remembering(partial(_shown, current, self._pipeline))
        self._spelt = remembering(spell)
        self._fixed: Values = {metric.name: {} for metric in METRICS}
        for samples in (_about_checks(watched), _unborn_runs(self.checks), defined(self.slos.values())):
            for one in samples:
                self._fixed[one.metric][spell(one.metric, (self._pipeline, *one.labels.items()))] = one.value

    def fits(self, watched: Watched) -> bool:
        """Return whether all that this was made of is still in force."""
        is_same = all(getattr(watched, name) is getattr(self._of, name) for name in ("config", "checks", "slos"))
        return is_same and watched.disabled == self._of.disabled

    def values(self) -> Values:
        """Return the values that stay as they are, for others to be added: every metric has its place."""
        return {metric: dict(found) for metric, found in self._fixed.items()}

    def put(self, values: Values, samples: Iterable[Sample]) -> None:
        """Add samples; of two about the same series the later one counts."""
        for sample in samples:
            values[sample.metric][self._spelt(sample.metric, (self._pipeline, *sample.labels.items()))] = sample.value


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


def _shown(current: _Current, pipeline: tuple[str, str], name: str) -> tuple[str, str] | None:
    metric, text = name.split(" ", 1)
    labels = json.loads(text)
    return (metric, spell(metric, (pipeline, *labels.items()))) if current.has(Sample(metric, labels, 0)) else None


def _about_checks(watched: Watched) -> Iterator[Sample]:
    for dataset, kind, check in watched.every():
        labels = {"dataset": dataset, "check": kind.id}
        yield Sample("recwatch_check_enabled", labels, int(check is not None))
        if check is not None:
            yield Sample("recwatch_check_interval_seconds", labels, check.settings.every.total_seconds())


def _unborn_runs(checks: Iterable[tuple[str, str]]) -> Iterator[Sample]:
    """Yield zeros for the runs of checks that have yet to run; the store's own counts replace them."""
    for dataset, check in checks:
        for outcome in CHECK_RUNS.values["outcome"]:
            yield Sample(CHECK_RUNS.name, {"dataset": dataset, "check": check, "outcome": outcome}, 0)
