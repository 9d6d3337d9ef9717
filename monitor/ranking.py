"""What was shown to whom at which rank, and whether it was a hit: a bounded sample for recommender metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import Text, cast, func

from checks.dataset import Role
from checks.rows import Rows
from checks.window import MICROSECOND, Window, moment
from monitor.engine import Session
from monitor.errors import EngineError

NEEDED = (Role.USER, Role.ITEM, Role.EVENT_TIME)
# User, item, rank (1 is best), and 1 for a hit.
Shown = tuple[int, int, float, int]


def slice_of(window: Window, share: float, seed: int) -> Window:
    """Return a part of a window without gaps, so that lists stay whole; another seed takes another part."""
    if share >= 1:
        return window
    length = max(window.duration * share, timedelta(microseconds=1))
    start = window.start + (window.duration - length) * (seed * 0.618034 % 1)
    return Window(start, start + length)


def shown(session: Session, rows: Rows, columns: tuple[str, Collection[str]], most: int) -> list[Shown]:
    """Return what was shown in a window: each item of each user once, at its best rank that no better item has.

    Users and items come as numbers that mean nothing outside of this answer.

    Args:
        session: Asked.
        rows: The window.
        columns: The column with the rank, and the event types that are hits.
        most: Most rows that are read.

    Raises:
        EngineError: The dataset has no such column, or lacks a role.
    """
    rank, hits = columns
    dataset = rows.dataset
    missing = [str(role) for role in (*NEEDED, Role.EVENT_TYPE) if role not in dataset.roles]
    if missing or rank not in dataset.columns:
        what = f"has no role {', '.join(missing)}" if missing else f"has no column {rank}"
        raise EngineError(f"dataset {dataset.name} {what}; recommender metrics need users, items, types and ranks")
    users, items, kind = rows.column(Role.USER), rows.column(Role.ITEM), cast(rows.column(Role.EVENT_TYPE), Text)
    statement = rows.select(users, items, dataset.table.c[rank], kind)
    ranks: dict[tuple[Any, Any], float] = {}
    hit: set[tuple[Any, Any]] = set()
    for user, item, at, said in session.run(statement.limit(most), most, f"ranks of {dataset.name}"):
        if user is None or item is None:
            continue
        if said in hits:
            hit.add((user, item))
        if at is not None:
            ranks[user, item] = min(float(at), ranks.get((user, item), float(at)))
    return list(_numbered(ranks, hit))


def _numbered(ranks: dict[tuple[Any, Any], float], hit: set[tuple[Any, Any]]) -> Iterator[Shown]:
    items: dict[Any, int] = {}
    lists: dict[Any, list[tuple[float, Any]]] = {}
    for (user, item), rank in ranks.items():
        lists.setdefault(user, []).append((rank, item))
    for number, (user, own) in enumerate(lists.items()):
        last = float("-inf")
        # Who was shown several lists has several items at a rank. Metrics know one, so others take the next ones.
        for rank, item in sorted(own, key=lambda one: one[0]):
            last = max(rank, last + 1)
            yield number, items.setdefault(item, len(items)), last, int((user, item) in hit)


def extent(session: Session, rows: Rows) -> tuple[int, Window]:
    """Return how many rows a window has, and the part of it that they take up; a young history leaves most empty."""
    at = rows.micros(rows.clock_role)
    asked = rows.select(func.count(), func.min(at), func.max(at))
    count, first, last = session.run(asked, 1, f"rows of {rows.dataset.name}")[0]
    return int(count), Window(moment(first), moment(last) + MICROSECOND) if count else rows.window
