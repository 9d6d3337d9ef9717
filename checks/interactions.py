"""The user-item matrix of a window, read once for density and popularity.

One statement counts the (user, item) cells and groups the rows by user and by item; all that comes
back are a few rows of sums and the most frequent items. Users and cells are told apart by 64-bit
keys (see `row_key`); among n keys one pair is equal by chance with a probability of n^2 / 2^65,
which is 3e-6 for 10 million, and the count is then one too low. Items are compared themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Double, Text, and_, case, cast, distinct, func, literal, null, select, union_all

from checks.clipped import clip, comparable
from checks.dataset import Kind, Role
from checks.dialect import clipped, row_key
from checks.measure import Listing, Tally
from checks.rows import Rows, by_frequency, looked_up
from checks.window import Window

NAME = "interactions"
TOP_ITEMS = 50
TOP_SHARE = 0.01
# What Gini, effective size, coverage and the share of the top 1 % are reckoned from.
SPREAD = ("events", "items", "rank_weighted", "n_log_n", "top_events", "catalogue", "known")
_WIDTH = 8


def interactions(rows: Rows, look_back: timedelta, ranking: Sequence[str] = ()) -> Listing:
    """Return the listing of the matrix: rows of (part, key, eight numbers).

    Parts are ``cells`` (cells, active users, active items, catalogue users, catalogue items),
    ``users`` (per-user p50 and p90, known before, whether there is a before), ``items`` (events,
    items, rank-weighted sum, sum of n ln n, events on the top 1 %, known before,
    catalogue size, items that are in the catalogue), ``top`` and ``ranked``.

    Args:
        rows: The window.
        look_back: How long before the window users and items count as known; 0 asks nothing.
        ranking: Items whose events are wanted one by one, spelt as text.

    Cost:
        One scan of the window's items, one of its users, one of both; one of each in the look-back.
    """
    # Names of common table expressions start with _, as no dataset's does.
    items = ranked(_counted(rows, Role.ITEM, rows.column(Role.ITEM)).subquery()).cte("_items")
    parts = [_items_part(rows, items, look_back), _top_part(items)]
    if ranking:
        spelt = comparable(cast(items.c.key, Text), ranking)
        parts.append(_part("ranked", items.c.n, key=spelt).select_from(items).where(spelt.in_(ranking)))
    if Role.USER in rows.dataset.roles:
        users = _counted(rows, Role.USER, row_key(rows.column(Role.USER))).cte("_users")
        parts += [_cells_part(rows, users, items), _users_part(rows, users, look_back)]
    return Listing(NAME, rows, union_all(*parts), TOP_ITEMS + 3 + len(ranking))


def _counted(rows: Rows, role: Role, key: Any) -> Any:
    """Return keys with their number of events."""
    present = and_(rows.belongs, rows.present(role))
    return select(key.label("key"), func.count().label("n")).where(present).group_by(key)


def ranked(counted: Any) -> Any:
    """Return keys with their number of events and their rank, the rarest first."""
    place = func.row_number().over(order_by=counted.c.n).label("place")
    return select(*counted.c, place, func.count().over().label("size"))


def _part(name: str, *numbers: Any, key: Any = None) -> Any:
    padded = [cast(number, Double) for number in numbers]
    padded += [cast(null(), Double)] * (_WIDTH - len(padded))
    named = [number.label(f"n{place}") for place, number in enumerate(padded)]
    return select(literal(name, Text).label("part"), cast(key, Text).label("key"), *named)


def _cells_part(rows: Rows, users: Any, items: Any) -> Any:
    both = and_(rows.belongs, rows.present(Role.USER), rows.present(Role.ITEM))
    pair = row_key(rows.column(Role.USER), rows.column(Role.ITEM)).label("pair")
    # The groups are counted, which takes less time and memory than a set of what is distinct.
    cells = select(func.count()).select_from(select(pair).where(both).group_by(pair).subquery()).scalar_subquery()
    counts = [select(func.count()).select_from(of).scalar_subquery() for of in (users, items)]
    catalogue = [_catalogue_size(rows, link, role) for link, role in (("users", Role.USER), ("items", Role.ITEM))]
    return _part("cells", cells, *counts, *catalogue)


def _users_part(rows: Rows, users: Any, look_back: timedelta) -> Any:
    """Return quantiles of events per user from how many users have how many, which spares sorting the users."""
    same = select(users.c.n, func.count().label("users")).group_by(users.c.n).subquery()
    upto = func.sum(same.c.users).over(order_by=same.c.n).label("upto")
    steps = select(same.c.n, upto, func.sum(same.c.users).over().label("size")).cte("_steps")
    p50, p90 = (func.min(case((steps.c.upto >= share * steps.c.size, steps.c.n))) for share in (0.5, 0.9))
    key = row_key(rows.column(Role.USER))
    before = _known_before(rows, Role.USER, key, select(users.c.key), look_back)
    return _part("users", p50, p90, *before).select_from(steps)


def _items_part(rows: Rows, items: Any, look_back: timedelta) -> Any:
    kind = rows.kind(Role.ITEM)
    key, keys = looked_up(rows.column(Role.ITEM), kind), select(looked_up(items.c.key, kind))
    *sums, catalogue, known = spread(rows, items)
    return _part("items", *sums, _known_before(rows, Role.ITEM, key, keys, look_back)[0], catalogue, known)


def spread(rows: Rows, items: Any) -> tuple[Any, ...]:
    """Return the numbers of ``SPREAD`` over items that are ``ranked``."""
    catalogue = _catalogue_size(rows, "items", Role.ITEM)
    # More may have been seen than the catalogue has: it is empty, or the ids are not in it.
    size = case((catalogue > items.c.size, catalogue), else_=items.c.size)
    top = func.sum(case((items.c.place > items.c.size - func.ceil(TOP_SHARE * size), items.c.n)))
    return (
        func.sum(items.c.n),
        func.count(),
        func.sum(cast(items.c.place, Double) * items.c.n),
        func.sum(items.c.n * func.ln(items.c.n)),
        top,
        catalogue,
        _in_catalogue(rows, items),
    )


def frequent_items(rows: Rows, present: Any, most: int) -> Listing:
    """Return the listing of the most frequent items with their number of events, long ids as they are kept.

    Args:
        rows: The window.
        present: Which of its rows count.
        most: How many items come back.
    """
    item = rows.column(Role.ITEM)
    counted = rows.select(item.label("item"), func.count().label("n")).where(present).group_by(item).subquery().c
    statement: Any = select(counted.item, counted.n).order_by(*by_frequency(counted.item, counted.n)).limit(most)
    if rows.kind(Role.ITEM) is Kind.TEXT:
        top = statement.subquery().c
        statement = select(clipped(top.item), top.n).order_by(*by_frequency(top.item, top.n))
    return Listing("ranking", rows, statement, most)


def _top_part(items: Any) -> Any:
    first = select(items.c.key, items.c.n).order_by(*by_frequency(items.c.key, items.c.n)).limit(TOP_ITEMS)
    top = first.subquery()
    return _part("top", top.c.n, key=top.c.key).select_from(top)


def _known_before(rows: Rows, role: Role, key: Any, keys: Any, look_back: timedelta) -> tuple[Any, Any]:
    """Return how many keys were seen in the look-back, and whether it holds any row at all.

    The keys of the window filter the look-back, so what is held in memory grows with the window alone.
    """
    if not look_back:
        return null(), null()
    before = Rows(rows.dataset, Window(rows.window.start - look_back, rows.window.start), rows.clock)
    seen = and_(before.belongs, rows.present(role))
    known = select(func.count(distinct(key))).where(and_(seen, key.in_(keys)))
    return known.scalar_subquery(), case((select(key).where(seen).exists(), 1), else_=0)


def _catalogue_size(rows: Rows, link: str, role: Role) -> Any:
    known = rows.dataset.linked(link)
    if known is None or role not in known.roles:
        return null()
    catalogue = Rows(known, rows.window)
    ids = select(func.count(distinct(catalogue.column(role)))).select_from(known.table)
    return ids.where(catalogue.present(role)).scalar_subquery()


def _in_catalogue(rows: Rows, items: Any) -> Any:
    """Return how many items are in the table of items; ids of different types are compared as text."""
    known = rows.dataset.linked("items")
    if known is None or Role.ITEM not in known.roles:
        return null()
    catalogue = Rows(known, rows.window)
    ids: Any = catalogue.column(Role.ITEM)
    key: Any = items.c.key
    kind = rows.kind(Role.ITEM)
    if catalogue.kind(Role.ITEM) is not kind:
        ids, key, kind = cast(ids, Text), cast(key, Text), Kind.TEXT
    held = select(looked_up(ids, kind)).select_from(known.table)
    return select(func.count()).select_from(items).where(looked_up(key, kind).in_(held)).scalar_subquery()


def part(tally: Tally, name: str) -> Mapping[str, float | None] | None:
    """Return the numbers of one part by name, or None where the listing lacks it."""
    names = {
        "cells": ("cells", "users", "items", "catalogue_users", "catalogue_items"),
        "users": ("p50", "p90", "known_before", "has_before"),
        "items": (*SPREAD[:5], "known_before", *SPREAD[5:]),
    }[name]
    for row in tally.listings.get(NAME, ()):
        if row[0] == name:
            return dict(zip(names, row[2:], strict=False))
    return None


def top_items(tally: Tally) -> list[tuple[str, int]]:
    """Return the most frequent items with their number of events, most frequent first."""
    return sorted(_items(tally, "top").items(), key=lambda item: (-item[1], item[0]))


def ranked_items(tally: Tally) -> dict[str, int]:
    """Return the events of each item of the ranking that has any."""
    return _items(tally, "ranked")


def _items(tally: Tally, name: str) -> dict[str, int]:
    return {clip(row[1]): int(row[2]) for row in tally.listings.get(NAME, ()) if row[0] == name}
