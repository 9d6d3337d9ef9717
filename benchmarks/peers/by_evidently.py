"""Evidently's presets of drift and summary: ``by_evidently.py FOLDER [all]``.

By default over six features whose kinds it is told; with ``all`` over every column, as it guesses them by itself.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset, DataSummaryPreset
from timed import report

NUMBERS, WORDS = ["value", "position"], ["device", "app_version", "event_type", "source"]


def run(folder: Path) -> Any:
    """Run both presets, a day against a day of the same size."""
    warnings.simplefilter("ignore")
    has_all = "all" in sys.argv[2:]
    columns = None if has_all else [*NUMBERS, *WORDS]
    frames = [pd.read_parquet(path, columns=columns) for path in sorted((folder / "events").glob("*.parquet"))]
    definition = None if has_all else DataDefinition(numerical_columns=NUMBERS, categorical_columns=WORDS)
    # It keeps nothing of a reference, so it needs the rows of both days; that they are the same saves reading them.
    whole = Dataset.from_pandas(pd.concat(frames, ignore_index=True), data_definition=definition)
    found = Report([DataDriftPreset(), DataSummaryPreset()]).run(whole, whole).dict()
    return len(found["metrics"])


report(run)
