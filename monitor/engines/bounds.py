"""What a statement says of the rows that it reads: the tables it names, and the bounds it sets on their columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnClause, Select, TableClause, TextClause
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Grouping
from sqlalchemy.sql.selectable import FromClause, Join

from checks.dialect import epoch_micros, parsed_time
from checks.window import micros

_AT_LEAST, _AT_MOST = (operators.ge, operators.gt), (operators.le, operators.lt)


@dataclass(frozen=True)
class Bound:
    """The least and the greatest value that a column may have, both included; None leaves a side open.

    Args:
        is_time: Whether the values are microseconds since the Unix epoch of a timestamp or a date; otherwise
            they are compared with what the column holds.
        low: Least value.
        high: Greatest value.
    """

    is_time: bool
    low: float | None = None
    high: float | None = None

    def __and__(self, other: Bound) -> Bound:
        lows = [low for low in (self.low, other.low) if low is not None]
        highs = [high for high in (self.high, other.high) if high is not None]
        return Bound(self.is_time, max(lows, default=None), min(highs, default=None))


# Bounds by column; a row that one of its columns keeps out is not read.
Bounds = Mapping[str, Bound]


def reads(statement: Any) -> Mapping[str, Sequence[Bounds]] | None:
    """Return the tables that a statement names, each with the bounds of every SELECT that reads it.

    What a SELECT says in its WHERE of a table that it selects from holds for every row that it can return,
    so a row outside of the bounds of all of them cannot change the result. Empty bounds stand for every row.

    Returns:
        None where the statement holds SQL in words, which may name anything.
    """
    found: dict[str, list[Bounds]] = {}
    bounded: set[int] = set()
    tables: dict[int, TableClause] = {}
    for element, children in _elements(statement):
        if isinstance(element, TextClause) or (isinstance(element, ColumnClause) and _is_words(element)):
            return None
        if isinstance(element, TableClause):
            tables[id(element)] = element
        elif isinstance(element, Select):
            # Not asked for by get_final_froms(), which compiles all of the statement.
            for table in {id(table): table for table in _tables(children)}.values():
                bounded.add(id(table))
                found.setdefault(table.name, []).append(_bounds(element, table))
        elif isinstance(element, FromClause) and isinstance(getattr(element, "element", None), TableClause):
            # Under another name its columns are others, so nothing is known of them.
            found.setdefault(element.element.name, []).append({})  # type: ignore[attr-defined]
    for key, table in tables.items():
        if key not in bounded:
            found.setdefault(table.name, []).append({})
    return found


def _elements(statement: Any) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Yield every part of a statement once, however often it is used, with its own parts: to ask for them is slow."""
    seen, left = {id(statement)}, [statement]
    while left:
        element = left.pop()
        children = list(element.get_children())
        yield element, children
        for child in children:
            if id(child) not in seen:
                seen.add(id(child))
                left.append(child)


def _is_words(column: ColumnClause[Any]) -> bool:
    # The star is that of count(*).
    return column.is_literal and not (column.name.isidentifier() or column.name == "*")


def _tables(parts: Iterable[Any]) -> Iterator[TableClause]:
    for origin in parts:
        if isinstance(origin, TableClause):
            yield origin
        elif isinstance(origin, Join):
            yield from _tables((origin.left, origin.right))


def _bounds(statement: Select[Any], table: TableClause) -> Bounds:
    bounds: dict[str, Bound] = {}
    for condition in _conditions(statement.whereclause):
        if not isinstance(condition, BinaryExpression) or not isinstance(condition.right, BindParameter):
            continue
        column, is_time = condition.left, False
        if isinstance(column, epoch_micros):
            column, is_time = next(iter(column.clauses)), True
            if isinstance(column, parsed_time):
                column = next(iter(column.clauses))
        if not isinstance(column, ColumnClause) or column.table is not table:
            continue
        bound = _bound(condition.operator, condition.right.effective_value, is_time)
        if bound is None:
            continue
        before = bounds.get(column.name, bound)
        if before.is_time == bound.is_time:
            bounds[column.name] = before & bound
    return bounds


def _conditions(condition: Any) -> Iterator[Any]:
    """Yield the conditions that must all hold."""
    if isinstance(condition, Grouping):
        yield from _conditions(condition.element)
    elif isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for part in condition.clauses:
            yield from _conditions(part)
    elif condition is not None:
        yield condition


def _bound(operator: Any, value: Any, is_time: bool) -> Bound | None:
    if isinstance(value, datetime):
        # Without a zone it is UTC, as everywhere.
        value, is_time = micros(value if value.tzinfo else value.replace(tzinfo=UTC)), True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if is_time:
        # Times are whole microseconds, so that what begins when a window ends is no part of it.
        value += (operator is operators.gt) - (operator is operators.lt)
    if operator in _AT_LEAST:
        return Bound(is_time, low=value)
    return Bound(is_time, high=value) if operator in _AT_MOST else None
