"""For those who answer for a recommender: do we keep what we promised, over four weeks?"""

from __future__ import annotations

from dashboards.views import (
    BUDGET_STEPS,
    HERE,
    STATE_WORDS,
    Board,
    Query,
    Section,
    View,
    attained,
    largest,
)

BUDGET = largest("recwatch_slo_budget_remaining_ratio", "slo")
# The five objectives with the least budget left; the other columns of the table are theirs.
WORST = f"bottomk(5, {BUDGET})"
SHARE_STEPS = ((None, "red"), (0.99, "orange"), (0.999, "green"))


def _ingested(result: str) -> str:
    landed = f'increase(recwatch_ingest_events_total{{{HERE}, result=~"{result}"}}[$__range])'
    return f"sum by (pipeline) (max by (pipeline, dataset, source, result) ({landed}))"


PROMISES = (
    View(
        "Objectives kept",
        "Objectives with budget left, of all. The period of an objective is 28 days unless set otherwise.",
        "stat",
        (
            Query(f"count({BUDGET} > 0) or vector(0)", "kept", instant=True),
            Query(f"count({largest('recwatch_slo_info', 'slo')})", "of", instant=True),
        ),
        "none",
        (6, 6),
        link="recwatch-on-call",
        no_data="no objective",
    ),
    View(
        "Budget left, least of each pipeline",
        "What is left of the error budget of the objective that has least. Below 0 it is overspent:"
        " reliability work comes before features.",
        "bars",
        (Query(f"min by (pipeline) ({BUDGET})", "{{pipeline}}", instant=True),),
        "percentunit",
        (10, 6),
        BUDGET_STEPS,
        bounds=(0, 1),
        link="recwatch-on-call",
        no_data="nothing measured yet",
    ),
    View(
        "Fresh",
        "Share of the checks in this time that found the data fresh enough.",
        "stat",
        (
            Query(
                f'min by (pipeline) (avg_over_time(recwatch_check_good{{check="freshness", {HERE}}}[$__range]))',
                "{{pipeline}}",
                instant=True,
            ),
        ),
        "percentunit",
        (4, 6),
        SHARE_STEPS,
        no_data="not watched",
    ),
    View(
        "Ingested",
        "Events in this time that landed and keep the contract, of all that were sent.",
        "stat",
        (Query(f"{_ingested('ok')} / ({_ingested('ok|failed')} > 0)", "{{pipeline}}", instant=True),),
        "percentunit",
        (4, 6),
        SHARE_STEPS,
        no_data="not watched",
    ),
)
COURSE = (
    View(
        "Worst state of each pipeline",
        "Bad when any check of the pipeline was bad at any time in the step; a gap is time without a verdict.",
        "timeline",
        (
            Query(
                f"min by (pipeline) (min_over_time(recwatch_check_good{{{HERE}}}[$__interval]))",
                "{{pipeline}}",
            ),
        ),
        "none",
        (24, 6),
        words=STATE_WORDS,
        every="1h",
        link="recwatch-debug",
    ),
    View(
        "Catalogue: coverage and concentration",
        "Share of the catalogue that people saw, Gini coefficient of events over items, and the share of events on the"
        " top 1 % of items. A feedback loop shows as coverage that falls while the other two rise.",
        "series",
        (
            Query(largest("recwatch_catalogue_coverage_ratio", "dataset"), "{{pipeline}} {{dataset}} coverage"),
            Query(largest("recwatch_popularity_gini_ratio", "dataset"), "{{pipeline}} {{dataset}} Gini"),
            Query(largest("recwatch_popularity_top_share_ratio", "dataset"), "{{pipeline}} {{dataset}} top 1 %"),
        ),
        "percentunit",
        (12, 9),
        bounds=(0, 1),
        link="recwatch-debug",
    ),
    View(
        "Objectives closest to the end of their budget",
        "The five with least budget left, with who owns them.",
        "table",
        (
            Query(WORST, instant=True),
            Query(f"{largest('recwatch_slo_objective_ratio', 'slo')} and on (pipeline, slo) {WORST}", instant=True),
            Query(f"({attained()}) and on (pipeline, slo) {WORST}", instant=True),
            Query(f"{largest('recwatch_slo_info', 'slo', 'team')} and on (pipeline, slo) {WORST}", instant=True),
        ),
        "percentunit",
        (12, 9),
        BUDGET_STEPS,
        columns={
            "pipeline": "pipeline",
            "slo": "objective",
            "team": "owner",
            "Value #B": "promised",
            "Value #C": "attained",
            "Value #A": "budget left",
        },
        link="recwatch-slo",
        no_data="nothing measured yet",
    ),
)

BOARD = Board(
    "recwatch-executive",
    "recwatch: promises kept",
    "Do the recommenders keep what was promised, over four weeks? For those who answer for them.",
    "now-28d",
    "15m",
    (Section("", PROMISES), Section("How it went", COURSE)),
)
