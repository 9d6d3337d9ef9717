"""The user-item matrix of a window, read once for density and popularity.

One statement groups the rows into (user, item) cells and these into users and items; all that
comes back are a few rows of sums and the most frequent items.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Double,
    Text,
    and_,
    case,
    cast,
    distinct,
    func,
    literal,
    null,
    select,
    true,
    union_all,
)

from checks.dataset import Role
from checks.measure import Listing, Tally
from checks.rows import Rows
from checks.window import Window

NAME = "interactions"
TOP_ITEMS = 50
TOP_SHARE = 0.01
_WIDTH = 7


def interactions(rows: Rows, look_back: timedelta) -> Listing:
    """Return the listing of the matrix: rows of (part, key, seven numbers).

    Parts are ``cells`` (cells, active users, active items, catalogue users, catalogue items),
    ``users`` (per-user p50 and p90, known before, whether there is a before), ``items`` (events,
    items, rank-weighted sum, sum of n ln n, events on the top 1 %, known before,
    catalogue size) and ``top``.

    Cost:
        One scan of the window's user and item columns, one of the look-back's.
    """
    has_user = Role.USER in rows.dataset.roles
    user = rows.column(Role.USER) if has_user else null()
    cells = (
        select(user.label("u"), rows.column(Role.ITEM).label("i"), func.count().label("n"))
        .where(and_(rows.belongs, rows.present(Role.ITEM)))
        .group_by(*([user] if has_user else []), rows.column(Role.ITEM))
        .cte("_cells")
        .prefix_with("MATERIALIZED", dialect="postgresql")
        .prefix_with("MATERIALIZED", dialect="duckdb")
    )
    items = _ranked(cells, cells.c.i, true()).cte("_items")
    parts = [_items_part(rows, items, look_back), _top_part(items)]
    if has_user:
        present: Any = cells.c.u.is_not(None)
        if rows.dataset.columns[rows.dataset.roles[Role.USER]].kind == "text":
            present = and_(present, cells.c.u != "")
        users = _ranked(cells, cells.c.u, present).cte("_users")
        parts += [_cells_part(rows, cells, present), _users_part(rows, users, look_back)]
    return Listing(NAME, rows, union_all(*parts), TOP_ITEMS + 3)


def _ranked(cells: Any, key: Any, present: Any) -> Any:
    """Return keys with their number of events and their rank, the rarest first."""
    grouped = select(key.label("key"), cast(func.sum(cells.c.n), BigInteger).label("n"))
    counted = grouped.where(present).group_by(key).subquery()
    place = func.row_number().over(order_by=(counted.c.n, counted.c.key))
    return select(counted.c.key, counted.c.n, place.label("place"), func.count().over().label("size"))


def _part(name: str, *numbers: Any, key: Any = None) -> Any:
    padded = [cast(number, Double) for number in numbers]
    padded += [cast(null(), Double)] * (_WIDTH - len(padded))
    named = [number.label(f"n{place}") for place, number in enumerate(padded)]
    return select(literal(name, Text).label("part"), cast(key, Text).label("key"), *named)


def _cells_part(rows: Rows, cells: Any, present: Any) -> Any:
    users = _catalogue_size(rows, "users", Role.USER)
    items = _catalogue_size(rows, "items", Role.ITEM)
    return _part(
        "cells", func.count(), func.count(distinct(cells.c.u)), func.count(distinct(cells.c.i)), users, items
    ).where(present)  # fmt: skip


def _users_part(rows: Rows, users: Any, look_back: timedelta) -> Any:
    p50, p90 = (func.min(case((users.c.place >= share * users.c.size, users.c.n))) for share in (0.5, 0.9))
    return _part("users", p50, p90, *_known_before(rows, Role.USER, users, look_back))


def _items_part(rows: Rows, items: Any, look_back: timedelta) -> Any:
    catalogue = _catalogue_size(rows, "items", Role.ITEM)
    size = func.coalesce(catalogue, items.c.size)
    top = func.sum(case((items.c.place > items.c.size - func.ceil(TOP_SHARE * size), items.c.n)))
    return _part(
        "items",
        func.sum(items.c.n),
        func.count(),
        func.sum(cast(items.c.place, Double) * items.c.n),
        func.sum(items.c.n * func.ln(items.c.n)),
        top,
        _known_before(rows, Role.ITEM, items, look_back)[0],
        catalogue,
    )


def _top_part(items: Any) -> Any:
    top = select(items.c.key, items.c.n).where(items.c.place > items.c.size - TOP_ITEMS).subquery()
    return _part("top", top.c.n, key=top.c.key).select_from(top)


def _known_before(rows: Rows, role: Role, keys: Any, look_back: timedelta) -> tuple[Any, Any]:
    """Return how many keys were seen in the look-back, and whether it holds any row at all."""
    if not look_back:
        return null(), null()
    before = Rows(rows.dataset, Window(rows.window.start - look_back, rows.window.start), rows.clock)
    seen = select(rows.column(role)).where(and_(before.belongs, rows.present(role)))
    known = func.count(case((keys.c.key.in_(seen), 1)))
    return known, case((seen.exists(), 1), else_=0)


def _catalogue_size(rows: Rows, link: str, role: Role) -> Any:
    known = rows.dataset.links.get(link)
    if known is None or role not in known.roles:
        return null()
    return select(func.count(distinct(known.table.c[known.roles[role]]))).scalar_subquery()


def part(tally: Tally, name: str) -> Mapping[str, float | None] | None:
    """Return the numbers of one part by name, or None where the listing lacks it."""
    names = {
        "cells": ("cells", "users", "items", "catalogue_users", "catalogue_items"),
        "users": ("p50", "p90", "known_before", "has_before"),
        "items": ("events", "items", "rank_weighted", "n_log_n", "top_events", "known_before", "catalogue"),
    }[name]
    for row in tally.listings.get(NAME, ()):
        if row[0] == name:
            return dict(zip(names, row[2:], strict=False))
    return None


def top_items(tally: Tally) -> list[tuple[str, int]]:
    """Return the most frequent items with their number of events, most frequent first."""
    found = [(row[1], int(row[2])) for row in tally.listings.get(NAME, ()) if row[0] == "top"]
    return sorted(found, key=lambda item: (-item[1], item[0]))
