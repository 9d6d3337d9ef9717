"""Guesses what columns mean, from their names, types and content. Pure: it sees statistics only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from checks.dataset import ColumnType, Kind, Role

MOST_FEATURES = 20
SURE, LIKELY, GUESS = "sure", "likely", "a guess"
# 1990 to 2100 in seconds, and the same in milliseconds and microseconds.
_EPOCH = (631_152_000, 4_102_444_800)
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS: Mapping[Role, frozenset[str]] = {
    Role.USER: _words("user person customer member visitor account buyer reader viewer listener uid subscriber"),
    Role.ITEM: _words("item product content article movie film track song video sku asin book listing post doc iid"),
    Role.EVENT_ID: _words("event interaction impression message request record transaction log uuid"),
    Role.EVENT_TYPE: _words("event action interaction type kind verb"),
    Role.EVENT_TIME: _words("timestamp time ts date datetime occurred at event when bucket minute start"),
    Role.INGESTED_AT: _words("ingested ingest received loaded arrived inserted landed processed stored"),
    Role.VALUE: _words("value rating price weight amount quantity stars revenue sent count events"),
    Role.SOURCE: _words("source platform channel app producer origin client"),
    Role.VALID_FROM: _words("created added published released registered from since signup"),
    Role.VALID_TO: _words("retired ended deleted expired removed until"),
}
_ID_ENDS = _words("id key uid iid sku asin uuid")


@dataclass(frozen=True)
class Seen:
    """What is known of a column, from a sample of rows.

    Args:
        name: Its name.
        type: Its type in the engine.
        filled: Rows of the sample with a value.
        distinct: Different values among them.
        low: Least value of a numeric column.
        high: Greatest value of a numeric column.
    """

    name: str
    type: ColumnType
    filled: int
    distinct: int
    low: float | None = None
    high: float | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the name: of personId, person and id."""
        apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", self.name)
        return tuple(re.findall(r"[a-z]+", apart.lower()))

    @property
    def is_id(self) -> bool:
        """Whether the name is that of a key."""
        return bool(self.words) and self.words[-1] in _ID_ENDS

    @property
    def unique_ratio(self) -> float:
        """Different values over values."""
        return self.distinct / self.filled if self.filled else 0.0

    @property
    def time_unit(self) -> str | None:
        """Unit of a numeric column that can be a time: s, ms or us; None if it can't."""
        if not self.type.kind.is_numeric or self.low is None or self.high is None:
            return None
        for unit, factor in _UNITS.items():
            if _EPOCH[0] * factor <= self.low and self.high <= _EPOCH[1] * factor:
                return unit
        return None

    @property
    def is_time(self) -> bool:
        """Whether the type or the content is a time."""
        return self.type.kind in (Kind.TIMESTAMP, Kind.DATE) or self.time_unit is not None


@dataclass(frozen=True)
class Guessed:
    """A role, the column that may play it, how sure that is, and why."""

    role: Role
    column: Seen
    sure: str
    why: str


@dataclass
class Found:
    """A dataset that was looked at, and what is guessed of it."""

    name: str
    place: Mapping[str, str]
    rows: int
    columns: Sequence[Seen]
    kind: str = "other"
    roles: dict[Role, Guessed] = field(default_factory=dict)
    others: dict[Role, list[str]] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    features_left_out: int = 0
    links: dict[str, tuple[str, str]] = field(default_factory=dict)
    placeholders_kept: tuple[str, ...] = ()


def guess_roles(found: Found) -> None:
    """Fill in the roles of a dataset; a column plays one role only."""
    taken: set[str] = set()
    for role, rule in _RULES:
        ranked = sorted(
            (guess for column in found.columns if column.name not in taken and (guess := rule(role, column))),
            key=lambda guess: (SURE, LIKELY, GUESS).index(guess.sure),
        )
        if ranked:
            found.roles[role] = ranked[0]
            found.others[role] = [guess.column.name for guess in ranked[1:4]]
            taken.add(ranked[0].column.name)


def _named(role: Role, column: Seen) -> bool:
    return bool(_WORDS[role] & set(column.words))


def _entity(role: Role, column: Seen) -> Guessed | None:
    other = Role.ITEM if role is Role.USER else Role.USER
    if column.type.kind in (Kind.TIMESTAMP, Kind.DATE, Kind.BOOLEAN) or _WORDS[other] & set(column.words):
        return None
    first_is_ours = bool(column.words) and column.words[0] in _WORDS[role]
    if first_is_ours and column.is_id:
        return Guessed(role, column, SURE, "its name says so")
    if first_is_ours and len(column.words) == 1:
        return Guessed(role, column, LIKELY, "its name is the word for it")
    if _named(role, column) and column.is_id:
        return Guessed(role, column, GUESS, "its name has the word for it")
    return None


def _event_id(role: Role, column: Seen) -> Guessed | None:
    if not (_named(role, column) and column.is_id) or "session" in column.words or column.is_time:
        return None
    if column.unique_ratio < 0.9:
        return None
    said = f"its name, and {100 * column.unique_ratio:.0f} % of the values are different"
    return Guessed(role, column, SURE, said)


def _event_type(role: Role, column: Seen) -> Guessed | None:
    is_closed = column.type.kind is Kind.TEXT and 1 <= column.distinct <= 50
    if not is_closed or column.is_id or not _named(role, column):
        return None
    is_full = {"event", "type"} <= set(column.words) or column.words in (("action",), ("event",))
    return Guessed(role, column, SURE if is_full else GUESS, f"its name, and it has {column.distinct} values")


def _time(role: Role, column: Seen) -> Guessed | None:
    if not column.is_time:
        return None
    unit = f"numbers that are Unix {column.time_unit}" if column.time_unit else f"the type {column.type.declared}"
    late = _WORDS[Role.INGESTED_AT] & set(column.words)
    if role is Role.INGESTED_AT:
        return Guessed(role, column, SURE, f"its name, and {unit}") if late else None
    if late or (_WORDS[Role.VALID_FROM] | _WORDS[Role.VALID_TO]) & set(column.words):
        return None
    return Guessed(role, column, SURE if _named(role, column) else LIKELY, unit)


def _validity(role: Role, column: Seen) -> Guessed | None:
    if not column.is_time or not _named(role, column):
        return None
    return Guessed(role, column, LIKELY, "its name, and it is a time")


def _value(role: Role, column: Seen) -> Guessed | None:
    if not column.type.kind.is_numeric or column.is_id or column.is_time or not _named(role, column):
        return None
    return Guessed(role, column, LIKELY, "its name, and it is a number")


def _source(role: Role, column: Seen) -> Guessed | None:
    if column.type.kind is not Kind.TEXT or column.is_id or not _named(role, column) or not 1 <= column.distinct <= 50:
        return None
    if column.words[0] == "app" and "version" in column.words:
        return None
    return Guessed(role, column, LIKELY, f"its name, and it has {column.distinct} values")


_RULES: tuple[tuple[Role, Callable[[Role, Seen], Guessed | None]], ...] = (
    (Role.INGESTED_AT, _time),
    (Role.VALID_FROM, _validity),
    (Role.VALID_TO, _validity),
    (Role.EVENT_TIME, _time),
    (Role.USER, _entity),
    (Role.ITEM, _entity),
    (Role.EVENT_ID, _event_id),
    (Role.EVENT_TYPE, _event_type),
    (Role.SOURCE, _source),
    (Role.VALUE, _value),
)

_BY_NAME = (
    ("rejected", ("reject", "dead_letter", "deadletter", "dlq")),
    ("sent", ("sent", "sends", "produced", "gateway")),
    ("items", ("item", "product", "catalog", "movie", "article", "content", "track", "video")),
    ("users", ("user", "customer", "member", "account", "person")),
)


def guess_kinds(datasets: Sequence[Found]) -> None:
    """Say of each dataset what it is: events, items, users, sent, rejected or other."""
    for found in datasets:
        found.kind = _kind(found)
        # Roles that make no sense for what the dataset is are dropped.
        fitting = _FITTING.get(found.kind, set(Role) - {Role.VALID_FROM, Role.VALID_TO})
        found.roles = {role: guess for role, guess in found.roles.items() if role in fitting}


def _kind(found: Found) -> str:
    roles = set(found.roles)
    named = next((kind for kind, words in _BY_NAME if any(word in found.name for word in words)), None)
    is_timed = bool({Role.EVENT_TIME, Role.INGESTED_AT} & roles)
    if named in ("rejected", "sent") and is_timed:
        return named
    entities = {Role.USER, Role.ITEM} & roles
    if len(entities) == 1:
        role = entities.pop()
        table = "items" if role is Role.ITEM else "users"
        is_unique = found.roles[role].column.unique_ratio > 0.4
        if Role.EVENT_TIME not in roles and (named == table or is_unique):
            return table
    return "events" if is_timed and {Role.USER, Role.ITEM} & roles else "other"


_FITTING = {
    "items": {Role.ITEM, Role.VALID_FROM, Role.VALID_TO},
    "users": {Role.USER, Role.VALID_FROM, Role.VALID_TO},
    "sent": {Role.EVENT_TIME, Role.INGESTED_AT, Role.SOURCE, Role.VALUE, Role.EVENT_ID},
    "rejected": {Role.EVENT_TIME, Role.INGESTED_AT, Role.SOURCE, Role.EVENT_ID},
}


def guess_features(found: Found) -> None:
    """Choose the columns of events whose distribution is worth watching."""
    used = {guess.column.name for role, guess in found.roles.items() if role is not Role.VALUE}
    fitting = [column.name for column in found.columns if column.name not in used and _is_feature(column)]
    found.features = tuple(fitting[:MOST_FEATURES])
    found.features_left_out = len(fitting) - len(found.features)


def _is_feature(column: Seen) -> bool:
    if column.is_id or column.is_time or column.distinct < 2:
        return False
    if column.type.kind.is_numeric:
        return True
    is_closed = column.distinct <= 5_000 and column.unique_ratio <= 0.2
    return column.type.kind in (Kind.TEXT, Kind.BOOLEAN) and is_closed
