"""The figures of the eight checks in hand-written SQL on DuckDB: ``by_sql.py FOLDER [each]``.

By default fused by hand, as one who knows the data would: one scan for all that one scan can say, one statement
for each grouping. With ``each``, one statement for each figure, as a tool does that knows metrics one by one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import duckdb
from timed import PLACEHOLDERS, report

MISSING = ", ".join(f"'{word}'" for word in PLACEHOLDERS)
CATEGORIES = ("device", "app_version", "position")
EDGES = ", ".join(str(edge) for edge in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 25, 30, 40, 60, 100))
KNOWN = """
    FROM events e
    LEFT JOIN (SELECT user_id AS known_user, min(created_at) AS user_since FROM users GROUP BY 1)
        ON user_id = known_user
    LEFT JOIN (SELECT item_id AS known_item, min(created_at) AS item_since,
                   max(coalesce(retired_at, 'infinity')) AS item_until FROM items GROUP BY 1)
        ON item_id = known_item"""
LATER = "event_time + INTERVAL 10 MINUTE"
AGGREGATES = {
    "rows": "count(*)",
    "newest_event": "max(event_time) FILTER (event_time <= ingested_at + INTERVAL 1 MINUTE)",
    "newest_arrival": "max(ingested_at)",
    "future": "count(*) FILTER (event_time > ingested_at + INTERVAL 1 MINUTE)",
    "invalid": """count(*) FILTER (
        event_time IS NULL OR event_time < '1990-01-01' OR value < 0 OR isnan(value) OR isinf(value))""",
    "missing_user": f"count(*) FILTER (user_id IS NULL OR lower(trim(user_id)) IN ({MISSING}))",
    "missing_item": "count(*) FILTER (item_id IS NULL OR item_id IN (0, -1))",
}
UNKNOWN = {
    "unknown_user": f"count(*) FILTER (user_id IS NOT NULL AND (known_user IS NULL OR user_since > {LATER}))",
    "unknown_item": f"count(*) FILTER (item_id IS NOT NULL AND (known_item IS NULL OR item_since > {LATER}))",
    "retired_item": "count(*) FILTER (item_until < event_time)",
}
DUPLICATES = (
    "SELECT sum(n - 1) FROM (SELECT count(*) AS n FROM events WHERE event_id IS NOT NULL GROUP BY {key}) WHERE n > 1"
)
SEMANTIC = """
    SELECT count(*) FROM (
        SELECT event_id, lag(event_id) OVER act AS before, event_time - lag(event_time) OVER act AS apart
        FROM events WHERE user_id IS NOT NULL AND item_id IS NOT NULL
        WINDOW act AS (PARTITION BY user_id, item_id, event_type ORDER BY event_time))
    WHERE apart <= INTERVAL 2 SECOND AND before <> event_id"""
CELLS = """
    SELECT count(DISTINCT {pair}) FILTER (user_id <> '' AND item_id IS NOT NULL) AS cells,
        count(DISTINCT user_id), count(DISTINCT item_id) FROM events"""
PAIRS = """
    SELECT count(*) AS cells
    FROM (SELECT DISTINCT user_id, item_id FROM events WHERE user_id <> '' AND item_id IS NOT NULL)"""
USERS = "SELECT quantile_disc(n, [0.5, 0.9]) FROM (SELECT count(*) AS n FROM events GROUP BY user_id)"
ITEMS = """
    SELECT sum(n), count(*), sum(place * n), sum(n * ln(n)), max(n)
    FROM (SELECT n, row_number() OVER (ORDER BY n) AS place FROM (SELECT count(*) AS n FROM events GROUP BY item_id))"""
BINS = f"""
    SELECT list_position([{EDGES}], list_filter([{EDGES}], edge -> value < edge)[1]) AS bin, count(*)
    FROM events GROUP BY bin"""
# What is shown of what was found, by a mark of its statement.
SHOWN = {"surplus": "sum(n - 1)", "cells": "AS cells"}
SENT = "SELECT source, sum(sent) FROM sent GROUP BY source"


def statements(each: bool) -> list[str]:
    """Return what is asked."""
    counted = {**AGGREGATES, **UNKNOWN}
    by_category = [f"SELECT {name}, count(*) FROM events GROUP BY {name}" for name in CATEGORIES]
    by_item = "SELECT item_id, count(*) AS n FROM events GROUP BY item_id ORDER BY n DESC LIMIT 1000"
    if each:
        plain = [f"SELECT source, {what} FROM events GROUP BY source" for what in AGGREGATES.values()]
        joined = [f"SELECT source, {what} {KNOWN} GROUP BY source" for what in UNKNOWN.values()]
        cells = [PAIRS]
        cells += [f"SELECT count(DISTINCT {name}) FROM events" for name in ("user_id", "item_id")]
        return [
            *plain,
            *joined,
            DUPLICATES.format(key="event_id"),
            SEMANTIC,
            *cells,
            USERS,
            ITEMS,
            by_item,
            BINS,
            *by_category,
            SENT,
        ]
    scan = f"SELECT source, {', '.join(counted.values())} {KNOWN} GROUP BY source"
    cells = CELLS.format(pair="hash(user_id, item_id)")
    semantic = SEMANTIC.replace("user_id, item_id, event_type ORDER", "hash(user_id, item_id, event_type) ORDER")
    return [
        scan,
        DUPLICATES.format(key="hash(event_id)"),
        semantic,
        cells,
        USERS,
        ITEMS,
        by_item,
        BINS,
        *by_category,
        SENT,
    ]


def run(folder: Path) -> Any:
    """Ask all of it."""
    engine = duckdb.connect()
    engine.execute("SET preserve_insertion_order = false")
    for name, files in (("events", "events/*"), ("users", "users"), ("items", "items"), ("sent", "sent/*")):
        engine.execute(f"CREATE VIEW {name} AS FROM read_parquet('{folder}/{files}.parquet')")
    found = {statement: engine.execute(statement).fetchall() for statement in statements("each" in sys.argv)}
    first = {name: next(rows[0][0] for text, rows in found.items() if mark in text) for name, mark in SHOWN.items()}
    return {**first, "statements": len(found)}


report(run)
