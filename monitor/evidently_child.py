"""Makes an Evidently report of two samples: a program of its own, since Evidently takes seconds and 300 MB to load.

Reads JSON from standard input. For a report of drift: ``numeric`` and ``categorical`` column names,
``columns``, and the rows of ``reference`` and ``current``. Writes the HTML to the path that it is given, and
Evidently's drift scores as JSON to standard output, each with SciPy's chance of such samples without a change.
For one of recommender metrics: ``rank``, and rows of user, item, rank and hit; then metrics come back by name.
It imports nothing of recwatch.
"""

import contextlib
import json
import re
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

GIGABYTE = 10**9
# Recommender metrics are about so many ranks.
TOP = 10
DRIFT = re.compile(r"ValueDrift\(column=(.*),method=(.*),threshold=(.*)\)")


def bound(memory_gb: float) -> None:
    """Bound the memory of this process; beyond it Python raises MemoryError."""
    limit = int(memory_gb * GIGABYTE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def made(asked: dict[str, Any], out: Path) -> list[list[Any]]:
    """Write the report; return feature, method, threshold, score and chance of each drift metric."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    definition = DataDefinition(numerical_columns=asked["numeric"], categorical_columns=asked["categorical"])

    def dataset(name: str) -> Any:
        frame = pd.DataFrame(asked[name], columns=asked["columns"])
        for column in asked["numeric"]:
            frame[column] = pd.to_numeric(frame[column], errors="coerce")
        for column in asked["categorical"]:
            frame[column] = frame[column].astype("object")
        return Dataset.from_pandas(frame, data_definition=definition)

    current, reference = dataset("current"), dataset("reference")
    snapshot = Report([DataDriftPreset(), DataSummaryPreset()]).run(current, reference)
    snapshot.save_html(str(out))
    named = ((DRIFT.match(str(metric["metric_name"])), metric["value"]) for metric in snapshot.dict()["metrics"])
    frames = reference.as_dataframe(), current.as_dataframe()
    return [
        [found[1], found[2], float(found[3]), float(value), _chance(*frames, found[1], found[1] in asked["numeric"])]
        for found, value in named
        if found is not None
    ]


def _chance(reference: Any, current: Any, column: str, is_numeric: bool) -> float | None:
    """Return the p-value of two samples: Kolmogorov-Smirnov of numbers, chi-square of categories; None if one is empty.

    Unlike the score it says nothing of how far apart they are: with many rows any change at all makes it small.
    """
    import pandas as pd
    from scipy import stats

    before, now = (frame[column].dropna() for frame in (reference, current))
    if before.empty or now.empty:
        return None
    if is_numeric:
        return float(stats.ks_2samp(before, now).pvalue)
    table = pd.concat([before.value_counts(), now.value_counts()], axis=1).fillna(0).to_numpy()
    return float(stats.chi2_contingency(table).pvalue) if len(table) > 1 else 1.0


def ranked(asked: dict[str, Any], out: Path) -> list[list[Any]]:
    """Write a report of recommender metrics; return the name and value of each, at ``TOP`` ranks."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report, metrics
    from evidently.core.datasets import Recsys

    columns = ["user_id", "item_id", "prediction", "target"]
    definition = DataDefinition(ranking=[Recsys(recommendations_type="rank")])
    # Ranks have to be whole.
    frames = {
        name: pd.DataFrame(asked[name], columns=columns).astype({"prediction": int})
        for name in ("current", "reference")
    }
    current, reference = (
        Dataset.from_pandas(frames[name], data_definition=definition) for name in ("current", "reference")
    )
    # Not MAP: of lists of unlike lengths Evidently counts the last item of the shorter ones again and again.
    kinds = (metrics.NDCG, metrics.MRR, metrics.HitRate, metrics.PrecisionTopK, metrics.RecallTopK)
    snapshot = Report([*(kind(k=TOP) for kind in kinds), metrics.Personalization(k=TOP)]).run(current, reference)
    snapshot.save_html(str(out))
    found = []
    for metric in snapshot.dict()["metrics"]:
        value = metric["value"]
        if isinstance(value, dict):
            # By place: what Evidently calls the rank begins at 2 for some metrics.
            values = [value["value"][place] for place in sorted(value["value"])]
            value = values[min(TOP, len(values)) - 1]
        found.append([str(metric["metric_name"]).partition("(")[0], float(value)])
    return found


def main() -> None:
    """Read what is asked, and answer."""
    out, memory_gb = Path(sys.argv[1]), float(sys.argv[2])
    warnings.simplefilter("ignore")
    bound(memory_gb)
    # Whatever the library prints must not get into the answer.
    with contextlib.redirect_stdout(sys.stderr):
        asked = json.load(sys.stdin)
        scores = ranked(asked, out) if asked.get("rank") else made(asked, out)
    sys.stdout.write(json.dumps(scores))


if __name__ == "__main__":
    main()
