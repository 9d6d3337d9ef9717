"""Every exported metric as data: its name, type, unit, labels and meaning.

Alert rules, dashboards and the exposition read the names from here, so that all spell them alike.
Every series also carries the label ``pipeline``. Ids of users or items are never labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from checks.check import Outcome
from checks.duplicates import SPLITS
from checks.feedback_loop import BIASES
from checks.unknown_ids import CAUSES, ENTITIES

PREFIX = "recwatch_"
PIPELINE = "pipeline"
# Every label that a metric may have; values are bounded by the configuration or listed here.
LABELS = (
    "pipeline", "dataset", "source", "check", "entity", "feature", "method", "matrix", "measure", "outcome", "result",
    "cause", "rule", "version", "slo", "kind", "team", "tier", "channel", "engine", "reason", "bound",
    "figure",
)  # fmt: skip


class Kind(StrEnum):
    """How a metric may change: a counter only grows, a gauge goes up and down."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True)
class Metric:
    """One exported metric.

    Args:
        name: Full name; counters end in ``_total``.
        kind: Counter or gauge.
        unit: What one of it is: seconds, ratio, events; empty for a plain number or a flag.
        labels: Label names besides ``pipeline``.
        help: What it counts, in words.
        check: Id of the check that sets it; None for what the daemon says about every check or itself.
        values: The only values of a label, where they are known beforehand.
        optional: Labels that a series has only where they apply.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    check: str | None = None
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optional: tuple[str, ...] = ()


def _counter(
    name: str, unit: str, labels: tuple[str, ...], meaning: str, check: str, **values: Iterable[str]
) -> Metric:
    closed = {label: tuple(found) for label, found in values.items()}
    return Metric(PREFIX + name, Kind.COUNTER, unit, labels, meaning, check, closed)


def _gauge(name: str, unit: str, labels: tuple[str, ...], meaning: str, check: str, **values: Iterable[str]) -> Metric:
    closed = {label: tuple(found) for label, found in values.items()}
    return Metric(PREFIX + name, Kind.GAUGE, unit, labels, meaning, check, closed)


def _of_check(name: str, unit: str, meaning: str) -> Metric:
    return Metric(f"{PREFIX}check_{name}", Kind.GAUGE, unit, ("dataset", "check"), meaning)


def _of_verdict(name: str, labels: tuple[str, ...], meaning: str) -> Metric:
    named = ("dataset", "check", "entity", "feature", *labels)
    return Metric(f"{PREFIX}check_{name}", Kind.GAUGE, "", named, meaning, optional=("entity", "feature"))


def _own(name: str, kind: Kind, unit: str, meaning: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(PREFIX + name, kind, unit, labels, meaning)


def _of_slo(name: str, kind: Kind, unit: str, meaning: str, labels: tuple[str, ...] = ()) -> Metric:
    results = {"result": RESULTS[: 2 if "events" in name else 3]} if "result" in labels else {}
    return Metric(f"{PREFIX}slo_{name}", kind, unit, ("slo", *labels), meaning, values=results)


RESULTS = (Outcome.GOOD.value, Outcome.BAD.value, Outcome.UNKNOWN.value)
DELIVERIES = ("delivered", "refused")
# What is done on purpose, and may explain what is found.
CHANGES = ("deploy", "model", "config", "other")
_MATRIX = {"matrix": ("active", "catalogue")}
_DRIFT = ("dataset", "feature", "method")
_POPULARITY = {"method": ("js_distance", "l_infinity")}

CHECK_ENABLED = _of_check("enabled", "", "1 if the check runs on the dataset, 0 if it is switched off or lacks a role.")
CHECK_RUNS = Metric(
    "recwatch_check_runs_total", Kind.COUNTER, "runs", ("dataset", "check", "outcome"),
    "Runs of a check by how they ended: good, bad, unknown (could not judge) or error (could not run).",
    values={"outcome": tuple(outcome.value for outcome in Outcome)},
)  # fmt: skip

_DAEMON = (
    _own("pipeline_up", Kind.GAUGE, "",
         "1 while a pipeline runs, 0 while its file or its state cannot be read."),
    _own("build_info", Kind.GAUGE, "", "The running version; the value is always 1.", ("version",)),
    _own("config_last_reload_successful", Kind.GAUGE, "",
         "1 if the configuration was read without a problem the last time it was read, else 0."),
    _own("config_last_reload_success_timestamp_seconds", Kind.GAUGE, "seconds",
         "When the configuration now in force was read, as a Unix time."),
    Metric("recwatch_last_change_timestamp_seconds", Kind.GAUGE, "seconds", ("kind",),
           "When the newest deploy, model roll-out or other change was made, as a Unix time; 0 before the first.",
           values={"kind": CHANGES}),
    _own("state_bytes", Kind.GAUGE, "bytes", "Room that the state takes where it lies."),
    _own("series", Kind.GAUGE, "series", "Series with the prefix recwatch_ in this exposition."),
    _own("series_dropped_total", Kind.COUNTER, "series",
         "Series left out of expositions because of limits.max_series, added up over all scrapes."),
)  # fmt: skip

_GAUGE, _COUNTER = Kind.GAUGE, Kind.COUNTER
_SLO = (
    _of_slo("info", _GAUGE, "", "What an objective is about, and who owns it; the value is always 1.",
            ("check", "dataset", "kind", "team")),
    _of_slo("objective_ratio", _GAUGE, "ratio", "Share of slices or events that must be good."),
    _of_slo("period_seconds", _GAUGE, "seconds", "Over how long the error budget is reckoned."),
    _of_slo("alert_threshold_ratio", _GAUGE, "ratio",
            "Bad share above which a burn-rate tier fires; only tiers that can fire.", ("tier",)),
    _of_slo("min_bad_checks", _GAUGE, "runs", "Fewest bad runs in a tier's long window for it to fire."),
    _of_slo("min_events", _GAUGE, "events", "Fewest events in a tier's long window for it to fire."),
    _of_slo("observed_seconds", _GAUGE, "seconds", "How long the objective has been watched, as far back as matters."),
    _of_slo("slice_good", _GAUGE, "",
            "1 while the last run was good, 0 while it was bad; absent while it is unknown or overdue."),
    _of_slo("events_total", _COUNTER, "events", "Events of the present by whether they were good.", ("result",)),
    _of_slo("checks_total", _COUNTER, "runs", "Runs of the present by how they ended.", ("result",)),
    _of_slo("last_data_timestamp_seconds", _GAUGE, "seconds", "When a run last ended good or bad, as a Unix time."),
    _of_slo("data_due_seconds", _GAUGE, "seconds", "The longest time without a good or bad run that is normal."),
    _of_slo("budget_remaining_ratio", _GAUGE, "ratio",
            "Share of the period's error budget that is left; below 0 when it is overspent."),
)  # fmt: skip
_NOTIFICATIONS = (
    _own("leader", _GAUGE, "", "1 if this daemon runs the checks and tells people, 0 if another one does."),
    Metric("recwatch_notifications_total", _COUNTER, "messages", ("channel", "result"),
           "Messages by what became of them: delivered, or refused for good.", values={"result": DELIVERIES}),
    _own("notification_queue_length", _GAUGE, "messages", "Messages that wait to be delivered.", ("channel",)),
)  # fmt: skip

# Why a tick is put off: its engine's budget is used up, or the tick before it has not ended.
DEFERRALS = ("budget", "queue")
_ENGINES = (
    _own("engine_scan_seconds_total", _COUNTER, "seconds", "Time that statements took on an engine.", ("engine",)),
    _own("engine_scan_budget_seconds", _GAUGE, "seconds",
         "Statement time that is allowed on an engine in an hour; absent without a limit.", ("engine",)),
    _own("engine_scan_budget_remaining_ratio", _GAUGE, "ratio",
         "Share of this hour's statement time that is left on an engine, 0 when it is used up.", ("engine",)),
    Metric("recwatch_ticks_deferred_total", _COUNTER, "ticks", ("engine", "reason"),
           "Ticks put off, by why: the engine's budget is used up, or the tick before still waits or runs.",
           values={"reason": DEFERRALS}),
)  # fmt: skip

# In the order in which they are exposed: the daemon, engines, objectives, every check, then each check's own.
METRICS: tuple[Metric, ...] = (
    *_DAEMON,
    *_ENGINES,
    *_SLO,
    *_NOTIFICATIONS,
    CHECK_ENABLED,
    _of_check("interval_seconds", "seconds", "How often the check is set to run."),
    _of_check("duration_seconds", "seconds", "How long the last run took to ask the engine; shared scans count fully."),
    _of_check("last_run_timestamp_seconds", "seconds", "When the check last finished, somehow, as a Unix time."),
    _of_check("last_success_timestamp_seconds", "seconds",
              "When the check last finished without an error, as a Unix time; absent until it has."),
    _of_check("watermark_timestamp_seconds", "seconds", "End of the newest window that was judged, as a Unix time."),
    CHECK_RUNS,
    _of_verdict("good", (),
                "1 if the last verdict was good, 0 if it was bad; absent while it is unknown or an error."),
    _of_verdict("value", ("measure",), "The value of the last verdict, in the unit that its measure names."),
    _of_verdict("limit", ("measure",), "The bound that the value was last held against, in the same unit."),
    _gauge("newest_event_timestamp_seconds", "seconds", ("dataset", "source"),
           "Time of the newest event, as a Unix time; rows dated ahead of the clock are left out.", "freshness"),
    _gauge("freshness_emergency_seconds", "seconds", ("dataset",), "Age of the newest event that is an emergency.",
           "freshness"),
    _gauge("newest_ingest_timestamp_seconds", "seconds", ("dataset", "source"),
           "Time at which the newest row arrived, as a Unix time.", "freshness"),
    _counter("ingest_events_total", "events", ("dataset", "source", "result"),
             "Events by whether they landed and keep the event contract (ok) or not (failed); together all that were"
             " sent, or landed and rejected where nobody counts sends.", "ingestion", result=("ok", "failed")),
    _counter("contract_rows_total", "rows", ("dataset", "result"),
             "Rows by whether they keep the event contract.", "contract", result=("valid", "invalid")),
    _counter("contract_broken_total", "rows", ("dataset", "rule"),
             "Invalid rows by the first rule that they break.", "contract"),
    _counter("id_events_total", "events", ("dataset", "entity", "result"),
             "Events by whether their id leads anywhere; counted by event, never by distinct id.",
             "unknown_ids", entity=ENTITIES, result=("known", "unknown")),
    _counter("id_causes_total", "events", ("dataset", "entity", "cause"),
             "Events whose id leads nowhere, by the first cause that holds: missing, malformed, unknown or retired.",
             "unknown_ids", entity=ENTITIES, cause=CAUSES),
    _counter("dedup_events_total", "events", ("dataset", "result"),
             "Rows with a key: first copies, and surplus copies by where the first one was: in the same window, shortly"
             " before (retry), or longer ago (replay).", "duplicates", result=("first", *SPLITS)),
    _gauge("matrix_density_ratio", "ratio", ("dataset", "matrix"),
           "Distinct pairs of user and item over users times items; active ones, or all of the catalogue.",
           "density", **_MATRIX),
    _gauge("matrix_users", "users", ("dataset", "matrix"), "Users that density is taken over.", "density", **_MATRIX),
    _gauge("matrix_items", "items", ("dataset", "matrix"), "Items that density is taken over.", "density", **_MATRIX),
    _gauge("matrix_cells", "pairs", ("dataset", "matrix"), "Distinct pairs of user and item in the window.",
           "density", **_MATRIX),
    _gauge("drift_score", "", _DRIFT, "How far a feature is from its reference, by the statistic that decides.",
           "feature_drift"),
    _gauge("drift_threshold", "", _DRIFT,
           "The score above which a feature has drifted: the minimum effect, or what chance reaches if that is more.",
           "feature_drift"),
    _gauge("drift_sample_size", "rows", ("dataset",), "Rows in the window that drift was last judged on.",
           "feature_drift"),
    _gauge("drift_features_over_threshold", "features", ("dataset",), "Features that have drifted.", "feature_drift"),
    _gauge("popularity_drift_score", "", ("dataset", "method"),
           "How far the shares of items are from their reference: JS distance in base 2, or the largest change of one"
           " item's share.", "popularity", **_POPULARITY),
    _gauge("popularity_drift_threshold", "", ("dataset", "method"),
           "The score above which popularity has drifted: the minimum effect, or what chance reaches if that is more.",
           "popularity", **_POPULARITY),
    _gauge("popularity_gini_ratio", "ratio", ("dataset",),
           "Gini coefficient of events over the whole catalogue; items never seen count as 0.", "popularity"),
    _gauge("popularity_top_share_ratio", "ratio", ("dataset",),
           "Share of events on the most popular 1 % of the items.", "popularity"),
    _gauge("catalogue_coverage_ratio", "ratio", ("dataset",),
           "Share of the catalogue's items that the window has seen.", "popularity"),
    _gauge("catalogue_effective_items", "items", ("dataset",),
           "Number of equally popular items with the same entropy.", "popularity"),
    _gauge("feedback_loop_bias_ratio", "ratio", ("dataset", "figure"),
           "Change of a figure since the reference among those who see recommendations, less that among the control.",
           "feedback_loop", figure=BIASES),
    _gauge("feedback_loop_threshold_ratio", "ratio", ("dataset",),
           "Bias of the head's share above which it is bad: the greatest allowed, or what chance reaches if that is"
           " more.", "feedback_loop"),
    _counter("click_events_total", "events", ("dataset", "source", "result"),
             "Events by whether something was shown, or hit; click-through is hits over shown.", "click_through",
             result=("shown", "hit")),
    _gauge("click_uplift_ratio", "ratio", ("dataset", "bound"),
           "Click-through of the exposed cohort over that of the control, less 1: the estimate, and the bounds that"
           " chance between users leaves.", "click_through", bound=("low", "estimate", "high")),
    _gauge("signal_value", "", ("dataset", "source"),
           "The value that a signal is judged by, in its own unit: consumer lag, say, or an error ratio.", "signal"),
)  # fmt: skip

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}
