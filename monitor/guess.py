"""Guesses what datasets and their columns mean, from names, types and content. Pure: it sees statistics only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from checks.dataset import Kind, Role
from monitor.clicks import Clicks, says_clicked
from monitor.columns import (
    BARE_KEYS,
    BESIDE_TIMES,
    GUESS,
    KEY_WORDS,
    KEYED,
    LIKELY,
    NUMBER_WORDS,
    OTHER_TIMES,
    SHORT_ITEMS,
    SURE,
    SURENESS,
    WHOLE_KEYS,
    WORDS,
    Seen,
    split,
)

if TYPE_CHECKING:
    from monitor.engine import Location
from monitor.rhythm import Rhythm

MOST_FEATURES = 20
MOST_OTHERS = 3
# From this share of different values on, a column can be the key of its table.
LEAST_UNIQUE = 0.95
MOST_VALUES = 50
# Beside a column that is fuller by more than this, one with the better name is not taken.
LEAST_FILLED = 0.8
MUCH_EMPTY = 0.1

_TABLES = {Role.USER: "users", Role.ITEM: "items"}
# Words between an entity and its id that make it the id of something else: item_category_id.
_ELSE = split(
    "category type group session agent brand class region country segment device parent order event feature location"
    " store address set list page version manager"
)
_THEIRS = split("parent related owner creator author seller host previous")
_DAYS = split("dt ds ymd yyyymmdd")
_PLAIN_ITEMS = split("item product content article movie")
# What tells people apart, or is text of their own making: nothing whose distribution means anything.
_NO_FEATURES = split("ip ipaddress fingerprint cookie email phone msisdn url uri href session token login username ifa")
_DATASET_WORDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("rejected", split("reject rejected dlq deadletter dead quarantine quarantined invalid malformed failed")),
    ("sent", split("sent send produced emitted gateway outbox")),
    ("vocabulary", split("vocabulary vocab embedding factor vector")),
    (
        "events",
        split(
            "event interaction click impression view rating order purchase play log transaction action activity history"
            " watch listen feedback behavior behaviour stream session clickstream visit exposure review sale hit"
        ),
    ),
    ("items", WORDS[Role.ITEM] | split("catalog catalogue inventory")),
    ("users", WORDS[Role.USER] | split("people")),
)


@dataclass(frozen=True)
class Guessed:
    """A role, the column that may play it, how sure that is, and why."""

    role: Role
    column: Seen
    sure: str
    why: str


@dataclass(frozen=True)
class Linked:
    """A dataset that events may point to, how sure that is, and why; not taken where it is unlikely."""

    target: str
    sure: str
    why: str
    is_taken: bool = True


@dataclass
class Found:
    """A dataset that was looked at, and what is guessed of it."""

    location: Location
    rows: int
    columns: Sequence[Seen]
    kind: str = "other"
    sure: str = GUESS
    why: str = ""
    roles: dict[Role, Guessed] = field(default_factory=dict)
    others: dict[Role, list[Guessed]] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    features_left_out: tuple[str, ...] = ()
    links: dict[str, list[Linked]] = field(default_factory=dict)
    placeholders_kept: tuple[str, ...] = ()
    rhythm: Rhythm | None = None
    clicks: Clicks | None = None
    # Share of the events that may be copies of others, or not: their times are days, and they have no ids.
    alike_ratio: float = 0.0

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.location.name

    @property
    def taken(self) -> dict[str, Linked]:
        """The links that are taken."""
        return {link: found[0] for link, found in self.links.items() if found and found[0].is_taken}


Rule = Callable[[Role, Seen, str], Guessed | None]


def guess(found: Found) -> None:
    """Say what a dataset is, and fill in its roles and features."""
    found.kind, found.sure, found.why = _kind(found)
    _guess_roles(found)
    if found.kind == "events":
        _guess_features(found)
        found.others[Role.COHORT] = _cohorts(found.columns)[:MOST_OTHERS]


def _kind(found: Found) -> tuple[str, str, str]:
    named = _named(found.name)
    entities = {role: best for role in _TABLES if (best := _best(role, _entity, found.columns, named))}
    times = [column.name for column in found.columns if column.is_time]
    # A name that may mean anything else tells nothing of the dataset.
    said = {role: best for role, best in entities.items() if not _may_mean(role, best.column)}
    keys = {role: best for role, best in said.items() if best.column.unique_ratio >= LEAST_UNIQUE}
    if named in ("rejected", "sent") and times:
        return named, LIKELY, "its name, and it has times"
    if named == "vocabulary" and entities:
        role = next(iter(keys or entities))
        return f"{role}_vocabulary", GUESS, f"its name, and it has {role} ids"
    for role, table in _TABLES.items():
        if named == table and role in entities and (role in keys or len(entities) == 1):
            if role in keys:
                return table, SURE, f"its name, and {entities[role].column.name} is different in nearly every row"
            return table, LIKELY, f"its name, and it has {role} ids"
    if times and said and (len(entities) == 2 or named == "events" or not keys):
        sure = SURE if len(entities) == 2 else LIKELY
        return "events", sure, f"it has {'s, '.join(entities)}s and times"
    if times and named == "events":
        return "events", GUESS, "its name, and it has times"
    if len(keys) == 1 and len(entities) == 1:
        role = next(iter(keys))
        return _TABLES[role], GUESS, f"{keys[role].column.name} is different in nearly every row"
    lacks = [what for what, is_there in (("user or item ids", entities), ("times", times)) if not is_there]
    said_of = "" if times else _unread_time(found.columns)
    return "other", GUESS, f"no {' and no '.join(lacks)} found{said_of}" if lacks else "it fits nothing"


def _unread_time(columns: Sequence[Seen]) -> str:
    """Return what to say of a column that is called a time, but cannot be read as one."""
    called = (column for column in columns if column.filled and not column.is_key and column.words)
    times = _DAYS | WORDS[Role.EVENT_TIME] - WORDS[Role.EVENT_TYPE]
    named = next((column for column in called if column.has(times) and column.distinct > 1), None)
    if named is None:
        return ""
    read = "neither ISO 8601 text nor Unix s, ms or us" if named.type.kind is Kind.TEXT else "not Unix s, ms or us"
    return f": {named.name} is {named.type.declared}, {read}; a view can make it one, see monitor/guides/engines.md"


def _named(name: str) -> str:
    """Return what a dataset is by its name, or an empty text."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    words |= {word.removesuffix("s") for word in words} | {re.sub("ies$", "y", word) for word in words}
    return next((kind for kind, own in _DATASET_WORDS if words & own), "")


def _guess_roles(found: Found) -> None:
    """Fill in the roles of a dataset; a column plays one role only."""
    taken: set[str] = set()
    for role in _ROLES.get(found.kind, _ROLES["events"]):
        # What stands in ${...} is filled in from the environment when the configuration is read.
        left = [column for column in found.columns if column.name not in taken and "${" not in column.name]
        if role is Role.EVENT_ID:
            # What some rows have only is the id of something that happens to them, such as a purchase.
            left = [column for column in left if column.filled >= LEAST_FILLED * found.rows]
        ranked = _ranked(role, _RULES[role], left, found.kind)
        if role not in (Role.VALID_FROM, Role.VALID_TO, Role.VALUE):
            ranked = [_how_full(made, found.rows) for made in ranked]
        if ranked:
            found.roles[role] = ranked[0]
            found.others[role] = ranked[1 : 1 + MOST_OTHERS]
            taken.add(ranked[0].column.name)
        elif role is Role.USER:
            why = "a session is no user; where visitors have no other id, take it"
            sessions = [column for column in left if column.words in (("session",), ("session", "id"))]
            found.others[role] = [Guessed(role, column, GUESS, why) for column in sessions]


def _ranked(role: Role, rule: Rule, columns: Sequence[Seen], kind: str) -> list[Guessed]:
    guesses = [made for column in columns if (made := rule(role, column, kind)) is not None]
    # The ids of somebody else are no better for being there always.
    most = max((made.column.filled for made in guesses if not made.column.has(_THEIRS)), default=0)

    def rank(made: Guessed) -> tuple[bool, int, int]:
        others = set(made.column.words) - WORDS[role] - KEY_WORDS
        return made.column.filled < LEAST_FILLED * most, SURENESS.index(made.sure), len(others)

    return sorted(guesses, key=rank)


def _how_full(made: Guessed, rows: int) -> Guessed:
    """Say of how many rows a column tells nothing, where these are many."""
    empty = 1 - made.column.filled / max(1, rows)
    return replace(made, why=f"{made.why}; empty in {100 * empty:.2g} % of the rows") if empty >= MUCH_EMPTY else made


def _best(role: Role, rule: Rule, columns: Sequence[Seen], kind: str) -> Guessed | None:
    return next(iter(_ranked(role, rule, columns, kind)), None)


def _entity(role: Role, column: Seen, kind: str) -> Guessed | None:
    other = Role.ITEM if role is Role.USER else Role.USER
    words, ours = column.words, WORDS[role]
    is_id = column.type.kind in (Kind.INTEGER, Kind.NUMBER, Kind.TEXT)
    if not words or not is_id or not column.filled or column.has(WORDS[other]) or column.is_time:
        return None
    if words in (("id",), ("uuid",), ("key",)):
        is_own = kind in (_TABLES[role], f"{role}_vocabulary") and column.unique_ratio >= LEAST_UNIQUE
        return Guessed(role, column, LIKELY, f"the key of a table of {_TABLES[role]}") if is_own else None
    if words == ("uid",) and kind == "events" and column.unique_ratio >= LEAST_UNIQUE:
        # The unique id of a row, no user's.
        return None
    if len(words) == 1 and words[0] in ours:
        if words[0] in WHOLE_KEYS:
            return Guessed(role, column, SURE, "its name says so")
        is_plain = role is Role.USER or words[0] in _PLAIN_ITEMS
        return Guessed(role, column, LIKELY if is_plain else GUESS, "its name is the word for it")
    if _may_mean(role, column):
        return Guessed(role, column, GUESS, f"its name may mean {'a user' if role is Role.USER else 'an item'}")
    if not column.is_key or len(words) == 1 or column.has(_ELSE):
        return None
    if len(words) == 2 and words[0] in ours:
        return Guessed(role, column, LIKELY if words[1] in NUMBER_WORDS else SURE, "its name says so")
    if words[0] in ours or words[-2] in ours:
        return Guessed(role, column, GUESS if column.has(_THEIRS) else LIKELY, "its name has the word for it")
    return None


def _may_mean(role: Role, column: Seen) -> bool:
    """Return whether a name means a user or an item, unless it means something else; of few values it does."""
    if role is Role.ITEM and len(column.words) == 1 and column.words[0] in SHORT_ITEMS:
        return True
    is_keyed = len(column.words) == 2 and column.words[0] in KEYED[role] and column.is_key
    return is_keyed and column.distinct > min(MOST_VALUES, column.filled // 20)


def _event_id(role: Role, column: Seen, kind: str) -> Guessed | None:
    is_bare = all(word in BARE_KEYS for word in column.words)
    others = (WORDS[Role.USER] | WORDS[Role.ITEM]) - BARE_KEYS | split("session")
    if not column.is_key or column.has(others):
        return None
    if not (is_bare or column.has(WORDS[role])) or column.unique_ratio < 0.9:
        return None
    said = f"its name, and {100 * column.unique_ratio:.4g} % of the values are different"
    is_plain = set(column.words) <= KEY_WORDS | {"event"} and "event" in column.words
    return Guessed(role, column, SURE if is_plain else LIKELY, said)


def _event_type(role: Role, column: Seen, kind: str) -> Guessed | None:
    if says_clicked(column):
        return Guessed(role, column, LIKELY, "its name, and it has 2 values")
    is_closed = column.type.kind in (Kind.TEXT, Kind.INTEGER) and 1 <= column.distinct <= MOST_VALUES
    rest = set(column.words) - WORDS[role] - {"type", "name", "kind"}
    if not is_closed or rest or not column.has(WORDS[role] | {"type", "kind"}):
        return None
    said = f"its name, and it has {_counted(column.distinct)}"
    if column.type.kind is Kind.INTEGER:
        return Guessed(role, column, GUESS, said) if {"type", "kind"} & set(column.words) else None
    # One value alone tells nothing: a column that says what was clicked is worth more.
    is_plain = column.has(WORDS[role]) and column.distinct > 1
    return Guessed(role, column, SURE if is_plain else GUESS, said)


def _event_time(role: Role, column: Seen, kind: str) -> Guessed | None:
    if not column.is_time or column.has(WORDS[Role.INGESTED_AT] | WORDS[Role.VALID_TO]):
        return None
    is_day = column.type.kind is Kind.DATE
    if column.has(BESIDE_TIMES):
        return Guessed(role, column, GUESS, f"{column.time_said}, though its name says something else")
    if column.has(WORDS[Role.VALID_FROM]):
        return Guessed(role, column, GUESS if is_day else LIKELY, f"{column.time_said}, and no better name")
    if column.has(WORDS[role]):
        said = f"its name, and {column.time_said}"
        return Guessed(role, column, LIKELY if is_day else SURE, f"{said}: days only" if is_day else said)
    is_number = column.type.kind.is_numeric
    return Guessed(role, column, GUESS if is_number or is_day else LIKELY, column.time_said)


def _ingested_at(role: Role, column: Seen, kind: str) -> Guessed | None:
    if not column.is_time or not column.has(WORDS[role]):
        return None
    return Guessed(role, column, SURE, f"its name, and {column.time_said}")


def _validity(role: Role, column: Seen, kind: str) -> Guessed | None:
    if not column.is_time or not column.has(WORDS[role]) or column.has(OTHER_TIMES - {"end"}):
        return None
    return Guessed(role, column, LIKELY, f"its name, and {column.time_said}")


def _value(role: Role, column: Seen, kind: str) -> Guessed | None:
    words = WORDS[role] | split("sent count events n") if kind == "sent" else WORDS[role]
    if not column.type.kind.is_numeric or column.is_key or column.is_time or not column.has(words):
        return None
    return Guessed(role, column, LIKELY if len(column.words) == 1 else GUESS, "its name, and it is a number")


def _source(role: Role, column: Seen, kind: str) -> Guessed | None:
    if column.type.kind is not Kind.TEXT or not 1 <= column.distinct <= MOST_VALUES or not column.words:
        return None
    if column.words[-1] not in WORDS[role] and not (column.words[0] in WORDS[role] and column.words[-1] == "name"):
        return None
    is_plain = column.words in (("source",), ("producer",), ("platform",), ("event", "source"))
    sure = SURE if is_plain else LIKELY if column.words[0] in WORDS[role] else GUESS
    return Guessed(role, column, sure, f"its name, and it has {_counted(column.distinct)}")


def _counted(values: int) -> str:
    return "1 value" if values == 1 else f"{values} values"


_RULES: Mapping[Role, Rule] = {
    Role.INGESTED_AT: _ingested_at,
    Role.EVENT_TIME: _event_time,
    Role.VALID_FROM: _validity,
    Role.VALID_TO: _validity,
    Role.USER: _entity,
    Role.ITEM: _entity,
    Role.EVENT_ID: _event_id,
    Role.EVENT_TYPE: _event_type,
    Role.SOURCE: _source,
    Role.VALUE: _value,
}
_STAGE = (Role.INGESTED_AT, Role.EVENT_TIME, Role.EVENT_ID, Role.SOURCE)
# Which roles make sense for what a dataset is, in the order in which columns are given to them.
_ROLES: Mapping[str, tuple[Role, ...]] = {
    "events": (
        Role.INGESTED_AT,
        Role.EVENT_TIME,
        Role.USER,
        Role.ITEM,
        Role.EVENT_ID,
        Role.EVENT_TYPE,
        Role.SOURCE,
        Role.VALUE,
    ),
    "items": (Role.ITEM, Role.VALID_FROM, Role.VALID_TO),
    "users": (Role.USER, Role.VALID_FROM, Role.VALID_TO),
    "item_vocabulary": (Role.ITEM,),
    "user_vocabulary": (Role.USER,),
    "sent": (*_STAGE, Role.VALUE),
    "rejected": _STAGE,
}


def _guess_features(found: Found) -> None:
    """Choose the columns of events whose distribution is worth watching."""
    used = {made.column.name for role, made in found.roles.items() if role is not Role.VALUE}
    fitting = [column.name for column in found.columns if column.name not in used and _is_feature(column)]
    found.features, found.features_left_out = tuple(fitting[:MOST_FEATURES]), tuple(fitting[MOST_FEATURES:])


def _cohorts(columns: Sequence[Seen]) -> list[Guessed]:
    """Return what may tell the users of an experiment apart: shown, not taken, since values are to be chosen too."""
    why = "with it, exposed and control set, cohorts are compared; see monitor/guides/models.md"
    fitting = [column for column in columns if not column.is_key and 2 <= column.distinct <= MOST_VALUES]
    return [Guessed(Role.COHORT, column, GUESS, why) for column in fitting if column.has(WORDS[Role.COHORT])]


def _is_feature(column: Seen) -> bool:
    if column.is_key or column.is_time or column.is_calendar or column.distinct < 2 or "${" in column.name:
        return False
    if column.has(_NO_FEATURES) or (column.type.kind is Kind.TEXT and _is_name_or_time(column)):
        return False
    if column.type.kind.is_numeric:
        is_numbered = column.type.kind is Kind.INTEGER and column.distinct > 1_000
        return not (is_numbered and column.unique_ratio >= LEAST_UNIQUE)
    is_closed = column.distinct <= max(20, min(5_000, 0.2 * column.filled)) and column.unique_ratio <= 0.5
    return column.type.kind in (Kind.TEXT, Kind.BOOLEAN) and is_closed


def _is_name_or_time(column: Seen) -> bool:
    """Return whether a text is what a user or an item is called, or a time that cannot be read."""
    is_name = column.words[-1:] == ("name",) and column.has(WORDS[Role.USER] | WORDS[Role.ITEM] | KEYED[Role.ITEM])
    return is_name or column.words[-1:] in (("time",), ("timestamp",), ("datetime",), ("date",))
