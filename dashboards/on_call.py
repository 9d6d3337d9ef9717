"""For whoever was just paged: what is wrong, how fast it burns, since when, and where to look next."""

from __future__ import annotations

from dashboards.views import (
    BURN_STEPS,
    HERE,
    RATE,
    STATE_WORDS,
    Board,
    Query,
    Section,
    View,
    burn,
    largest,
)

# An alert about the monitor itself has no pipeline.
OURS = 'alertname=~"Recwatch.*", alertname!="RecwatchWatchdog", alertstate="firing", pipeline=~"$pipeline|"'
OF_ALERT = ("alertname", "severity", "tier", "slo", "dataset", "check")
BUDGET = largest("recwatch_slo_budget_remaining_ratio", "slo")
PERIOD = largest("recwatch_slo_period_seconds", "slo")
HOURS_LEFT = f"{BUDGET} * on (pipeline, slo) {PERIOD} / on (pipeline, slo) (({burn('6h')}) > 0) / 3600"
IS_WITHIN = f"({burn('5m')}) <= bool 1"
FIRST = """\
1. **Is the feed alive?** Look at *age of the data*. If it is old, everything below follows from it.
2. **Does all that is sent land?** *Ingestion*. A step down in the rate with success at 100 % is the sender's.
3. **Which ids, which copies?** *Unknown ids* and *duplicates* name a cause; the pager's message names the source.
4. Then [debug](/d/recwatch-debug?${__url_time_range}&var-pipeline=${pipeline}), and `recwatch runbook ALERT`.

`recwatch alerts` says what fires and why; `recwatch silence` hushes it, with an end and a reason.
"""


EVENTS_A_SECOND = (
    "sum by (pipeline, result) (max by (pipeline, dataset, source, result)"
    f" (rate(recwatch_ingest_events_total{{{HERE}}}[{RATE}])))"
)


def _share(metric: str, bad: str, by: str) -> str:
    each = f"max by (pipeline, dataset, {by}result) (rate({metric}{{{HERE}%s}}[{RATE}]))"
    return (
        f"sum by (pipeline, dataset{', ' + by[:-2] if by else ''}) ({each % bad})"
        f" / (sum by (pipeline, dataset{', ' + by[:-2] if by else ''}) ({each % ''}) > 0)"
    )


NOW = (
    View(
        "Firing",
        "Alerts of recwatch that fire, whoever was told. A suppressed one is here too.",
        "table",
        (Query(f"max by (pipeline, {', '.join(OF_ALERT)}) (ALERTS{{{OURS}}})", instant=True),),
        "none",
        (12, 8),
        columns={"pipeline": "pipeline", **{label: label for label in OF_ALERT}},
        link="recwatch-slo",
        no_data="nothing fires",
    ),
    View("What to do first", "The order that finds the cause soonest.", "text", size=(8, 8), text=FIRST),
    View(
        "Not judged",
        "Checks that are overdue, and objectives whose last good or bad run is longer ago than is normal. Neither is"
        " good news: what is not judged may be broken.",
        "stat",
        (
            Query(
                f"count(time() - {largest('recwatch_check_last_run_timestamp_seconds', 'dataset', 'check')} >"
                f" 2 * {largest('recwatch_check_interval_seconds', 'dataset', 'check')} + 60) or vector(0)",
                "checks overdue",
                instant=True,
            ),
            Query(
                f"count(time() - {largest('recwatch_slo_last_data_timestamp_seconds', 'slo')} >"
                f" {largest('recwatch_slo_data_due_seconds', 'slo')}) or vector(0)",
                "objectives silent",
                instant=True,
            ),
        ),
        "none",
        (4, 8),
        ((None, "green"), (1, "red")),
        link="recwatch-debug",
    ),
    View(
        "Budgets",
        "How many times faster than allowed each budget burns, what is left, and how long that lasts at the pace of the"
        " last six hours.",
        "table",
        (
            Query(burn("1h"), instant=True),
            Query(burn("6h"), instant=True),
            Query(burn("3d"), instant=True),
            Query(BUDGET, instant=True),
            Query(HOURS_LEFT, instant=True),
        ),
        "none",
        (12, 10),
        BURN_STEPS,
        columns={
            "pipeline": "pipeline",
            "slo": "objective",
            "Value #A": "burn 1 h",
            "Value #B": "burn 6 h",
            "Value #C": "burn 3 d",
            "Value #D": "budget left",
            "Value #E": "lasts",
        },
        column_units={"budget left": "percentunit", "lasts": "h"},
        link="recwatch-slo",
        no_data="nothing measured yet",
    ),
    View(
        "Objectives, run by run",
        "Good or bad as last judged; of objectives that count events, whether the last five minutes were within budget."
        " A gap is time that could not be judged.",
        "timeline",
        (
            Query(largest("recwatch_slo_slice_good", "slo"), "{{slo}}"),
            Query(f"({IS_WITHIN}) unless on (pipeline, slo) {largest('recwatch_slo_slice_good', 'slo')}", "{{slo}}"),
        ),
        "none",
        (12, 10),
        words=STATE_WORDS,
        link="recwatch-slo",
    ),
)
SIGNALS = (
    View(
        "Age of the data",
        "Time since the newest event, against the limit and the emergency line. Rows dated ahead are left out.",
        "series",
        (
            Query(
                f"time() - {largest('recwatch_newest_event_timestamp_seconds', 'dataset')}",
                "{{pipeline}} {{dataset}}",
            ),
            Query(
                'max by (pipeline, dataset) (recwatch_check_limit{check="freshness", ' + HERE + "})",
                "{{dataset}} limit",
                dashed=True,
            ),
            Query(largest("recwatch_freshness_emergency_seconds", "dataset"), "{{dataset}} emergency", dashed=True),
        ),
        "s",
        bounds=(0, None),
        link="recwatch-debug",
    ),
    View(
        "Ingestion: success",
        "Events that landed and keep the contract, of all that were sent.",
        "series",
        (Query(_share("recwatch_ingest_events_total", ', result="ok"', "source, "), "{{dataset}} {{source}}"),),
        "percentunit",
        bounds=(None, 1),
        every="5m",
        link="recwatch-debug",
    ),
    View(
        "Ingestion: rate",
        "Events a second by whether they landed well. A step down with success at 100 % is the sender's.",
        "series",
        (Query(EVENTS_A_SECOND, "{{pipeline}} {{result}}"),),
        "cps",
        bounds=(0, None),
        every="5m",
        link="recwatch-debug",
    ),
    View(
        "Unknown ids",
        "Share of events whose id is missing, malformed, unknown or retired; counted by event, never by distinct id.",
        "series",
        (Query(_share("recwatch_id_events_total", ', result="unknown"', "entity, "), "{{dataset}} {{entity}}"),),
        "percentunit",
        bounds=(0, None),
        every="5m",
        link="recwatch-debug",
    ),
    View(
        "Duplicates",
        "Share of rows that are surplus copies: same window, retry, or replay.",
        "series",
        (Query(_share("recwatch_dedup_events_total", ', result!="first"', ""), "{{pipeline}} {{dataset}}"),),
        "percentunit",
        bounds=(0, None),
        every="5m",
        link="recwatch-debug",
    ),
    View(
        "Burn rate over an hour",
        "How many times faster than allowed each budget burns; at 1 it lasts for its period, at 14.4 for two days.",
        "series",
        (Query(burn("1h"), "{{slo}}"),),
        "none",
        steps=BURN_STEPS,
        bounds=(0, None),
        link="recwatch-slo",
    ),
)

BOARD = Board(
    "recwatch-on-call",
    "recwatch: on call",
    "What is wrong, how fast does it burn, since when, and where to look next? For whoever was just paged.",
    "now-6h",
    "1m",
    (Section("", NOW), Section("Signals", SIGNALS)),
)
