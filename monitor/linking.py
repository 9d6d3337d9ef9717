"""Finds which tables of ids the events point to, by joining them, and which stages stand beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, and_, cast, false, func, select

from checks.dataset import Dataset, Role
from checks.dialect import count_if, folded
from checks.rows import Rows
from checks.unknown_ids import PLACEHOLDERS, UnknownIdsSettings
from checks.window import MICROSECOND, Window
from monitor.columns import GUESS, LIKELY, SURE, SURENESS
from monitor.engine import Session
from monitor.errors import EngineError
from monitor.guess import Found, Linked

# Share of the events whose id must be in a table for it to be their catalogue.
LEAST_CONTAINED = 0.5
# Share of the events outside their item's life from which on the life is not what the column says.
MOST_OUTSIDE = {Role.VALID_FROM: 0.05, Role.VALID_TO: 0.5}
_TABLES = (
    ("users", Role.USER),
    ("items", Role.ITEM),
    ("user_vocabulary", Role.USER),
    ("item_vocabulary", Role.ITEM),
)
# The samples are read whole; a window has to be named, but is not looked at.
_ANY = Window(datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def link(samples: Mapping[str, Dataset], session: Session, datasets: Sequence[Found]) -> None:
    """Point events to their tables of ids and their stages; a life that contradicts the events is dropped.

    Args:
        samples: The datasets as the checks will see them, of events the first rows.
        session: Where they are read.
        datasets: What was guessed; links are added to it.
    """
    for found in datasets:
        if found.kind != "events":
            continue
        for name, role in _TABLES:
            others = [other for other in datasets if other.kind == name and role in found.roles]
            sureness = {other.name: other.sure for other in others}
            tried = [tries for other in others if (tries := _try(samples, session, (found, other), (name, role)))]
            # Of equals, the one that surely is such a table.
            tried.sort(key=lambda tries: (-tries[0], SURENESS.index(sureness[tries[1].target])))
            found.links[name] = [linked for _, linked in tried]
            if name in found.taken and name in ("users", "items"):
                _keep_placeholders(session, found, samples[found.links[name][0].target], role)
        _stages(found, datasets)


def _try(
    samples: Mapping[str, Dataset], session: Session, pair: tuple[Found, Found], how: tuple[str, Role]
) -> tuple[float, Linked] | None:
    """Return the share of events whose id is in a table, and the link; None if that cannot be told."""
    (found, other), (name, role) = pair, how
    try:
        counted = _counted(samples[found.name], samples[other.name], session, how)
    except EngineError:
        return None
    if not counted["events"]:
        return None
    share = counted["known"] / counted["events"]
    is_vocabulary = name.endswith("vocabulary")
    is_taken = share > 0 if is_vocabulary else share >= LEAST_CONTAINED
    if is_taken:
        for life, most in MOST_OUTSIDE.items():
            if life in other.roles and counted[life] > most * counted["events"]:
                _drop(other, life, counted[life] / counted["events"])
    sure = GUESS if is_vocabulary or share < 0.9 else LIKELY if share < 0.99 else SURE
    why = f"{100 * share:.4g} % of the events have their {role} id in it"
    return share, Linked(other.name, sure, why if is_taken else f"only {why}", is_taken)


def _counted(events: Dataset, known: Dataset, session: Session, how: tuple[str, Role]) -> dict[Any, int]:
    """Count events, those whose id is in a table, and those before and after its life there."""
    name, role = how
    rows = Rows(replace(events, links={name: known}), _ANY)
    catalogue: Any = rows.catalogue(name, role)
    lives = {life: false() for life in MOST_OUTSIDE}
    if Role.EVENT_TIME in events.roles:
        at, grace = rows.micros(Role.EVENT_TIME), UnknownIdsSettings().catalogue_grace // MICROSECOND
        ids = catalogue.ids.c
        if "valid_from" in ids:
            lives[Role.VALID_FROM] = ids.valid_from > at + grace
        if "valid_to" in ids:
            lives[Role.VALID_TO] = ids.valid_to <= at
    own = folded(cast(rows.column(role), Text))
    statement: Any = (
        select(func.count(), count_if(~catalogue.is_absent), *(count_if(outside) for outside in lives.values()))
        .select_from(events.table.outerjoin(catalogue.ids, catalogue.condition))
        # A placeholder says nothing about a table, unless the table has it.
        .where(and_(rows.present(role), own.not_in(PLACEHOLDERS) | ~catalogue.is_absent))
    )
    row = session.run(statement, 1, f"{name} of {events.name}")[0]
    return dict(zip(("events", "known", *lives), map(int, row), strict=True))


def _drop(other: Found, life: Role, share: float) -> None:
    """Take a role away: what the column says is not when an id is valid."""
    made = other.roles.pop(life)
    side = "before" if life is Role.VALID_FROM else "after"
    why = f"not taken: {100 * share:.3g} % of the events of these ids come {side} it"
    other.others.setdefault(life, []).insert(0, replace(made, sure=GUESS, why=why))


def _keep_placeholders(session: Session, found: Found, known: Dataset, role: Role) -> None:
    """Note the placeholders that are real ids of a table."""
    theirs = cast(known.table.c[known.roles[role]], Text)
    spelt = folded(theirs)
    real = select(spelt).where(spelt.in_(PLACEHOLDERS)).distinct()
    held = {str(row[0]) for row in session.run(real, len(PLACEHOLDERS), f"ids of {known.name}")}
    found.placeholders_kept = tuple(sorted({*found.placeholders_kept, *held}))


def _stages(found: Found, datasets: Sequence[Found]) -> None:
    """Point events to the datasets of sends and rejects: the only ones, or those with their name."""
    events = [other.name for other in datasets if other.kind == "events"]
    for stage in ("sent", "rejected"):
        others = [other for other in datasets if other.kind == stage]
        for other in sorted(others, key=lambda other: found.name not in other.name):
            is_named = found.name in other.name
            is_taken = is_named or (len(events) == 1 and len(others) == 1)
            why = f"its name has {found.name} in it" if is_named else "its name, and there is no other"
            linked = Linked(other.name, LIKELY, why) if is_taken else Linked(other.name, GUESS, "its name", False)
            found.links.setdefault(stage, []).append(linked)
