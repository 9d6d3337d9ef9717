"""The series of /metrics: how many there can be, and which are shown if there are too many."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from checks import CATALOGUE
from checks.check import Check
from checks.contract import Contract
from checks.dataset import Role
from checks.feature_drift import FeatureDrift
from checks.metrics import CHECK_ENABLED, METRICS, Metric
from monitor.config import Config, DatasetConfig
from monitor.errors import ConfigError
from monitor.slos import objectives

LONGEST_LABEL = 128
# Producers beside those told apart: other, (none) and (all).
_MORE_SOURCES = 3
# Verdicts on the dataset as a whole that a check gives: two entities, or the rows and the schema.
_WHOLE_SUBJECTS = 2


def series_estimate(config: Config, checks: Mapping[str, Sequence[Check[Any]]]) -> int:
    """Return how many series a configuration can make at most.

    Args:
        config: A valid configuration.
        checks: The checks of each watched dataset.

    Raises:
        ConfigError: They are more than ``limits.max_series``.
    """
    largest, total = (0, ""), 0
    slos = objectives(config, checks)
    for metric in METRICS:
        if "slo" in metric.labels:
            tiers = sum(len(slo.active) for slo in slos.values())
            total += tiers if "tier" in metric.labels else len(slos) * len(metric.values.get("result", ("",)))
            continue
        if "dataset" not in metric.labels:
            each = len(config.channels) if "channel" in metric.labels else 1
            # Files are read by an engine that need not be named.
            each = len(config.engines) + 1 if "engine" in metric.labels else each
            total += each * prod(map(len, metric.values.values()))
            continue
        for dataset, enabled in checks.items():
            owners = [check for check in enabled if metric.check in (None, check.id)]
            count = sum(_series(metric, check, config.datasets[dataset]) for check in owners)
            if metric is CHECK_ENABLED:
                count = len(CATALOGUE)
            total += count
            largest = max(largest, (count, f"{metric.name} on {dataset}"))
    if total > config.limits.max_series:
        raise ConfigError(
            [
                f"limits.max_series: must be at least {total:,} for what this configuration watches, got"
                f" {config.limits.max_series:,}; raise it, or watch fewer sources or features (the most series,"
                f" {largest[0]:,}, has {largest[1]})"
            ]
        )
    return total


def _series(metric: Metric, check: Check[Any], dataset: DatasetConfig) -> int:
    """Return how many series of a metric one check on one dataset can make at most."""
    sizes = {
        "source": len(dataset.sources or ()) or dataset.most_sources,
        "feature": len(dataset.features),
        "rule": _rules(check, dataset),
    }
    sizes["source"] = sizes["source"] + _MORE_SOURCES if Role.SOURCE in dataset.roles else 1
    if metric.optional:
        # These follow the verdicts: one for each subject, whichever of the labels it has.
        return max(_WHOLE_SUBJECTS, sizes["feature"]) if isinstance(check, FeatureDrift) else _WHOLE_SUBJECTS
    closed = {label: len(values) for label, values in metric.values.items()}
    return prod(
        {**dict.fromkeys(metric.labels, 1), **{k: v for k, v in sizes.items() if k in metric.labels}, **closed}.values()
    )


def _rules(check: Check[Any], dataset: DatasetConfig) -> int:
    if not isinstance(check, Contract):
        return 1
    times = sum(role in dataset.roles for role in (Role.EVENT_TIME, Role.INGESTED_AT))
    # A time may be missing, too early or too late; a value no finite number, or negative.
    own = 3 * times + 2 * (Role.VALUE in dataset.roles)
    return own + len(check.settings.required) + len(check.settings.ranges)


def kept(values: Mapping[str, Mapping[str, float]], budget: int) -> tuple[dict[str, Mapping[str, float]], int]:
    """Return the series of each metric that fit into a budget, and how many do not.

    All metrics get the same share; what a small one leaves over goes to the larger ones. Of a metric with
    too many, those that come first in the order of their labels are kept, so that they are the same every time.

    Args:
        values: By metric name, and by series.
        budget: Most series in all.
    """
    share, rest = budget, budget
    waiting = sorted((len(found) for found in values.values()), reverse=True)
    while waiting:
        share = rest // len(waiting)
        if waiting[-1] > share:
            break
        rest -= waiting.pop()
    else:
        share = max((len(found) for found in values.values()), default=0)
    # Sorting is needed only to choose.
    fitting = {
        name: dict(sorted(found.items())[:share]) if len(found) > share else found for name, found in values.items()
    }
    return fitting, sum(map(len, values.values())) - sum(map(len, fitting.values()))


def label_value(text: str) -> str:
    """Return a label's value, at most 128 characters; longer ones end in a mark that keeps them apart.

    Examples:
        >>> label_value("web")
        'web'
        >>> len(label_value("x" * 1000)), label_value("x" * 1000) == label_value("x" * 1001)
        (128, False)
    """
    # Half of a surrogate pair can't be written as UTF-8, and one such label would spoil every scrape.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    if len(clean) <= LONGEST_LABEL:
        return clean
    mark = "~" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return clean[: LONGEST_LABEL - len(mark)] + mark
