"""What Great Expectations can do of it, over pandas: ``by_great_expectations.py FOLDER``.

Volume, freshness, missing ids, ids in the catalogue, unique event ids, closed sets, ranges. It has no look-back,
causes, matrix, popularity or burn rates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from timed import COLUMNS, END, EVENT_TYPES, START, report


def run(folder: Path) -> Any:
    """Validate one suite over the day."""
    events = pd.concat(
        [pd.read_parquet(path, columns=list(COLUMNS)) for path in sorted((folder / "events").glob("*.parquet"))]
    )
    users = pd.read_parquet(folder / "users.parquet", columns=["user_id"]).user_id.tolist()
    items = pd.read_parquet(folder / "items.parquet", columns=["item_id"]).item_id.tolist()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas("files")
        .add_dataframe_asset("events")
        .add_batch_definition_whole_dataframe("day")
    )
    suite = context.suites.add(gx.ExpectationSuite(name="events"))
    for expectation in (
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectColumnMaxToBeBetween(column="ingested_at", min_value=START, max_value=END),
        gxe.ExpectColumnValuesToNotBeNull(column="user_id"),
        gxe.ExpectColumnValuesToNotBeNull(column="item_id"),
        gxe.ExpectColumnValuesToBeInSet(column="user_id", value_set=users),
        gxe.ExpectColumnValuesToBeInSet(column="item_id", value_set=items),
        gxe.ExpectColumnValuesToBeUnique(column="event_id"),
        gxe.ExpectColumnValuesToBeInSet(column="event_type", value_set=list(EVENT_TYPES)),
        gxe.ExpectColumnValuesToBeBetween(column="value", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="event_time", min_value=START, max_value=END),
    ):
        suite.add_expectation(expectation)
    found = batch.get_batch(batch_parameters={"dataframe": events}).validate(suite, result_format="BASIC")
    return {result.expectation_config.type: result.success for result in found.results}


report(run)
