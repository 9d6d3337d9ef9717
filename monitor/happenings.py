"""What was done on purpose: deploys, model roll-outs, configuration changes; they explain deviations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, select

from checks.metrics import CHANGES
from checks.window import Window, micros, moment
from monitor import schema
from monitor.store import Store
from monitor.times import parse_time
from monitor.wording import whole

LONGEST_TEXT = 300
# A change may show an hour later.
BEFORE = timedelta(hours=1)


@dataclass(frozen=True)
class Happening:
    """One event.

    Args:
        at: When it happened.
        kind: One of ``CHANGES``.
        text: What was done, at most 300 characters.
        source: Who or what says so.
    """

    at: datetime
    kind: str
    text: str
    source: str = ""


def add(store: Store, happening: Happening) -> None:
    """Keep an event.

    Raises:
        ValueError: Its kind is none of ``CHANGES``, or it says nothing.
    """
    row = _row(store, happening)
    if happening.kind not in CHANGES:
        raise ValueError(f"an event is one of {', '.join(CHANGES)}, got {happening.kind}")
    if not row["text"]:
        raise ValueError("an event needs a text that says what was done, got none")
    with store.writing() as connection:
        connection.execute(schema.happenings.insert().values(row))


def add_new(store: Store, told: Sequence[Happening]) -> int:
    """Keep those events that are not kept already, and return how many they are."""
    table, added = schema.happenings, 0
    with store.writing() as connection:
        for row in (_row(store, happening) for happening in told):
            same = and_(*(table.c[name] == value for name, value in row.items()))
            if row["text"] and connection.execute(select(table.c.id).where(same).limit(1)).first() is None:
                connection.execute(table.insert().values(row))
                added += 1
    return added


def _row(store: Store, happening: Happening) -> dict[str, Any]:
    return {
        "pipeline": store.pipeline, "at_us": micros(happening.at), "kind": happening.kind,
        "text": " ".join(happening.text.split())[:LONGEST_TEXT], "source": happening.source[:LONGEST_TEXT],
    }  # fmt: skip


def newest(store: Store) -> dict[str, datetime]:
    """Return when the newest event of each kind happened; kinds without any are left out."""
    table = schema.happenings
    statement = select(table.c.kind, func.max(table.c.at_us)).where(table.c.pipeline == store.pipeline)
    with store.reading() as connection:
        return {kind: moment(at) for kind, at in connection.execute(statement.group_by(table.c.kind))}


_LIKE = 'an event is JSON such as {"text": "ios 8.3.0", "kind": "deploy"}'


def parsed(body: bytes, now: datetime) -> Happening:
    """Return the event that a request tells of: JSON with ``text``, and ``kind``, ``at`` and ``source`` if need be.

    Raises:
        ValueError: It is no such JSON, or the time has no sense.
    """
    try:
        told = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{_LIKE}, of 10 kB at most; this is none: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("text"), str):
        raise ValueError(_LIKE)
    unknown = sorted(set(told) - {"text", "kind", "at", "source"})
    if unknown:
        raise ValueError(f"unknown key {unknown[0][:40]}; there are text, kind, at and source")
    at = parse_time(str(told["at"])) if told.get("at") else now
    kind, source = str(told.get("kind", CHANGES[0])), str(told.get("source", ""))
    return Happening(at, whole(kind), whole(told["text"]), whole(source))


def between(store: Store, span: Window) -> Iterator[Happening]:
    """Yield the events of a span and of the hour before it, oldest first."""
    table = schema.happenings
    here = and_(table.c.at_us >= micros(span.start - BEFORE), table.c.at_us < micros(span.end))
    statement = select(table).where(table.c.pipeline == store.pipeline, here).order_by(table.c.at_us)
    with store.reading() as connection:
        rows = connection.execute(statement).all()
    for row in rows:
        yield Happening(moment(row.at_us), row.kind, row.text, row.source)


def prune(store: Store, before: datetime) -> None:
    """Forget events from before a time."""
    table = schema.happenings
    with store.writing() as connection:
        connection.execute(table.delete().where(table.c.pipeline == store.pipeline, table.c.at_us < micros(before)))
