# ruff: noqa: T201 - the delays are what one looks for in the output
"""Backtests over real histories with the configuration that ``init`` writes: clean, and with faults put into copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
Recwatch = Callable[..., Any]
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Past:
    """A real history: where it is, its columns, and a stretch of it with room to learn before the fault."""

    name: str
    user: str
    item: str
    start: datetime
    fault: datetime
    end: datetime


MOVIES = Past(
    "ml-100k", "user_id", "item_id", datetime(1997, 11, 5, tzinfo=UTC), datetime(1997, 11, 20, tzinfo=UTC),
    datetime(1997, 12, 1, tzinfo=UTC),
)  # fmt: skip
ARTICLES = Past(
    "deskdrop", "personId", "contentId", datetime(2016, 6, 18, tzinfo=UTC), datetime(2016, 7, 4, tzinfo=UTC),
    datetime(2016, 7, 16, tzinfo=UTC),
)  # fmt: skip
PASTS = (MOVIES, ARTICLES)
# What happens to the rows from the moment of the fault on: a condition is in ``late``.
FAULTS = {
    "dropped ids": "SELECT * REPLACE (CASE WHEN {late} AND hash(timestamp, {item}) % 10 < 4 THEN NULL ELSE {user} END"
    " AS {user}) FROM events",
    "duplicated batches": "SELECT * FROM events UNION ALL SELECT * FROM events WHERE {late} AND hash({user}) % 10 < 3",
    "flooded item": "SELECT * REPLACE (CASE WHEN {late} AND hash(timestamp, {user}) % 10 < 7 THEN"
    " (SELECT min({item}) FROM events) ELSE {item} END AS {item}) FROM events",
}  # fmt: skip


def replayed(recwatch: Recwatch, config: Path, past: Past) -> list[dict[str, Any]]:
    """Return the transitions of a backtest, the totals last."""
    target = config.with_suffix(".json")
    said = recwatch(
        "backtest", "-c", str(config), "--from", past.start.isoformat(), "--to", past.end.isoformat(),
        "--step", "6h", "--json", str(target),
    )  # fmt: skip
    assert said.code == 0, said
    return [json.loads(line) for line in target.read_text().splitlines()]


def written(past: Past, folder: Path, statement: str) -> None:
    """Write a history, changed from the moment of the fault on."""
    fault = int(past.fault.timestamp())
    changed = statement.format(late=f"timestamp >= {fault}", user=past.user, item=past.item)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW events AS SELECT * FROM '{DATA / past.name}/interactions.parquet'")
        connection.execute(f"COPY ({changed}) TO '{folder}/interactions.parquet' (FORMAT parquet)")


def configured(recwatch: Recwatch, past: Past, folder: Path, statement: str = "SELECT * FROM events") -> Path:
    """Return the configuration that init makes of a copy of the clean history, in which a fault is put afterwards."""
    if not (DATA / past.name).is_dir():
        pytest.skip(f"the data set {past.name} is not here ({DATA})")
    data, config = folder / "data", folder / "recwatch.yml"
    data.mkdir()
    for path in (DATA / past.name).glob("*.parquet"):
        if path.stem != "interactions":
            (data / path.name).symlink_to(path)
    written(past, data, "SELECT * FROM events")
    assert recwatch("init", str(data), "-o", str(config)).code == 0
    written(past, data, statement)
    return config


@pytest.mark.parametrize("past", PASTS, ids=lambda past: past.name)
def test_a_clean_history_pages_nobody(past: Past, recwatch: Recwatch, tmp_path: Path) -> None:
    *found, totals = replayed(recwatch, configured(recwatch, past, tmp_path), past)
    print([(entry["at"], entry["slo"], entry["reason"]) for entry in found if entry["state"] == "firing"])
    assert totals["totals"]["pages"] == 0
    # Drift and volume of a small, bursty history may be worth a ticket now and then, and say why.
    assert totals["totals"]["tickets_per_week"] <= 1
    assert totals["totals"]["runs"].get("error", 0) == 0


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("past", PASTS, ids=lambda past: past.name)
def test_a_fault_is_told(past: Past, fault: str, recwatch: Recwatch, tmp_path: Path) -> None:
    config = configured(recwatch, past, tmp_path, FAULTS[fault])
    expected = {"dropped ids": "unknown_ids", "duplicated batches": "duplicates", "flooded item": "popularity"}[fault]
    # Long enough before to learn what is normal: a week for references, eight days for bands.
    short = replace(past, start=past.fault - 12 * DAY, end=past.fault + 7 * DAY)
    *found, totals = replayed(recwatch, config, short)
    told = [entry for entry in found if entry["check"] == expected and entry["tier"]]
    after = [datetime.fromisoformat(entry["at"]) - past.fault for entry in told if entry["state"] == "firing"]
    new = [delay for delay in after if delay >= timedelta(0)]
    # What these bursty histories have told of before, and still do, is told of once.
    is_open = bool(told) and told[-1]["state"] == "firing"
    explained = any(f"interactions-{expected}" in text for text in totals["totals"]["explained"])
    assert new or is_open or explained, found
    print(
        f"{past.name}, {fault}: a ticket {f'after {min(new)}' if new else 'that was open' if is_open else 'explained'}"
    )
    assert {entry["severity"] for entry in told} <= {"ticket"}, "checks that run once a day do not page"


@pytest.mark.parametrize("past", PASTS, ids=lambda past: past.name)
def test_a_stalled_feed_is_told(past: Past, recwatch: Recwatch, tmp_path: Path) -> None:
    config = configured(recwatch, past, tmp_path, "SELECT * FROM events WHERE NOT {late}")
    longer = Past(past.name, past.user, past.item, past.fault - 7 * DAY, past.fault, past.fault + 12 * DAY)
    *found, _totals = replayed(recwatch, config, longer)
    told = [entry for entry in found if entry["check"] == "freshness" and entry["state"] == "firing"]
    assert told, found
    delay = datetime.fromisoformat(told[0]["at"]) - past.fault
    print(f"{past.name}, stalled feed: a {told[0]['severity']} after {delay}")
    later = [entry["check"] for entry in found if entry["state"] == "firing" and entry["at"] > told[0]["at"]]
    assert not {"density", "popularity", "feature_drift", "unknown_ids"} & set(later), "it explains all that follows"


@pytest.mark.parametrize("past", PASTS, ids=lambda past: past.name)
def test_a_renamed_column_is_told(past: Past, recwatch: Recwatch, tmp_path: Path) -> None:
    """Files have one schema at a time, so the column is gone for the whole replay."""
    config = configured(recwatch, past, tmp_path, f"SELECT * RENAME ({past.user} AS renamed) FROM events")
    short = Past(past.name, past.user, past.item, past.fault, past.fault, past.fault + 6 * DAY)
    *found, totals = replayed(recwatch, config, short)
    assert totals["totals"]["runs"].get("error", 0) > 0
    told = {(entry["alert"], entry["check"]) for entry in found if entry["state"] == "firing"}
    assert ("RecwatchCheckOverdue", "unknown_ids") in told or ("RecwatchSloNoData", "unknown_ids") in told, found
