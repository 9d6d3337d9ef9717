"""What a look at a column tells: the words of its name, and whether its content is a time or a key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from checks.dataset import ColumnType, Kind, Role

# Share of the values that must look like a time; the rest may be corrupt.
LEAST_TIMES = 0.95
# 1990 to 2100 in each unit; no two of these ranges touch.
TIME_RANGES = {unit: (631_152_000 * one, 4_102_444_800 * one) for unit, one in (("s", 1), ("ms", 10**3), ("us", 10**6))}
TEXT_TIME = "text"


def split(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


WORDS: Mapping[Role, frozenset[str]] = {
    Role.USER: split(
        "user person customer member visitor account buyer reader viewer listener subscriber shopper player patient"
        " reviewer profile uid"
    ),
    Role.ITEM: split(
        "item product content article movie film track song video sku asin isbn book listing post document doc iid"
        " offer ad creative news show episode recipe course game hotel restaurant business venue poi job anime"
    ),
    Role.EVENT_ID: split("event interaction impression message request record transaction log click view"),
    Role.EVENT_TYPE: split("event action interaction behavior behaviour activity verb"),
    Role.EVENT_TIME: split("timestamp time ts datetime occurred event when epoch date bucket minute unix unixtime"),
    Role.INGESTED_AT: split("ingested ingestion ingest received loaded load arrived inserted landed processed stored"),
    Role.VALUE: split("value rating price weight amount quantity qty stars revenue"),
    Role.SOURCE: split("source producer platform client app channel origin sdk"),
    Role.VALID_FROM: split(
        "created added published released registered registration from since signup joined launched"
    ),
    Role.VALID_TO: split("retired ended deleted expired expires removed until discontinued archived deactivated to"),
}
KEY_WORDS = split("id key uuid guid uid iid sku asin isbn hash")
# Words that are ids by themselves.
WHOLE_KEYS = split("uid iid sku asin isbn")
# Times that say when something was changed, or that have nothing to do with events.
OTHER_TIMES = split("updated modified changed last birth birthday birthdate dob end")
# What cuts a table into days or hours: each window has other values, whatever happens.
CALENDAR = split("year month week day hour date dt ds hr hh yyyy mm dd ymd yyyymmdd quarter weekday dow")
_KNOWN = frozenset().union(*WORDS.values(), KEY_WORDS, split("type at name"))


@dataclass(frozen=True)
class Seen:
    """What is known of a column, from a sample of rows.

    Args:
        name: Its name.
        type: Its type in the engine.
        filled: Rows of the sample with a value.
        distinct: Different values among them.
        times: How many values can be a time, by unit: s, ms, us, or text for ISO 8601.
    """

    name: str
    type: ColumnType
    filled: int
    distinct: int
    times: Mapping[str, int] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the name: of personId, person and id; of userid, user and id."""
        apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", self.name)
        found: list[str] = []
        for word in re.findall(r"[a-z]+", apart.lower()):
            found += _halves(word)
        return tuple(found)

    @property
    def is_key(self) -> bool:
        """Whether the name is that of an id."""
        return bool(self.words) and self.words[-1] in KEY_WORDS

    @property
    def is_calendar(self) -> bool:
        """Whether the name is that of a date or a part of one, and of nothing else: dt, hour, event_date."""
        return self.has(CALENDAR) and set(self.words) <= CALENDAR | {"event", "partition"}

    @property
    def unique_ratio(self) -> float:
        """Different values over values."""
        return self.distinct / self.filled if self.filled else 0.0

    @property
    def time_unit(self) -> str | None:
        """How a column without a time type may spell one: s, ms, us or text; None if it can't."""
        if self.type.kind in (Kind.TIMESTAMP, Kind.DATE) or self.is_key or not self.filled:
            return None
        fitting = [unit for unit, times in self.times.items() if times >= LEAST_TIMES * self.filled]
        return fitting[0] if fitting else None

    @property
    def is_time(self) -> bool:
        """Whether the type or the content is a time."""
        return self.type.kind in (Kind.TIMESTAMP, Kind.DATE) or self.time_unit is not None

    @property
    def time_said(self) -> str:
        """In what form the column holds a time."""
        if self.time_unit is None:
            return f"the type {self.type.declared}"
        return "ISO 8601 text" if self.time_unit == TEXT_TIME else f"numbers in the range of Unix {self.time_unit}"

    def has(self, words: frozenset[str]) -> bool:
        """Return whether the name has any of these words."""
        return bool(words & set(self.words))


def _halves(word: str) -> Sequence[str]:
    """Return a word, or the two known words that it is made of."""
    if word in _KNOWN:
        return (word,)
    for at in range(2, len(word) - 1):
        if word[:at] in _KNOWN and word[at:] in _KNOWN:
            return word[:at], word[at:]
    return (word,)
