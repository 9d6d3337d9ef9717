"""The rows of one dataset in one window, as SQL expressions that checks build on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    Subquery,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    select,
)

from checks.dataset import Dataset, Kind, Role, TimeUnit
from checks.dialect import epoch_micros, parsed_time
from checks.window import Window, micros

NO_SOURCE = "(none)"
OTHER_SOURCE = "other"
ALL_SOURCES = "(all)"
FOREVER = 2**62


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
    """

    dataset: Dataset
    window: Window
    clock: Role | None = None

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

    def column(self, role: Role) -> ColumnElement[object]:
        """Return the column that plays a role."""
        return self.dataset.table.c[self.dataset.roles[role]]

    def micros(self, role: Role) -> ColumnElement[int]:
        """Return a time role as microseconds since the Unix epoch."""
        column, unit = self.column(role), self.dataset.time_units[role]
        if unit is TimeUnit.NATIVE:
            return epoch_micros(column)
        if unit is TimeUnit.TEXT:
            return epoch_micros(parsed_time(column))
        if self.dataset.kind(role) is Kind.INTEGER:
            return cast(column, BigInteger) * unit.micros
        return cast(func.round(column * unit.micros), BigInteger)

    def _bound(self, role: Role, bound: datetime) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """Return the raw column and the bound in the column's own terms, so that engines can prune."""
        column, unit, kind = self.column(role), self.dataset.time_units[role], self.dataset.kind(role)
        if unit is TimeUnit.NATIVE and kind is Kind.TIMESTAMP:
            zoned = "with time zone" in self.dataset.columns[self.dataset.roles[role]].declared.lower()
            value = bound if zoned else bound.replace(tzinfo=None)
            return column, literal(value, DateTime(timezone=zoned))
        if unit is TimeUnit.NATIVE or unit is TimeUnit.TEXT:
            return self.micros(role), literal(micros(bound), BigInteger)
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
        return self.within(self.clock_role, self.window.start, self.window.end)

    @property
    def source(self) -> ColumnElement[str]:
        """The producer of a row: one of the known ones, ``other``, or ``(none)`` for null."""
        if Role.SOURCE not in self.dataset.roles:
            return literal(ALL_SOURCES, Text)
        name = cast(self.column(Role.SOURCE), Text)
        return case(
            (name.is_(None), NO_SOURCE),
            (name.in_(self.dataset.sources), name),
            else_=OTHER_SOURCE,
        )

    def select(self, *columns: Any) -> Select[Any]:
        """Return a SELECT of these columns over the rows of the window."""
        return select(*columns).select_from(self.dataset.table).where(self.belongs)

    def catalogue(self, link: str, role: Role) -> Catalogue | None:
        """Return the linked table of ids as something to join to, or None if there is none.

        Ids of different types are compared as text, so that 7 and "7" agree while 007 does not.
        """
        known = self.dataset.links.get(link)
        if known is None or role not in known.roles or role not in self.dataset.roles:
            return None
        rows = Rows(known, self.window)
        id_column, own = rows.column(role), self.column(role)
        if known.kind(role) is not self.dataset.kind(role):
            id_column, own = cast(id_column, Text), cast(own, Text)
        columns: list[Any] = [id_column.label("id")]
        if Role.VALID_FROM in known.roles:
            columns.append(func.min(rows.micros(Role.VALID_FROM)).label("valid_from"))
        if Role.VALID_TO in known.roles:
            ends = func.max(func.coalesce(rows.micros(Role.VALID_TO), FOREVER))
            columns.append(ends.label("valid_to"))
        statement = select(*columns).select_from(known.table).where(id_column.is_not(None))
        ids = statement.group_by(id_column).subquery(link)
        return Catalogue(link, ids, own == ids.c.id)

    def present(self, role: Role) -> ColumnElement[bool]:
        """True for a row whose id in this role is neither null nor empty."""
        column = self.column(role)
        if self.dataset.kind(role) is Kind.TEXT:
            return and_(column.is_not(None), column != "")
        return column.is_not(None)
