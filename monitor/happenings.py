"""What was done on purpose: deploys, model roll-outs, configuration changes; they explain deviations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, select

from checks.window import Window, micros, moment
from monitor import schema
from monitor.store import Store
from monitor.times import parse_time

KINDS = ("deploy", "model", "config", "other")
LONGEST_TEXT = 300
# A change may show an hour later.
BEFORE = timedelta(hours=1)


@dataclass(frozen=True)
class Happening:
    """One event.

    Args:
        at: When it happened.
        kind: One of ``KINDS``.
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
        ValueError: Its kind is none of ``KINDS``, or it says nothing.
    """
    text = " ".join(happening.text.split())[:LONGEST_TEXT]
    if happening.kind not in KINDS or not text:
        raise ValueError(
            f"an event has a text and is one of {', '.join(KINDS)}, got {happening.kind}: {text or 'nothing'}"
        )
    row = {
        "pipeline": store.pipeline, "at_us": micros(happening.at), "kind": happening.kind, "text": text,
        "source": happening.source[:LONGEST_TEXT],
    }  # fmt: skip
    with store.writing() as connection:
        connection.execute(schema.happenings.insert().values(row))


def parsed(body: bytes, now: datetime) -> Happening:
    """Return the event that a request tells of: JSON with ``text``, and ``kind``, ``at`` and ``source`` if need be.

    Raises:
        ValueError: It is no such JSON, or the time has no sense.
    """
    told = json.loads(body)
    if not isinstance(told, dict) or not isinstance(told.get("text"), str):
        raise ValueError('an event is JSON such as {"text": "ios 8.3.0", "kind": "deploy"}')
    unknown = sorted(set(told) - {"text", "kind", "at", "source"})
    if unknown:
        raise ValueError(f"unknown key {unknown[0][:40]}; there are text, kind, at and source")
    at = parse_time(str(told["at"])) if told.get("at") else now
    return Happening(at, str(told.get("kind", KINDS[0])), told["text"], str(told.get("source", "")))


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
