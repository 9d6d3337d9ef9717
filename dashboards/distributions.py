"""How the data is spread, for the debug dashboard: drift, the matrix, click-through and popularity."""

from __future__ import annotations

from dashboards.views import HERE, RATE, Query, View, in_words, largest

STRAIN = (
    f"{largest('recwatch_drift_score', 'dataset', 'feature', 'method')} / "
    f"({largest('recwatch_drift_threshold', 'dataset', 'feature', 'method')} > 0)"
)
STRAIN_STEPS = ((None, "green"), (0.8, "orange"), (1.0, "red"))


def _clicks(result: str) -> str:
    """Return what was shown, or hit, a second; of two replicas the larger."""
    rate = f'rate(recwatch_click_events_total{{{HERE}, result="{result}"}}[{RATE}])'
    return f"sum by (pipeline, dataset) (max by (pipeline, dataset, source) ({rate}))"


DISTRIBUTIONS = (
    View(
        "Drift of each feature, against its threshold",
        "Score over threshold: above 1 the feature has drifted. The threshold is the least change that matters, or what"
        " chance reaches at this number of rows if that is more.",
        "series",
        (Query(STRAIN, "{{dataset}} {{feature}}"),),
        "none",
        steps=STRAIN_STEPS,
        bounds=(0, None),
    ),
    View(
        "Drift by feature and time",
        "The same, one row a feature: red has drifted.",
        "history",
        (Query(STRAIN, "{{dataset}} {{feature}}"),),
        "none",
        steps=STRAIN_STEPS,
        every="5m",
    ),
    View(
        "Matrix",
        "Active users and items, and the pairs that they fill.",
        "series",
        (
            in_words("recwatch_matrix_users", "dataset", "matrix", what="users"),
            in_words("recwatch_matrix_items", "dataset", "matrix", what="items"),
            in_words("recwatch_matrix_cells", "dataset", "matrix", what="pairs"),
        ),
        "short",
    ),
    View(
        "Density against its band",
        "Pairs over users times items, with the bound that it was last held against.",
        "series",
        (
            Query(largest("recwatch_matrix_density_ratio", "dataset", of=HERE + ', matrix="active"'), "{{dataset}}"),
            Query(
                'max by (pipeline, dataset) (recwatch_check_limit{check="density", ' + HERE + "})",
                "{{dataset}} bound",
                dashed=True,
            ),
        ),
        "percentunit",
    ),
    View(
        "Click-through",
        "Hits over what was shown.",
        "series",
        (Query(f"{_clicks('hit')} / ({_clicks('shown')} > 0)", "{{pipeline}} {{dataset}}"),),
        "percentunit",
        bounds=(0, None),
        # An hour's windows add to the counters once an hour.
        every="1h",
    ),
    View(
        "Uplift of the exposed",
        "Click-through of the exposed over that of the control, less 1, with what chance between users leaves open.",
        "series",
        (in_words("recwatch_click_uplift_ratio", "dataset", "bound"),),
        "percentunit",
    ),
    View(
        "Popularity drift, against its threshold",
        "JS distance of item shares from the reference, and the largest change of one share; above 1 it is drift.",
        "series",
        (
            Query(
                f"{largest('recwatch_popularity_drift_score', 'dataset', 'method')} / "
                f"({largest('recwatch_popularity_drift_threshold', 'dataset', 'method')} > 0)",
                "{{dataset}} {{method}}",
            ),
        ),
        "none",
        steps=STRAIN_STEPS,
        bounds=(0, None),
    ),
    View(
        "Concentration",
        "Gini coefficient over the catalogue, share of the top 1 %, and coverage.",
        "series",
        (
            Query(largest("recwatch_popularity_gini_ratio", "dataset"), "{{dataset}} Gini"),
            Query(largest("recwatch_popularity_top_share_ratio", "dataset"), "{{dataset}} top 1 %"),
            Query(largest("recwatch_catalogue_coverage_ratio", "dataset"), "{{dataset}} coverage"),
        ),
        "percentunit",
        bounds=(0, 1),
    ),
    View(
        "Feedback loop, against its threshold",
        "Changes since the reference among those who see recommendations, less those among the control.",
        "series",
        (
            Query(largest("recwatch_feedback_loop_bias_ratio", "dataset", "figure"), "{{dataset}} {{figure}}"),
            Query(largest("recwatch_feedback_loop_threshold_ratio", "dataset"), "{{dataset}} threshold", dashed=True),
        ),
        "percentunit",
    ),
)
