"""For finding the cause: every signal by its parts, and the monitor itself."""

from __future__ import annotations

from dashboards.distributions import DISTRIBUTIONS
from dashboards.views import GREY, HERE, RATE, STATE_WORDS, Board, Query, Section, View, in_words, largest

OUTCOMES = ("good", "bad", "unknown", "error")
OF_SUBJECT = ("dataset", "check", "entity", "feature")
MEASURED = (*OF_SUBJECT, "measure")
# What the last verdicts found bad; the value and its limit are asked for these alone.
BAD_NOW = f"({largest('recwatch_check_good', *OF_SUBJECT)} == 0)"
# The process' own metrics know no pipeline, and may be those of several; the version's metric tells whose they are.
OURS = f"and on (instance, job) recwatch_build_info{{{HERE}}}"


def _per_second(metric: str, by: str, within: str) -> str:
    """Return events a second by a label, the larger of two replicas."""
    return f"sum by (pipeline, {by}) (max by (pipeline, {within}) (rate({metric}{{{HERE}}}[{RATE}])))"


NOW = (
    View(
        "What was found bad last",
        "Each subject whose last verdict was bad, with its value, its limit, and the measure that both are in.",
        "table",
        (
            Query(f"{largest('recwatch_check_value', *MEASURED)} and on (pipeline, {', '.join(OF_SUBJECT)}) {BAD_NOW}",
                  instant=True),
            Query(f"{largest('recwatch_check_limit', *MEASURED)} and on (pipeline, {', '.join(OF_SUBJECT)}) {BAD_NOW}",
                  instant=True),
        ),
        "none",
        (12, 9),
        columns={**{label: label for label in ("pipeline", *MEASURED)}, "Value #A": "value", "Value #B": "limit"},
        link="recwatch-on-call",
        no_data="nothing is bad",
    ),
    View(
        "Verdicts",
        "Good or bad by check and subject; a gap is unknown, an error, or no run at all.",
        "timeline",
        (Query(largest("recwatch_check_good", *OF_SUBJECT), "{{dataset}} {{check}} {{entity}}{{feature}}"),),
        "none",
        (12, 9),
        words=STATE_WORDS,
    ),
)  # fmt: skip
EVENTS = (
    View(
        "Events by source",
        "Events a second that landed well, by who sent them. One that goes silent points at its release.",
        "series",
        (
            Query(
                "sum by (pipeline, dataset, source) (max by (pipeline, dataset, source)"
                f' (rate(recwatch_ingest_events_total{{{HERE}, result="ok"}}[{RATE}])))',
                "{{dataset}} {{source}}",
            ),
        ),
        "cps",
        stacked=True,
        every="5m",
    ),
    View(
        "Events that failed, by source",
        "Events a second that were sent and did not land, or broke the contract.",
        "series",
        (
            Query(
                "sum by (pipeline, dataset, source) (max by (pipeline, dataset, source)"
                f' (rate(recwatch_ingest_events_total{{{HERE}, result="failed"}}[{RATE}])))',
                "{{dataset}} {{source}}",
            ),
        ),
        "cps",
        stacked=True,
        every="5m",
    ),
    View(
        "Rows that break the contract, by rule",
        "Rows a second by the first rule that they break: a time too early, a value out of range, what is missing.",
        "series",
        (Query(_per_second("recwatch_contract_broken_total", "rule", "dataset, rule"), "{{rule}}"),),
        "cps",
        stacked=True,
        every="5m",
    ),
    View(
        "Ids that lead nowhere, by cause",
        "Events a second: missing and malformed ids point at a client, unknown ones at a late catalogue."
        " Retired ones point at a cache.",
        "series",
        (
            Query(
                _per_second("recwatch_id_causes_total", "entity, cause", "dataset, entity, cause"),
                "{{entity}} {{cause}}",
            ),
        ),
        "cps",
        stacked=True,
        every="5m",
    ),
    View(
        "Copies, by where the first one was",
        "Rows a second: copies in the same window are the sender's, retries come within minutes, replays later.",
        "series",
        (
            Query(
                "sum by (pipeline, result) (max by (pipeline, dataset, result)"
                f' (rate(recwatch_dedup_events_total{{{HERE}, result!="first"}}[{RATE}])))',
                "{{result}}",
            ),
        ),
        "cps",
        stacked=True,
        every="5m",
    ),
    View(
        "Newest event by source",
        "Time since the newest event that each source sent.",
        "series",
        (
            Query(
                f"time() - {largest('recwatch_newest_event_timestamp_seconds', 'dataset', 'source')}",
                "{{dataset}} {{source}}",
            ),
        ),
        "s",
        bounds=(0, None),
    ),
)
ITSELF = (
    View(
        "Runs by outcome",
        "Runs of checks a second. Errors are an engine's or a table's; unknown is too little data, or no baseline yet.",
        "series",
        (
            Query(
                "sum by (pipeline, outcome) (max by (pipeline, dataset, check, outcome)"
                f" (rate(recwatch_check_runs_total{{{HERE}}}[{RATE}])))",
                "{{outcome}}",
            ),
        ),
        "cps",
        stacked=True,
        every="5m",
    ),
    View(
        "How long checks take",
        "Time of the last run of each check in the engine; scans that are shared count for each.",
        "series",
        (in_words("recwatch_check_duration_seconds", "dataset", "check"),),
        "s",
        bounds=(0, None),
    ),
    View(
        "How far behind checks are",
        "Time since the end of the newest window that was judged. It grows while a check is overdue, and falls in steps"
        " while it catches up.",
        "series",
        (
            Query(
                f"time() - {largest('recwatch_check_watermark_timestamp_seconds', 'dataset', 'check')}",
                "{{dataset}} {{check}}",
            ),
        ),
        "s",
        bounds=(0, None),
    ),
    View(
        "What engines are asked for",
        "Statement time an hour by engine, and what its budget allows.",
        "series",
        (
            Query(
                f"3600 * max by (pipeline, engine) (rate(recwatch_engine_scan_seconds_total{{{HERE}}}[{RATE}]))",
                "{{engine}}",
            ),
            Query(largest("recwatch_engine_scan_budget_seconds", "engine"), "{{engine}} budget", dashed=True),
        ),
        "s",
        every="5m",
        bounds=(0, None),
    ),
    View(
        "Scan budgets",
        "What is left of this hour's statement time. At 0 checks wait for the next hour, and grow overdue.",
        "series",
        (Query(largest("recwatch_engine_scan_budget_remaining_ratio", "engine"), "{{engine}}"),),
        "percentunit",
        bounds=(0, 1),
    ),
    View(
        "Ticks put off",
        "Because the engine's budget is used up, or the tick before still waits for its turn or runs.",
        "series",
        (
            Query(
                "sum by (pipeline, engine, reason) (max by (pipeline, engine, reason)"
                f" (increase(recwatch_ticks_deferred_total{{{HERE}}}[{RATE}])))",
                "{{engine}} {{reason}}",
            ),
        ),
        "short",
        every="5m",
        bounds=(0, None),
    ),
    View(
        "What objectives counted",
        "Events of the last hour by whether they were good: what burn rates are made of.",
        "series",
        (
            Query(
                "sum by (pipeline, slo, result) (max by (pipeline, slo, result)"
                f" (increase(recwatch_slo_events_total{{{HERE}}}[{RATE}])))",
                "{{slo}} {{result}}",
            ),
        ),
        "short",
        every="1h",
    ),
    View(
        "Messages",
        "Messages that wait, and those that were refused for good.",
        "series",
        (
            Query(largest("recwatch_notification_queue_length", "channel"), "{{channel}} waiting"),
            Query(
                "max by (pipeline, channel) (increase("
                f'recwatch_notifications_total{{{HERE}, result="refused"}}[{RATE}]))',
                "{{channel}} refused",
            ),
        ),
        "short",
        every="5m",
        bounds=(0, None),
    ),
    View(
        "The daemon",
        "Resident memory of each daemon.",
        "series",
        (Query(f"process_resident_memory_bytes {OURS}", "{{instance}}"),),
        "bytes",
        bounds=(0, None),
    ),
    View(
        "Series",
        "Series of each daemon, and those left out because of limits.max_series.",
        "series",
        (
            Query(largest("recwatch_series", "instance"), "{{pipeline}} {{instance}}"),
            Query(
                f"max by (pipeline, instance) (increase(recwatch_series_dropped_total{{{HERE}}}[{RATE}]))",
                "{{pipeline}} {{instance}} dropped",
            ),
        ),
        "short",
        every="5m",
        bounds=(0, None),
    ),
    View(
        "Pipelines",
        "1 while a pipeline runs; 0 while its file or its state cannot be read, beside others that run.",
        "timeline",
        (Query(largest("recwatch_pipeline_up", "instance"), "{{pipeline}} {{instance}}"),),
        "none",
        words={"0": ("down", "red"), "1": ("runs", GREY)},
    ),
    View(
        "State",
        "Room that the state of each daemon takes.",
        "series",
        (Query(largest("recwatch_state_bytes", "instance"), "{{pipeline}} {{instance}}"),),
        "bytes",
        every="5m",
        bounds=(0, None),
    ),
    View(
        "Configuration",
        "1 while the file could be read the last time it was; 0 while the daemon runs on the one before.",
        "timeline",
        (Query(largest("recwatch_config_last_reload_successful", "instance"), "{{pipeline}} {{instance}}"),),
        "none",
        words={"0": ("refused", "red"), "1": ("in force", GREY)},
    ),
)

BOARD = Board(
    "recwatch-debug",
    "recwatch: debug",
    "Where does it come from? Every signal by source, cause, rule and feature, and the monitor itself.",
    "now-24h",
    "1m",
    (
        Section("", NOW),
        Section("Events", EVENTS),
        Section("Distributions", DISTRIBUTIONS, collapsed=True),
        Section("The monitor itself", ITSELF, collapsed=True),
    ),
)
