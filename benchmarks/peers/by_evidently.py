"""Evidently's presets of drift and summary over the features, and nothing else: ``by_evidently.py FOLDER``."""

from __future__ import annotations

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
    frames = [
        pd.read_parquet(path, columns=[*NUMBERS, *WORDS]) for path in sorted((folder / "events").glob("*.parquet"))
    ]
    definition = DataDefinition(numerical_columns=NUMBERS, categorical_columns=WORDS)
    # It keeps nothing of a reference, so it needs the rows of both days; that they are the same saves reading them.
    whole = Dataset.from_pandas(pd.concat(frames, ignore_index=True), data_definition=definition)
    found = Report([DataDriftPreset(), DataSummaryPreset()]).run(whole, whole).dict()
    return len(found["metrics"])


report(run)
