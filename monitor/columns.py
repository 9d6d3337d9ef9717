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
# How sure a guess is, and in which order.
SURE, LIKELY, GUESS = "sure", "likely", "a guess"
SURENESS = (SURE, LIKELY, GUESS)


def split(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


def words(name: str) -> list[str]:
    """Return the words of a name, as they are set off by signs or by capitals."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z]+", apart.lower())


WORDS: Mapping[Role, frozenset[str]] = {
    Role.USER: split(
        "user usr person customer cust member visitor account acct buyer reader viewer listener subscriber shopper"
        " player patient consumer reviewer profile uid"
    ),
    Role.ITEM: split(
        "item product content article movie film track song video sku asin isbn upc ean gtin book listing post document"
        " doc iid"
        " offer ad creative news show episode recipe course game hotel restaurant business venue poi job anime"
    ),
    Role.EVENT_ID: split(
        "event evt interaction impression imp message request record transaction log click view insert playback"
        " pageview hit review"
    ),
    Role.EVENT_TYPE: split("event evt action act interaction behavior behaviour activity verb"),
    Role.EVENT_TIME: split(
        "timestamp tstamp time ts datetime dttm occurred event evt when epoch date bucket minute unix unixtime"
    ),
    Role.INGESTED_AT: split(
        "ingested ingestion ingest received loaded load arrived inserted landed processed stored etl collector"
    ),
    Role.VALUE: split("value rating overall price weight amount quantity qty stars revenue"),
    Role.SOURCE: split("source producer platform client app channel origin sdk"),
    Role.COHORT: split("cohort variant experiment treatment arm ab abtest holdout"),
    Role.VALID_FROM: split(
        "created added published released registered registration from since signup joined launched"
    ),
    Role.VALID_TO: split("retired ended deleted expired expires removed until discontinued archived deactivated to"),
}
# Words that mean a user or an item before the word of a key only, and where no better name is there.
KEYED: Mapping[Role, frozenset[str]] = {
    Role.USER: split(
        "client anonymous distinct household cookie device email fan guest learner student rider passenger login"
    ),
    Role.ITEM: split(
        "prod goods asset clip title media story playlist photo question pin place property room dish deal coupon"
        " vacancy program programme podcast series stock style variant artist album app object entity target"
    ),
}
# Short names that most often mean an item.
SHORT_ITEMS = split("pid aid vid mid")
# Words that are ids by themselves.
WHOLE_KEYS = split("uid iid sku asin isbn upc ean gtin")
BARE_KEYS = split("id key uuid guid uid hash")
KEY_WORDS = BARE_KEYS | WHOLE_KEYS | SHORT_ITEMS | split("no nr rid sid tid cid gid")
# Words of a key after that of a user or an item; elsewhere they count something, or tell a kind.
NUMBER_WORDS = split("number num code ref")
_ENTITIES = frozenset().union(WORDS[Role.USER], WORDS[Role.ITEM], *KEYED.values())
# Words that end like an id and are none.
_NO_IDS = split("paid unpaid prepaid bid valid invalid grid void android hybrid covid solid fluid liquid rapid squid")
# Times that say when something was changed, or that have nothing to do with events.
OTHER_TIMES = split("updated modified changed last birth birthday birthdate dob end")
# Those of a client or of an event before, beside the event's own.
BESIDE_TIMES = OTHER_TIMES | split("original previous prev first next sent upload uploaded touch")
# What cuts a table into days or hours: each window has other values, whatever happens.
CALENDAR = split("year month week day hour date dt ds hr hh yyyy mm dd ymd yyyymmdd quarter weekday dow")
_KNOWN = frozenset().union(*WORDS.values(), KEY_WORDS, NUMBER_WORDS, split("type at name"))


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
        """The words of the name: of personId, person and id; of userid and id_user, user and id."""
        found: list[str] = []
        for word in words(self.name):
            found += _halves(word)
        # Some write id_user.
        return (*found[1:], "id") if found[:1] == ["id"] else tuple(found)

    @property
    def is_key(self) -> bool:
        """Whether the name is that of an id."""
        *before, last = self.words or ("",)
        if last in NUMBER_WORDS:
            # A number called num counts: item_num is as often how many there are.
            is_count = last == "num" and self.type.kind is not Kind.TEXT
            return bool(before) and before[-1] in _ENTITIES and not is_count
        return last in KEY_WORDS

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
    """Return a word, or the two words that it is made of: known ones, or any and id."""
    if word in _KNOWN:
        return (word,)
    for at in range(2, len(word) - 1):
        if word[:at] in _KNOWN and word[at:] in _KNOWN:
            return word[:at], word[at:]
    if word.endswith("id") and len(word) > len("uid") and word not in _NO_IDS:
        return word.removesuffix("id"), "id"
    return (word,)
