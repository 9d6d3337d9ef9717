"""The outbox: messages wait here, in the state, until they are delivered or refused for good.

A message and the step that gave rise to it are written in one transaction. Messages about one
incident leave in order, each once to a channel; nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection, and_, or_, select

from alerts.message import Alert, State, dump_alert, load_alert
from checks.window import micros, moment
from monitor import schema

if TYPE_CHECKING:
    from monitor.store import Store

QUEUED, DELIVERED, REFUSED = "queued", "delivered", "refused"


@dataclass(frozen=True)
class Item:
    """One message to one channel.

    Args:
        id: Its place in the outbox.
        channel: Name of the channel.
        alert: What to say.
        attempts: How often it was tried.
        next_at: Not to be tried before this.
    """

    id: int
    channel: str
    alert: Alert
    attempts: int
    next_at: datetime


def put(connection: Connection, pipeline: str, alert: Alert, channels: Iterable[str]) -> None:
    """Write a message, to each of some channels, in the caller's transaction; the same one again changes nothing."""
    table = schema.transitions
    here = and_(table.c.pipeline == pipeline, table.c.incident == alert.key, table.c.number == alert.transition)
    if connection.execute(select(table.c.id).where(here)).first() is not None:
        return
    row = {
        "pipeline": pipeline, "incident": alert.key, "number": alert.transition, "at_us": micros(alert.at),
        "alert": dump_alert(alert),
    }  # fmt: skip
    connection.execute(table.insert().values(row))
    at = connection.execute(select(table.c.id).where(here)).scalar_one()
    _queue(connection, pipeline, alert, at, channels)


def _queue(connection: Connection, pipeline: str, alert: Alert, transition: int, channels: Iterable[str]) -> None:
    for channel in channels:
        # Due at once, by any clock.
        waiting = {"state": QUEUED, "attempts": 0, "next_us": 0}
        row = {"pipeline": pipeline, "channel": channel, "transition_id": transition, "incident": alert.key, **waiting}
        connection.execute(schema.outbox.insert().values(row))


def first(store: Store, channel: str) -> Item | None:
    """Return the message to a channel to try next: of the oldest of each incident, the first that is due."""
    box, table = schema.outbox, schema.transitions
    ours = and_(box.c.pipeline == store.pipeline, box.c.channel == channel, box.c.state == QUEUED)
    oldest = select(sa.func.min(box.c.id)).where(ours).group_by(box.c.incident)
    statement = (
        select(box.c.id, box.c.attempts, box.c.next_us, table.c.alert)
        .join_from(box, table, box.c.transition_id == table.c.id)
        .where(box.c.id.in_(oldest))
        .order_by(box.c.next_us, box.c.id)
        .limit(1)
    )
    with store.reading() as connection:
        row = connection.execute(statement).first()
    return None if row is None else Item(row.id, channel, load_alert(row.alert), row.attempts, moment(row.next_us))


def settle(store: Store, item: Item, state: str, at: datetime, error: str = "") -> None:
    """Note that a message was delivered, or refused for good, and count it."""
    box = schema.outbox
    with store.writing() as connection:
        values = {"state": state, "attempts": item.attempts + 1, "done_us": micros(at), "error": error or None}
        connection.execute(box.update().where(box.c.id == item.id).values(values))
        store.count_one(connection, "recwatch_notifications_total", {"channel": item.channel, "result": state})


def postpone(store: Store, item: Item, until: datetime, error: str) -> None:
    """Note that a message could not be delivered now, and when to try again."""
    box = schema.outbox
    with store.writing() as connection:
        values = {"attempts": item.attempts + 1, "next_us": micros(until), "error": error}
        connection.execute(box.update().where(box.c.id == item.id).values(values))


def readdress(store: Store, known: Collection[str], told: Callable[[Alert], Iterable[str]], at: datetime) -> int:
    """Give up what waits for channels that are gone, in favour of those that are told now; return how many there were.

    Args:
        store: The state.
        known: The channels that there are.
        told: Returns the channels that an alert goes to now.
        at: The moment.
    """
    box, table = schema.outbox, schema.transitions
    lost = and_(box.c.pipeline == store.pipeline, box.c.state == QUEUED, box.c.channel.not_in(list(known)))
    found = select(box.c.id, box.c.channel, box.c.transition_id, table.c.alert).join_from(
        box, table, box.c.transition_id == table.c.id
    )
    with store.writing() as connection:
        store.guard(connection)
        rows = connection.execute(found.where(lost).order_by(box.c.id)).all()
        for row in rows:
            alert, same = load_alert(row.alert), box.c.transition_id == row.transition_id
            has = set(connection.execute(select(box.c.channel).where(same)).scalars())
            _queue(connection, store.pipeline, alert, row.transition_id, [to for to in told(alert) if to not in has])
            values = {"state": REFUSED, "done_us": micros(at), "error": "there is no such channel any more"}
            connection.execute(box.update().where(box.c.id == row.id).values(values))
            store.count_one(connection, "recwatch_notifications_total", {"channel": row.channel, "result": REFUSED})
    return len(rows)


def lengths(store: Store) -> dict[str, int]:
    """Return how many messages wait, by channel."""
    box = schema.outbox
    ours = and_(box.c.pipeline == store.pipeline, box.c.state == QUEUED)
    with store.reading() as connection:
        rows = connection.execute(select(box.c.channel, sa.func.count()).where(ours).group_by(box.c.channel)).all()
    return {channel: int(count) for channel, count in rows}


@dataclass(frozen=True)
class Sent:
    """A message of the past, what became of it at each channel, and the last error of those where it had one."""

    alert: Alert
    channels: dict[str, str]
    errors: dict[str, str]


def history(store: Store, since: datetime, at_most: int = 200, also: Collection[str] = ()) -> list[Sent]:
    """Return the messages since a moment, and those of any time about some incidents, newest first."""
    table, box = schema.transitions, schema.outbox
    wanted = or_(table.c.at_us >= micros(since), table.c.incident.in_(list(also)))
    ours = and_(table.c.pipeline == store.pipeline, wanted)
    with store.reading() as connection:
        rows = connection.execute(select(table).where(ours).order_by(table.c.id.desc()).limit(at_most)).all()
        states = connection.execute(
            select(box.c.transition_id, box.c.channel, box.c.state, box.c.error)
            .where(box.c.transition_id.in_([row.id for row in rows]))
            .order_by(box.c.channel)
        ).all()
    channels: dict[int, dict[str, str]] = {row.id: {} for row in rows}
    errors: dict[int, dict[str, str]] = {row.id: {} for row in rows}
    for message, channel, state, error in states:
        channels[message][channel] = state
        if error:
            errors[message][channel] = error
    return [Sent(load_alert(row.alert), channels[row.id], errors[row.id]) for row in rows]


def newest(store: Store, incident: str) -> Alert | None:
    """Return the last message about an incident, or None if there is none."""
    with store.reading() as connection:
        return _newest(connection, store, incident)


def _newest(connection: Connection, store: Store, incident: str) -> Alert | None:
    table = schema.transitions
    ours = and_(table.c.pipeline == store.pipeline, table.c.incident == incident)
    found = connection.execute(select(table.c.alert).where(ours).order_by(table.c.number.desc()).limit(1)).scalar()
    return None if found is None else load_alert(found)


def prune(store: Store, before: datetime) -> None:
    """Forget messages of before a moment, and what channels remember of their incidents.

    Incidents that are open, and those about which something still waits, are kept as a whole.
    """
    table, box, memories = schema.transitions, schema.outbox, schema.memories
    with store.writing() as connection:
        waiting = select(box.c.incident).where(box.c.pipeline == store.pipeline, box.c.state == QUEUED)
        old = and_(table.c.pipeline == store.pipeline, table.c.at_us < micros(before), table.c.incident.not_in(waiting))
        found = connection.execute(select(table.c.incident).where(old).distinct()).scalars().all()
        last = {incident: _newest(connection, store, incident) for incident in found}
        still_open = [incident for incident, alert in last.items() if alert and alert.state is State.FIRING]
        old = and_(old, table.c.incident.not_in(still_open))
        gone = select(table.c.id).where(old)
        connection.execute(box.delete().where(box.c.transition_id.in_(gone)))
        connection.execute(table.delete().where(old))
        kept = select(table.c.incident).where(table.c.pipeline == store.pipeline)
        connection.execute(
            memories.delete().where(memories.c.pipeline == store.pipeline, memories.c.incident.not_in(kept))
        )


class Remembered(MutableMapping[str, str]):
    """What a channel remembers of one incident; each assignment is in the state before it returns."""

    def __init__(self, store: Store, channel: str, incident: str) -> None:
        self._store, table = store, schema.memories
        self._key: dict[str, Any] = {"pipeline": store.pipeline, "channel": channel, "incident": incident}
        self._here = and_(*(table.c[name] == value for name, value in self._key.items()))
        with store.reading() as connection:
            rows = connection.execute(select(table.c.name, table.c.value).where(self._here)).all()
        self._values: dict[str, str] = {row.name: row.value for row in rows}

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __setitem__(self, name: str, value: str) -> None:
        table = schema.memories
        with self._store.writing() as connection:
            connection.execute(table.delete().where(self._here, table.c.name == name))
            connection.execute(table.insert().values(**self._key, name=name, value=value))
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        table = schema.memories
        with self._store.writing() as connection:
            connection.execute(table.delete().where(self._here, table.c.name == name))
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
