"""Which rows a bad verdict is about, how they spread over segments, and which segment explains them best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, case, cast, distinct, func, literal, select

from checks.dataset import Role
from checks.dialect import row_key
from checks.measure import Listing, Row
from checks.rows import Catalogue, Rows, by_frequency, spelt

# Values of a segment column that come back, those with the most bad rows first.
MOST_VALUES = 20
# Columns of a sample that always may be shown; the ids among them only as pseudonyms.
SHOWN_ROLES = (Role.EVENT_ID, Role.USER, Role.ITEM, Role.EVENT_TYPE, Role.EVENT_TIME, Role.INGESTED_AT, Role.SOURCE)


@dataclass(frozen=True)
class Suspects:
    """The rows that a verdict found fault with.

    Args:
        rows: All rows of the window, by the clock of the check.
        condition: True for the rows in question.
        catalogues: What the condition has to be joined with.
        what: What these rows are, in a few words for a person.
    """

    rows: Rows
    condition: ColumnElement[bool]
    catalogues: tuple[Catalogue, ...] = ()
    what: str = "bad rows"

    @property
    def _origin(self) -> Any:
        origin: Any = self.rows.dataset.table
        for catalogue in self.catalogues:
            origin = origin.outerjoin(catalogue.ids, catalogue.condition)
        return origin

    def by(self, column: str) -> Listing:
        """Return the listing of a column's values: value, rows, bad rows, distinct users, rows without a user.

        Cost:
            One scan of the window.
        """
        return Listing(f"by {column}", self.rows, self._counted(spelt(self.rows.dataset, column)), MOST_VALUES)

    def whole(self) -> Listing:
        """Return the listing of one row like those of ``by``, over all values."""
        return Listing("whole", self.rows, self._counted(literal("", Text)), 1)

    def _counted(self, value: ColumnElement[str]) -> Any:
        rows = self.rows
        user: Any = literal(None, BigInteger)
        if Role.USER in rows.dataset.roles:
            user = case((rows.present(Role.USER), row_key(rows.column(Role.USER))))
        bad = case((self.condition, 1), else_=0)
        named = (value.label("value"), bad.label("bad"), user.label("person"))
        each = select(*named).select_from(self._origin).where(rows.belongs).subquery().c
        bads, n = cast(func.sum(each.bad), BigInteger), func.count()
        people = (func.count(distinct(each.person)), n - func.count(each.person))
        grouped = select(each.value, n, bads, *people).group_by(each.value)
        return grouped.order_by(bads.desc(), *by_frequency(each.value, n)).limit(MOST_VALUES)

    def sample(self, columns: Sequence[str], most: int) -> Listing:
        """Return the listing of a few of the rows, each cell as text.

        Args:
            columns: What may be shown; ids are still as they are.
            most: How many rows at most.
        """
        dataset = self.rows.dataset
        cells = [spelt(dataset, name).label(f"c{at}") for at, name in enumerate(columns)]
        statement: Any = select(*cells).select_from(self._origin).where(self.rows.belongs, self.condition).limit(most)
        return Listing("sample", self.rows, statement, most)


@dataclass(frozen=True)
class Segment:
    """One value of one column among the rows of a window.

    Args:
        column: Which column.
        value: Its value; None for null.
        rows: All rows with it.
        bad: Those that the verdict is about.
        share: Of all bad rows, those of this segment, from 0 to 1.
        lift: How many times as often its rows are bad as rows are in all.
        excess: Share of the bad rows beyond its share of all rows: how much of the fault it explains.
    """

    column: str
    value: str | None
    rows: int
    bad: int
    share: float
    lift: float
    excess: float


def segments(counted: Mapping[str, Sequence[Row]], whole: Row, least_people: int) -> list[Segment]:
    """Return the segments of several columns, the one that explains most first.

    Args:
        counted: By column, the rows of ``Suspects.by``.
        whole: The row of ``Suspects.whole``.
        least_people: Segments of fewer distinct users are left out; a row without a user counts as one.

    Examples:
        >>> found = segments({"app": [("8.2", 50, 45, 40, 0), ("8.1", 150, 5, 90, 0)]}, ("", 200, 50, 120, 0), 10)
        >>> [(one.value, one.share, one.lift, round(one.excess, 2)) for one in found]
        [('8.2', 0.9, 3.6, 0.65), ('8.1', 0.1, 0.13333333333333333, -0.65)]
    """
    _value, rows, bad, *_people = whole
    found = list(_found(counted, int(rows), int(bad or 0), least_people)) if rows and bad else []
    return sorted(found, key=lambda one: (-one.excess, one.column, str(one.value)))


def _found(counted: Mapping[str, Sequence[Row]], rows: int, bad: int, least_people: int) -> Iterator[Segment]:
    for column, values in counted.items():
        for value, n, bads, people, anonymous in values:
            if int(people) + int(anonymous) < least_people:
                continue
            share = int(bads) / bad
            named = None if value is None else str(value)
            yield Segment(column, named, int(n), int(bads), share, share / (int(n) / rows), share - int(n) / rows)
