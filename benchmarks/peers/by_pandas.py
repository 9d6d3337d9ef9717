"""The figures of the eight checks with pandas, all columns in memory: ``by_pandas.py FOLDER``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from timed import COLUMNS, PLACEHOLDERS, report

EDGES = [-np.inf, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 25, 30, 40, 60, 100, np.inf]


def run(folder: Path) -> Any:
    """Compute all of it."""
    events = pd.concat(
        [pd.read_parquet(path, columns=list(COLUMNS)) for path in sorted((folder / "events").glob("*.parquet"))]
    )
    users, items = (pd.read_parquet(folder / f"{name}.parquet") for name in ("users", "items"))
    minute, grace = pd.Timedelta("1min"), pd.Timedelta("10min")
    future = events.event_time > events.ingested_at + minute
    broken = events.event_time.isna() | (events.event_time < "1990-01-01") | (events.value < 0) | np.isinf(events.value)
    no_user = events.user_id.isna() | events.user_id.str.strip().str.lower().isin(PLACEHOLDERS)
    no_item = events.item_id.isna() | events.item_id.isin([0, -1])
    user_since = events.user_id.map(users.drop_duplicates("user_id").set_index("user_id").created_at)
    catalogue = items.drop_duplicates("item_id").set_index("item_id")
    item_since, item_until = events.item_id.map(catalogue.created_at), events.item_id.map(catalogue.retired_at)
    flags = pd.DataFrame(
        {
            "source": events.source, "future": future, "broken": broken, "no_user": no_user, "no_item": no_item,
            "unknown_user": ~no_user & (user_since.isna() | (user_since > events.event_time + grace)),
            "unknown_item": ~no_item & (item_since.isna() | (item_since > events.event_time + grace)),
            "retired": item_until < events.event_time,
        }
    )  # fmt: skip
    counts = flags.groupby("source", dropna=False).sum()
    newest = events[~future].groupby("source", dropna=False)[["event_time", "ingested_at"]].max()
    surplus = int(events.event_id.dropna().duplicated().sum())
    act = ["user_id", "item_id", "event_type"]
    acts = events.loc[~no_user & ~no_item, [*act, "event_time", "event_id"]].sort_values([*act, "event_time"])
    before = acts.shift()
    same = (acts[act] == before[act]).all(axis=1) & (acts.event_id != before.event_id)
    semantic = int((same & (acts.event_time - before.event_time <= pd.Timedelta("2s"))).sum())
    cells = len(events.loc[events.user_id != "", ["user_id", "item_id"]].dropna().drop_duplicates())
    of_users, of_items = events.user_id.value_counts(), events.item_id.value_counts()
    ranked = np.sort(of_items.to_numpy())
    weighted = float((np.arange(1, len(ranked) + 1) * ranked).sum())
    drift = {name: events[name].value_counts(dropna=False) for name in ("device", "app_version", "position")}
    drift["value"] = pd.cut(events.value, EDGES).value_counts(dropna=False)
    done = [counts, newest, semantic, of_users.quantile([0.5, 0.9]), weighted, drift]
    return {"surplus": surplus, "cells": cells, "figures": len(done)}


report(run)
