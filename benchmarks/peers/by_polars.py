"""The figures of the eight checks with polars, lazily and in its streaming engine: ``by_polars.py FOLDER``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from timed import COLUMNS, PLACEHOLDERS, report

EDGES = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 25, 30, 40, 60, 100]
ACT = ["user_id", "item_id", "event_type"]


def run(folder: Path) -> Any:
    """Compute all of it, each plan once."""
    events = pl.scan_parquet(folder / "events" / "*.parquet").select(COLUMNS)
    users = (
        pl.scan_parquet(folder / "users.parquet")
        .group_by("user_id")
        .agg(pl.col("created_at").min().alias("user_since"))
    )
    items = pl.scan_parquet(folder / "items.parquet").group_by("item_id")
    items = items.agg(pl.col("created_at").min().alias("item_since"), pl.col("retired_at").max().alias("item_until"))
    at, future = pl.col("event_time"), pl.col("event_time") > pl.col("ingested_at") + pl.duration(minutes=1)
    no_user = pl.col("user_id").is_null() | pl.col("user_id").str.strip_chars().str.to_lowercase().is_in(PLACEHOLDERS)
    no_item = pl.col("item_id").is_null() | pl.col("item_id").is_in([0, -1])
    grace, value = pl.duration(minutes=10), pl.col("value")
    counted = (
        events.join(users, on="user_id", how="left")
        .join(items, on="item_id", how="left")
        .group_by("source")
        .agg(
            pl.len().alias("rows"),
            at.filter(~future).max().alias("newest_event"),
            pl.col("ingested_at").max().alias("newest_arrival"),
            future.sum().alias("future"),
            (at.is_null() | (at.dt.year() < 1990) | (value < 0) | value.is_nan() | value.is_infinite())
            .sum()
            .alias("broken"),
            no_user.sum().alias("no_user"),
            no_item.sum().alias("no_item"),
            (~no_user & (pl.col("user_since").is_null() | (pl.col("user_since") > at + grace)))
            .sum()
            .alias("unknown_user"),
            (~no_item & (pl.col("item_since").is_null() | (pl.col("item_since") > at + grace)))
            .sum()
            .alias("unknown_item"),
            (pl.col("item_until") < at).sum().alias("retired"),
        )
    )
    of_keys = events.filter(pl.col("event_id").is_not_null()).group_by("event_id").len()
    acts = events.filter(~no_user & ~no_item).select(*ACT, "event_time", "event_id").sort([*ACT, "event_time"])
    same = pl.all_horizontal([pl.col(name) == pl.col(name).shift() for name in ACT]) & (
        pl.col("event_id") != pl.col("event_id").shift()
    )
    close = same & (at - at.shift() <= pl.duration(seconds=2))
    of_items = events.group_by("item_id").len().sort("len")
    surplus = of_keys.filter(pl.col("len") > 1).select((pl.col("len") - 1).sum())
    cells = (
        events.filter(pl.col("user_id") != "")
        .drop_nulls("item_id")
        .select("user_id", "item_id")
        .unique()
        .select(pl.len())
    )
    plans = [
        counted,
        acts.select(close.sum()),
        events.group_by("user_id")
        .len()
        .select(pl.col("len").quantile(0.5).alias("p50"), pl.col("len").quantile(0.9).alias("p90")),
        of_items.select((pl.int_range(1, pl.len() + 1) * pl.col("len")).sum()),
        of_items.tail(1_000),
        *(events.group_by(name).len() for name in ("device", "app_version", "position")),
        events.group_by(pl.lit(pl.Series(EDGES, dtype=pl.Float64)).search_sorted(value).alias("bin")).len(),
    ]
    found = {"surplus": surplus, "cells": cells}
    figures = len([plan.collect(engine="streaming") for plan in plans])
    return {name: plan.collect(engine="streaming").item() for name, plan in found.items()} | {"figures": figures}


report(run)
