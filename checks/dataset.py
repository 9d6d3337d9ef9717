"""Datasets: a table or a set of files, and the roles that its columns play.

A dataset knows names and types only. Which rows of it are looked at is said by
:class:`checks.rows.Rows`; how the engine reaches it is known to ``monitor`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import StrEnum

from sqlalchemy import Column, FromClause, TableClause, table
from sqlalchemy.types import NullType


class Role(StrEnum):
    """What a column means to a recommender."""

    EVENT_ID = "event_id"
    USER = "user"
    ITEM = "item"
    EVENT_TYPE = "event_type"
    EVENT_TIME = "event_time"
    INGESTED_AT = "ingested_at"
    VALUE = "value"
    SOURCE = "source"
    COHORT = "cohort"
    VALID_FROM = "valid_from"
    VALID_TO = "valid_to"


class Kind(StrEnum):
    """The family of a column's type, as far as the checks care."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    DATE = "date"
    OTHER = "other"

    @property
    def is_numeric(self) -> bool:
        """Whether values of this kind can be added up."""
        return self in (Kind.INTEGER, Kind.NUMBER)


class TimeUnit(StrEnum):
    """How a time column is written when its type does not say so itself."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NATIVE = "native"
    TEXT = "text"

    @property
    def micros(self) -> int:
        """Microseconds in one unit of a numeric time column."""
        return {"s": 1_000_000, "ms": 1_000, "us": 1}[self.value]


@dataclass(frozen=True)
class ColumnType:
    """A column's family, and its type in the engine's own words (for the event contract)."""

    kind: Kind
    declared: str


# A dataset may point to others. Each link is optional; a check that needs one says so.
# The share of letters that two names have in common, in order, from which on one was probably meant for the other.
ALIKE = 0.8
LINKS = ("users", "items", "user_vocabulary", "item_vocabulary", "sent", "rejected")


# Compared by identity: the resolver builds each dataset once, and scans are shared by it.
@dataclass(frozen=True, eq=False)
class Dataset:
    """A table, view or set of files with named roles.

    Args:
        name: Its name in the configuration.
        table: What SQL selects from.
        columns: Every column with its type, in the order of the engine.
        roles: Which column plays which role; a column may play several.
        time_units: For each time role, how the column is written.
        features: Columns whose distribution is watched for drift.
        links: Other datasets by what they are to this one (see ``LINKS``).
        sources: The producers told apart; every other is counted as ``other``.
        lost: Roles whose column the configuration names but the data no longer has.
        unread: Links whose dataset is not there or cannot be read, with the reason.
    """

    name: str
    table: FromClause
    columns: Mapping[str, ColumnType]
    roles: Mapping[Role, str] = field(default_factory=dict)
    time_units: Mapping[Role, TimeUnit] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    links: Mapping[str, Dataset] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    lost: Mapping[Role, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    def linked(self, link: str) -> Dataset | None:
        """Return the dataset that a link points to, or None where there is no such link.

        Raises:
            ValueError: It cannot be read. Only what needs it stops at that.
        """
        if link in self.unread:
            raise ValueError(f"{link}: {self.unread[link]}")
        return self.links.get(link)

    def no_column(self, name: str, what: str = "") -> str:
        """Return that the data has no column of a name, and which one may have been meant.

        Args:
            name: The column.
            what: What it is to be, for the text.
        """
        close = closest(name, self.columns)
        outer = name.partition(".")[0]
        hint = f"; did you mean {close}?" if close else ""
        if outer != name and outer in self.columns:
            hint = f"; a field within {outer} is no column, name it in a view"
        return f"column {name}{f' ({what})' if what else ''} is not in the data{hint}"

    def kind(self, role: Role) -> Kind:
        """Return the type family of the column that plays a role."""
        return self.columns[self.roles[role]].kind

    @property
    def clock(self) -> Role | None:
        """The role by which rows belong to a window: ingestion time, else event time."""
        for role in (Role.INGESTED_AT, Role.EVENT_TIME):
            if role in self.roles:
                return role
        return None


def dataset_table(name: str, columns: Mapping[str, ColumnType], schema: str | None = None) -> TableClause:
    """Return the selectable of a table by this name, with its columns quoted where needed."""
    return table(name, *(Column(column, NullType()) for column in columns), schema=schema)


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of some names that was probably meant, or None if none is close enough, or several are as close.

    Close are names that share most of their letters in order, or all in another one, one that has all the words of the
    other, and one that begins with the other, of four letters or more.

    Examples:
        >>> closest("freshnes", ["freshness", "density"]), closest("max_age_seconds", ["max_age", "min_rows"])
        ('freshness', 'max_age')
        >>> closest("page-fast", ["page-slow", "tickets"]), closest("pattern", ["user_pattern", "item_pattern"])
        (None, None)
    """
    near = [(apart, other) for other in known if (apart := _apart(name.casefold(), other.casefold())) is not None]
    best = [other for apart, other in near if apart == min(near)[0]]
    return best[0] if len(best) == 1 else None


def _apart(name: str, other: str) -> float | None:
    """Return how far apart two names are; None if they are not close."""
    alike = 1.0 if sorted(name) == sorted(other) else SequenceMatcher(None, name, other).ratio()
    short, long = sorted((name, other), key=len)
    words, more = (set(re.split(r"[\W_]+", text)) for text in (short, long))
    has_words = words < more and "" not in words
    return 1 - alike if alike >= ALIKE or has_words or (len(short) >= 4 and long.startswith(short)) else None
