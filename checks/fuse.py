"""Merges the measures of many checks into as few scans as possible.

Measures over the same rows become one SELECT: shared per-row expressions are computed once in an
inner query, every aggregate becomes a column, and the result has one row per source. Equal
expressions of different checks become one column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnClause, ColumnElement, Select, case, func, literal_column, select
from sqlalchemy.sql import visitors

from checks.measure import Aggregate, Measure, Merge, Number, Row, Tally, merged
from checks.rows import Rows

SOURCE, NUMBER = "source_", "rows_"


@dataclass(frozen=True)
class Scan:
    """One fused SELECT, and where each check's counts stand in its rows.

    Args:
        rows: The rows that are read.
        statement: SELECT with one row per source.
        places: For each measure (by its place in the input), count name to column index.
        merges: For each measure, how its counts merge.
    """

    rows: Rows
    statement: Select[Any]
    places: Mapping[int, Mapping[str, int]]
    merges: Mapping[int, Mapping[str, Merge]]

    @property
    def row_limit(self) -> int:
        """The most rows that can come back: the known sources, ``other`` and ``(none)``."""
        return len(self.rows.dataset.sources) + 2

    def tally(self, measure: int, result: Sequence[Row]) -> Tally:
        """Return the tally of one measure from the rows that came back."""
        places, merges = self.places[measure], self.merges[measure]
        by_source = {str(row[0]): {name: plain(row[at]) for name, at in places.items()} for row in result}
        none: dict[str, Number | None] = dict.fromkeys(places)
        parts = list(by_source.values()) or [none]
        counts = merged(merges, parts)
        counts = {name: 0 if value is None and merges[name] is Merge.SUM else value for name, value in counts.items()}
        return Tally(self.rows.dataset.name, self.rows.window, counts, by_source, {}, merges)


def plain(value: Any) -> Number | None:
    """Return a number of the engine (a Decimal, say) as a plain one; whole numbers as int."""
    if value is None or isinstance(value, int | float):
        return value
    return int(value) if value == int(value) else float(value)


def fuse(measures: Sequence[Measure]) -> tuple[Scan, ...]:
    """Return one scan for each distinct set of rows that the measures read.

    Args:
        measures: Of any checks, on any datasets and windows.

    Returns:
        Scans in the order in which their rows first appear.

    Cost:
        None in the engine; the returned scans cost one pass each.
    """
    groups: dict[Rows, list[int]] = {}
    for place, measure in enumerate(measures):
        groups.setdefault(measure.rows, []).append(place)
    return tuple(_scan(rows, {at: measures[at] for at in places}) for rows, places in groups.items())


def _scan(rows: Rows, measures: Mapping[int, Measure]) -> Scan:
    columns: dict[str, int] = {}
    found: list[Aggregate] = []
    places: dict[int, dict[str, int]] = {}
    for at, measure in measures.items():
        places[at] = {}
        for name, aggregate in measure.aggregates.items():
            spelt = _spelt(aggregate.expression)
            if spelt not in columns:
                columns[spelt] = len(found) + 1
                found.append(aggregate)
            places[at][name] = columns[spelt]
    statement = _statement(rows, measures.values(), found)
    merges = {
        at: {name: aggregate.merge for name, aggregate in measure.aggregates.items()}
        for at, measure in measures.items()
    }
    return Scan(rows, statement, places, merges)


def _statement(rows: Rows, measures: Iterable[Measure], found: Sequence[Aggregate]) -> Select[Any]:
    """Return the scan that groups rows by all columns with few values, and counts conditions on the groups.

    Sources are told apart and conditions asked once a group, not once a row: an eighth less time for the scan.
    """
    source: Any = literal_column(SOURCE)
    wheres = [aggregate.where for aggregate in found if aggregate.where is not None]
    keys = {column.name: column for where in wheres for column in _columns(where)}
    others = {f"c{at}": aggregate for at, aggregate in enumerate(found, start=1) if aggregate.where is None}
    inner = [aggregate.expression.label(name) for name, aggregate in others.items()]
    groups: Any = (
        select(source, *keys.values(), func.count().label(NUMBER), *inner)
        .select_from(_inner(rows, measures))
        .group_by(source, *keys.values())
        .subquery("g")
    )
    named = rows.told_apart(groups.c[SOURCE]).label(SOURCE)
    told_apart: Any = select(named, *(column for column in groups.c if column.name != SOURCE)).subquery("t")
    number: Any = literal_column(NUMBER, BigInteger)
    again = []
    for at, aggregate in enumerate(found, start=1):
        if aggregate.where is not None:
            total = func.sum(case((aggregate.where, number), else_=0))
        else:
            total = getattr(func, aggregate.merge)(literal_column(f"c{at}"))
        again.append(total.label(f"c{at}"))
    return select(source, *again).select_from(told_apart).group_by(source)


def _columns(condition: ColumnElement[bool]) -> list[ColumnClause[Any]]:
    return [part for part in visitors.iterate(condition) if isinstance(part, ColumnClause)]


def _inner(rows: Rows, measures: Iterable[Measure]) -> Any:
    """Return the sub-query that computes the shared per-row expressions."""
    derived: dict[str, Any] = {}
    catalogues: dict[str, Any] = {}
    for measure in measures:
        for name, expression in measure.derived.items():
            if name in derived and _spelt(derived[name]) != _spelt(expression):
                raise ValueError(f"two measures derive {name} in different ways; give one another name")
            derived.setdefault(name, expression)
        for catalogue in measure.catalogues:
            catalogues.setdefault(catalogue.name, catalogue)
    origin: Any = rows.dataset.table
    for catalogue in catalogues.values():
        origin = origin.outerjoin(catalogue.ids, catalogue.condition)
    labelled = [expression.label(name) for name, expression in derived.items()]
    return select(rows.source_name.label(SOURCE), *labelled).select_from(origin).where(rows.belongs).subquery("r")


def _spelt(expression: Any) -> str:
    """Return an expression with its parameters, so that equal ones can be told."""
    compiled = expression.compile()
    return f"{compiled} {sorted(compiled.params.items(), key=str)}"
