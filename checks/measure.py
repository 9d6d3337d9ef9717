"""What to count, and what was counted.

A :class:`Measure` is a set of aggregates over the rows of a window; measures over the same rows
are fused into one scan (``checks/fuse.py``). A :class:`Listing` is a statement of its own with a
bounded number of rows, for what no plain aggregate can say. Both end in a :class:`Tally`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select

from checks.dialect import count_if
from checks.rows import Catalogue, Rows
from checks.window import Window

# Stands among the types of a column for files that do not have it.
MISSING = ""
Number = int | float
Counts = Mapping[str, Number | None]
Row = tuple[Any, ...]
Statement = Select[Any] | CompoundSelect[Any]


class Merge(StrEnum):
    """How the same count of two disjoint sets of rows becomes the count of both."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"

    def __call__(self, left: Number | None, right: Number | None) -> Number | None:
        """Return the merged count; None stands for "no row had a value"."""
        if left is None or right is None:
            return right if left is None else left
        return {Merge.SUM: left + right, Merge.MAX: max(left, right), Merge.MIN: min(left, right)}[self]


@dataclass(frozen=True)
class Aggregate:
    """One aggregate expression, and how its values of two disjoint sets of rows merge.

    Args:
        expression: The aggregate.
        merge: How values of disjoint sets of rows merge.
        where: For a number of rows, the condition that is counted: over one derived column with few values.
    """

    expression: ColumnElement[Any]
    merge: Merge = Merge.SUM
    where: ColumnElement[bool] | None = None

    @classmethod
    def rows(cls, where: ColumnElement[bool]) -> Aggregate:
        """Return the number of rows for which a condition over one derived column with few values holds."""
        return cls(count_if(where), where=where)


@dataclass(frozen=True)
class Measure:
    """Aggregates over the rows of one window, told apart by source.

    Args:
        rows: Which rows.
        aggregates: By name; they may refer to the dataset's columns and to ``derived`` ones.
        derived: Per-row expressions that several aggregates share, computed once a row.
        catalogues: Tables of known ids that the derived expressions refer to.
    """

    rows: Rows
    aggregates: Mapping[str, Aggregate]
    derived: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    catalogues: tuple[Catalogue, ...] = ()


@dataclass(frozen=True)
class Listing:
    """A statement with at most ``row_limit`` rows.

    Of equal names over equal rows only the one with the greatest limit runs, and answers for all:
    it must hold what the others hold.

    Args:
        name: What the listing is called in the tally.
        rows: Which rows it reads (the unit of sharing).
        statement: The SELECT.
        row_limit: Bound on the rows that may come back; more is an error, not a cut.
        only_if: Given the counts of the measures, whether it is worth running at all; where it
            is not, the tally holds an empty listing.
    """

    name: str
    rows: Rows
    statement: Statement
    row_limit: int
    only_if: Callable[[Tally], bool] | None = None


@dataclass(frozen=True)
class Tally:
    """The counts of one check on one dataset and window.

    ``counts`` are over all sources, ``by_source`` the same apart; ``listings`` hold the rows of
    each listing.
    """

    dataset: str
    window: Window
    counts: Counts = field(default_factory=dict)
    by_source: Mapping[str, Counts] = field(default_factory=dict)
    listings: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    merges: Mapping[str, Merge] = field(default_factory=dict)
    # Columns and their types as they were when this was counted; not kept with the tally. Where files are told apart,
    # also those of the files of these rows, with their types there, MISSING among them where a file lacks it.
    columns: Mapping[str, str] = field(default_factory=dict)
    own_columns: Mapping[str, frozenset[str]] | None = None

    def count(self, name: str) -> int:
        """Return a count as an integer; 0 where no row had a value."""
        return int(self.counts.get(name) or 0)


def combined(tallies: Sequence[Tally]) -> Tally:
    """Return tallies of different measures of one check and window as one.

    A source that one measure saw and another did not has 0 in the latter's counts.
    """
    merges = {name: merge for tally in tallies for name, merge in tally.merges.items()}
    zeros: dict[str, Number | None] = {name: 0 if merge is Merge.SUM else None for name, merge in merges.items()}
    sources = {source for tally in tallies for source in tally.by_source}
    by_source = {source: dict(zeros) for source in sorted(sources)}
    counts = dict(zeros)
    for tally in tallies:
        counts.update(tally.counts)
        for source, found in tally.by_source.items():
            by_source[source].update(found)
    return replace(tallies[0], counts=counts, by_source=by_source, merges=merges)


def merged(merges: Mapping[str, Merge], parts: Sequence[Counts]) -> dict[str, Number | None]:
    """Return the counts of several disjoint sets of rows taken together."""
    total: dict[str, Number | None] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = merges[name](total[name], value) if name in total else value
    return total
