"""One objective close up, repeated for each that is chosen."""

from __future__ import annotations

from dashboards.views import (
    BUDGET_STEPS,
    BURN_STEPS,
    OF_SLO,
    STATE_WORDS,
    Board,
    Query,
    Section,
    View,
    attained,
    burn,
    largest,
)

BUDGET = largest("recwatch_slo_budget_remaining_ratio", "slo", of=OF_SLO)
PROMISED = largest("recwatch_slo_objective_ratio", "slo", of=OF_SLO)
# The longest short window and every long window of the tiers that are shipped.
WINDOWS = ("5m", "30m", "1h", "6h", "1d", "3d")
THRESHOLDS = largest("recwatch_slo_alert_threshold_ratio", "slo", "tier", of=OF_SLO)

VIEWS = (
    View(
        "Budget left",
        "Share of the period's error budget that is left; below 0 it is overspent.",
        "stat",
        (Query(BUDGET, "{{pipeline}}", instant=True),),
        "percentunit",
        (4, 5),
        BUDGET_STEPS,
        no_data="nothing measured yet",
    ),
    View(
        "Attained",
        "Share that was good over the period, beside what was promised.",
        "stat",
        (
            Query(attained(OF_SLO), "attained", instant=True),
            Query(PROMISED, "promised", instant=True),
        ),
        "percentunit",
        (6, 5),
        no_data="nothing measured yet",
    ),
    View(
        "What it is about",
        "Check, dataset and owner.",
        "table",
        (Query(largest("recwatch_slo_info", "slo", "check", "dataset", "kind", "team", of=OF_SLO), instant=True),),
        "none",
        (14, 5),
        columns={
            "pipeline": "pipeline",
            "slo": "objective",
            "check": "check",
            "dataset": "dataset",
            "kind": "counts",
            "team": "owner",
        },
        link="recwatch-debug",
    ),
    View(
        "Burn rate by window, and where alerts begin",
        "How many times faster than allowed the budget burns. A tier fires while its long and its short window are both"
        " above its line.",
        "series",
        (
            *(Query(burn(window, OF_SLO), f"{{{{pipeline}}}} {window}") for window in WINDOWS),
            Query(f"{THRESHOLDS} / on (pipeline, slo) group_left () (1 - {PROMISED})", "{{tier}}", dashed=True),
        ),
        "none",
        (12, 9),
        BURN_STEPS,
        bounds=(0, None),
        link="recwatch-on-call",
    ),
    View(
        "Budget over time",
        "Where the line falls, budget was spent.",
        "series",
        (Query(BUDGET, "{{pipeline}}"),),
        "percentunit",
        (12, 9),
        bounds=(None, 1),
    ),
    View(
        "Runs",
        "Runs an hour by how they ended; an unknown one spends no budget.",
        "series",
        (
            Query(
                "sum by (pipeline, result) (max by (pipeline, slo, result)"
                f" (increase(recwatch_slo_checks_total{{{OF_SLO}}}[$__rate_interval])))",
                "{{result}}",
            ),
        ),
        "short",
        (12, 7),
        stacked=True,
        every="1h",
    ),
    View(
        "Good or bad",
        "As last judged; a gap is time that could not be judged. Empty for an objective that counts events.",
        "timeline",
        (Query(largest("recwatch_slo_slice_good", "slo", of=OF_SLO), "{{pipeline}}"),),
        "none",
        (12, 7),
        words=STATE_WORDS,
    ),
)

BOARD = Board(
    "recwatch-slo",
    "recwatch: objective",
    "What happened to this objective's budget, and how close is each tier to firing?",
    "now-7d",
    "5m",
    (Section("$slo", VIEWS, repeat="slo"),),
    has_slo=True,
)
