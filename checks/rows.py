"""The rows of one dataset in one window, as SQL expressions that checks build on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    Select,
    Subquery,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
)

from checks.dataset import Dataset, Kind, Role, TimeUnit
from checks.dialect import binary_order, epoch_micros, is_not_finite, match_key, number_text, parsed_time
from checks.window import Window, micros

NO_SOURCE = "(none)"
OTHER_SOURCE = "other"
ALL_SOURCES = "(all)"
EXPOSED, CONTROL = "exposed", "control"
# In characters: the name is part of keys of the state, and an index of PostgreSQL takes 2,704 bytes at most.
LONGEST_SOURCE = 300
# Names of ours: a producer that calls itself so is counted with ``other``, or nobody could tell the two apart.
GROUPS = (NO_SOURCE, OTHER_SOURCE, ALL_SOURCES)
FOREVER = 2**62
# Times beyond this number of microseconds, about the year 75,000, are corrupt; they are cut off at it, so that
# sums and differences of two still fit into 64 bits.
FARTHEST = 2**61
ID_ROLES = (Role.EVENT_ID, Role.USER, Role.ITEM)
# Ids that never leave as they are: those of people, and of what single ones did.
PRIVATE_ROLES = (Role.EVENT_ID, Role.USER)
# Types that an engine does not compare with text, and integers of which DuckDB's hash() takes -1 and 0 for the same.
_ODD_TYPES = {Kind.TEXT: ("UUID", "ENUM"), Kind.INTEGER: ("HUGEINT", "UHUGEINT")}


@dataclass(frozen=True)
class Catalogue:
    """A table of known ids, joined to the rows by one id; never more than one match a row."""

    name: str
    ids: Subquery
    condition: ColumnElement[bool]

    @property
    def is_absent(self) -> ColumnElement[bool]:
        """True for a row whose id is not in the table."""
        return self.ids.c.id.is_(None)


@dataclass(frozen=True)
class Rows:
    """The rows of ``dataset`` that belong to ``window``.

    Args:
        dataset: What is read.
        window: Which interval.
        clock: The role by which a row belongs to the window; by default the dataset's own.
        is_past: Whether the window is over for long: what is dated later is no news then.
        is_replayed: Whether it is judged as it was then, without what has come in since.
        seen_by: What was ingested from then on is left out; None for nothing.
    """

    dataset: Dataset
    window: Window
    clock: Role | None = None
    is_past: bool = False
    is_replayed: bool = False
    seen_by: datetime | None = None

    @property
    def clock_role(self) -> Role:
        """The role that decides which window a row belongs to."""
        role = self.clock or self.dataset.clock
        if role is None:
            raise ValueError(f"dataset {self.dataset.name} has no time role; add roles.event_time")
        return role

    def since(self, start: datetime) -> Rows:
        """Return the rows from an earlier start up to the same end."""
        return replace(self, window=Window(start, self.window.end))

    def column(self, role: Role) -> ColumnElement[Any]:
        """Return the column that plays a role; ids that are neither usual integers nor plain text as text.

        So 7.0, which is what becomes of 7 in a column with nulls, is the id ``7``, and a UUID can be
        compared with a text.
        """
        raw: ColumnElement[Any] = self.dataset.table.c[self.dataset.roles[role]]
        if role not in ID_ROLES or self._is_plain(role):
            return raw
        return number_text(raw) if self.dataset.kind(role) is Kind.NUMBER else cast(raw, Text)

    def kind(self, role: Role) -> Kind:
        """Return the type family of what ``column`` returns."""
        return self.dataset.kind(role) if role not in ID_ROLES or self._is_plain(role) else Kind.TEXT

    def _is_plain(self, role: Role) -> bool:
        found = self.dataset.columns[self.dataset.roles[role]]
        return found.kind in _ODD_TYPES and not found.declared.upper().startswith(_ODD_TYPES[found.kind])

    def micros(self, role: Role) -> ColumnElement[int]:
        """Return a time role as microseconds since the Unix epoch."""
        column, unit = self.column(role), self.dataset.time_units[role]
        if unit is TimeUnit.NATIVE:
            return epoch_micros(column)
        if unit is TimeUnit.TEXT:
            return epoch_micros(parsed_time(column))
        farthest = FARTHEST // unit.micros
        ends = (
            (column > farthest, literal(FARTHEST, BigInteger)),
            (column < -farthest, literal(-FARTHEST, BigInteger)),
        )
        if self.dataset.kind(role) is Kind.INTEGER:
            return case(*ends, else_=cast(column, BigInteger) * unit.micros)
        # Not round(): halves go to the even neighbour on one engine and up on another.
        nearest = cast(func.floor(cast(column, Double) * unit.micros + 0.5), BigInteger)
        return case((is_not_finite(column), null()), *ends, else_=nearest)

    def _bound(self, role: Role, bound: datetime) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """Return the raw column and the bound in the column's own terms, so that engines can prune."""
        column, unit, kind = self.column(role), self.dataset.time_units[role], self.dataset.kind(role)
        if unit is TimeUnit.NATIVE and kind is Kind.TIMESTAMP:
            zoned = "with time zone" in self.dataset.columns[self.dataset.roles[role]].declared.lower()
            value = bound if zoned else bound.astimezone(UTC).replace(tzinfo=None)
            return column, literal(value, DateTime(timezone=zoned))
        if unit is TimeUnit.NATIVE or unit is TimeUnit.TEXT:
            return self.micros(role), literal(micros(bound), BigInteger)
        if kind is not Kind.INTEGER:
            return column, literal(micros(bound) / unit.micros, Double)
        exact, rest = divmod(micros(bound), unit.micros)
        return column, literal(exact + 1 if rest else exact, BigInteger)

    def within(self, role: Role, start: datetime | None, end: datetime | None) -> ColumnElement[bool]:
        """Return the condition that a time role lies in ``[start, end)``; None leaves a side open."""
        conditions = []
        if start is not None:
            column, bound = self._bound(role, start)
            conditions.append(column >= bound)
        if end is not None:
            column, bound = self._bound(role, end)
            conditions.append(column < bound)
        return and_(*conditions)

    @property
    def belongs(self) -> ColumnElement[bool]:
        """True for a row of the window."""
        here = self.within(self.clock_role, self.window.start, self.window.end)
        if self.seen_by is None or Role.INGESTED_AT not in self.dataset.roles:
            return here
        return and_(here, self.within(Role.INGESTED_AT, None, self.seen_by))

    @property
    def source(self) -> ColumnElement[str]:
        """The producer of a row: one of the known ones, ``other``, or ``(none)`` for null.

        One that has the name of such a group itself is in ``other``.
        """
        return self.told_apart(self.source_name)

    @property
    def source_name(self) -> ColumnElement[str]:
        """The producer of a row by the name it gives itself."""
        known = Role.SOURCE in self.dataset.roles
        return cast(self.column(Role.SOURCE), Text) if known else literal(ALL_SOURCES, Text)

    def told_apart(self, name: ColumnElement[str]) -> ColumnElement[str]:
        """Return the producer that a ``source_name`` stands for, as ``source`` spells it."""
        if Role.SOURCE not in self.dataset.roles:
            return name
        # Told apart value by value: to DuckDB a list of values is a join, at twice the cost.
        known = {source: source for source in self.dataset.sources if is_source(source)}
        named = case(known, value=name, else_=OTHER_SOURCE) if known else literal(OTHER_SOURCE, Text)
        return case((name.is_(None), NO_SOURCE), else_=named)

    def select(self, *columns: Any) -> Select[Any]:
        """Return a SELECT of these columns over the rows of the window."""
        return select(*columns).select_from(self.dataset.table).where(self.belongs)

    def catalogue(
        self, link: str, role: Role, is_none: Callable[[ColumnElement[Any], Kind], ColumnElement[bool]] | None = None
    ) -> Catalogue | None:
        """Return the linked table of ids as something to join to, or None if there is none.

        Ids of different types are compared as text, so that 7 and "7" agree while 007 does not.

        Args:
            link: What the table is to this dataset.
            role: The role that the id plays in both.
            is_none: Given an id and its kind, returns whether it stands for no id; such ids are left out.

        Raises:
            ValueError: The table cannot be read, or has lost the column of a role that it should have.
        """
        known = self.dataset.linked(link)
        if known is None or role not in self.dataset.roles:
            return None
        require(known, role, Role.VALID_FROM, Role.VALID_TO)
        if role not in known.roles:
            return None
        rows = Rows(known, self.window)
        id_column, own, kind = rows.column(role), self.column(role), rows.kind(role)
        if kind is not self.kind(role):
            id_column, own, kind = cast(id_column, Text), cast(own, Text), Kind.TEXT
        key = looked_up(id_column, kind)
        columns: list[Any] = [key.label("id")]
        if Role.VALID_FROM in known.roles:
            # Of several lives one without a start has always been.
            starts = func.min(func.coalesce(rows.micros(Role.VALID_FROM), -FOREVER))
            columns.append(starts.label("valid_from"))
        if Role.VALID_TO in known.roles:
            ends = func.max(func.coalesce(rows.micros(Role.VALID_TO), FOREVER))
            columns.append(ends.label("valid_to"))
        statement = select(*columns).select_from(known.table).where(id_column.is_not(None))
        if is_none is not None:
            statement = statement.where(not_(is_none(id_column, kind)))
        ids = statement.group_by(key).subquery(f"_{link}")
        return Catalogue(link, ids, looked_up(own, kind) == ids.c.id)

    def cohort(self, exposed: Sequence[str], control: Sequence[str]) -> ColumnElement[Any]:
        """Return whether a row is ``exposed`` or ``control``, by values of its cohort's column; NULL for neither."""
        value = spelt(self.dataset, self.dataset.roles[Role.COHORT])
        named = ((exposed, EXPOSED), (control, CONTROL))
        return case(*((is_one_of(value, values), literal(name, Text)) for values, name in named))

    def present(self, role: Role) -> ColumnElement[bool]:
        """True for a row whose id in this role is neither null nor empty."""
        column = self.column(role)
        if self.kind(role) is Kind.TEXT:
            return and_(column.is_not(None), column != "")
        return column.is_not(None)


def is_one_of(value: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
    """Return whether a text is one of a few: value by value, as to DuckDB a list is a join, at twice the cost."""
    return or_(*(value == one for one in values))


def spelt(dataset: Dataset, name: str) -> ColumnElement[str]:
    """Return a column as the text by which its categories go, the same whatever engine or type holds them.

    7.0 is ``7``: integers become floating point where a null comes between them.
    """
    raw: ColumnElement[Any] = dataset.table.c[name]
    kind = dataset.columns[name].kind
    if kind is Kind.NUMBER:
        return number_text(raw)
    if kind is Kind.BOOLEAN:
        # Written in, not bound: PostgreSQL groups by an expression only if it has no parameters.
        words = [literal_column(f"'{word}'", Text) for word in ("true", "false")]
        return case((raw.is_(True), words[0]), (raw.is_(False), words[1]))
    return cast(raw, Text)


def looked_up(value: ColumnElement[Any], kind: Kind) -> ColumnElement[Any]:
    """Return what a value of a kind is looked up by among many others."""
    return match_key(value) if kind is Kind.TEXT else value


def by_frequency(value: ColumnElement[Any], n: ColumnElement[int]) -> tuple[ColumnElement[Any], ...]:
    """Return the order of values with their numbers of rows: the most frequent first, equals as their texts sort.

    So integers that one engine reads as text are cut off at the same one everywhere.
    """
    return n.desc(), binary_order(cast(value, Text))


def is_source(name: str) -> bool:
    """Return whether a producer can be told apart by its name: it is none of ours, and short enough to be kept."""
    return name not in GROUPS and len(name) <= LONGEST_SOURCE


def require(dataset: Dataset, *roles: Role) -> None:
    """Raise ValueError if the data has lost the column of one of these roles.

    Without it a table of ids would know every id, or a stage would be counted wrongly.
    """
    for role in roles:
        if role in dataset.lost:
            raise ValueError(dataset.no_column(dataset.lost[role], f"role {role} of dataset {dataset.name}"))
