"""Frozen bins of one feature: how a value finds its bin in SQL, and how bins are saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Double, Integer, SmallInteger, Text, case, cast, literal, or_

from checks.clipped import clip, comparable
from checks.dataset import Dataset, Kind
from checks.dialect import LONGEST_VALUE, is_not_finite, number_or_null
from checks.rows import spelt

NULL, UNSEEN, BELOW, ABOVE = "null", "unseen", "below", "above"


@dataclass(frozen=True)
class Bins:
    """The bins of one feature.

    A numeric feature has ``null``, ``below``, the bins between its edges, and ``above``; a
    categorical one ``null``, ``unseen`` (anything that is not one of its values) and its values.

    Args:
        labels: What each bin is called, in the order of the counts.
        edges: Bounds of the inner bins of a numeric feature, ascending; empty for a categorical one.
        values: The values of a categorical feature.
        deviation: Standard deviation of the reference.
        recurring: Whether the reference has so few different values that rows are best grouped by value first.
    """

    labels: tuple[str, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    deviation: float = 0.0
    recurring: bool = False

    @property
    def has_cut(self) -> bool:
        """Whether a value may be the start of one that was too long to keep."""
        return any(len(value) >= LONGEST_VALUE for value in self.values)

    @property
    def closed_edges(self) -> tuple[float, ...]:
        """The edges with the two outer bins closed.

        Values below the lowest or above the highest of the reference lie at least one edge away;
        the outer bins are closed one mean bin width further, so a distance is a lower bound there.
        """
        inner = self.edges
        step = (inner[-1] - inner[0]) / max(1, len(inner) - 1) or abs(inner[0]) or 1.0
        return (inner[0] - step, *inner, inner[-1] + step)

    def save(self) -> dict[str, Any]:
        """Return the bins as plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def load(cls, saved: Mapping[str, Any]) -> Bins:
        """Return saved bins."""
        # What was saved before long values were cut finds its rows, too.
        labels, values = (tuple(map(clip, saved[name])) for name in ("labels", "values"))
        return cls(labels, tuple(saved["edges"]), values, saved["deviation"], saved.get("recurring", False))


def numeric(quantiles: Sequence[float], lowest: float, highest: float, deviation: float) -> Bins:
    """Return bins between the distinct quantiles of the reference.

    A value belongs to the bin whose upper edge it does not exceed; the least value belongs to the
    first bin, what is less to ``below``.
    """
    edges = sorted({lowest, *quantiles, highest})
    inner = [f"{low:.6g} to {high:.6g}" for low, high in pairwise(edges)]
    labels = (NULL, f"{BELOW} {edges[0]:.6g}", *inner, f"{ABOVE} {edges[-1]:.6g}")
    return Bins(labels, tuple(edges), (), deviation)


def categorical(values: Sequence[str], most: int) -> Bins:
    """Return a bin for each of the most frequent values; all others are ``unseen``."""
    kept = tuple(values[:most])
    return Bins((NULL, UNSEEN, *kept), (), kept, recurring=len(values) <= most)


def bin_of(dataset: Dataset, name: str, bins: Bins) -> ColumnElement[int]:
    """Return the number of a row's bin, as a tree of comparisons for numeric features."""
    raw: ColumnElement[Any] = dataset.table.c[name]
    value = number(dataset, name) if bins.edges else raw
    is_null: ColumnElement[bool] = value.is_(None)
    if dataset.columns[name].kind is Kind.NUMBER:
        is_null = or_(is_null, is_not_finite(raw))
    if not bins.edges:
        text = comparable(spelt(dataset, name), bins.values)
        whens = {value: literal(at, SmallInteger) for at, value in enumerate(bins.values, start=2)}
        known = case(whens, value=text, else_=literal(1, SmallInteger)) if whens else literal(1, SmallInteger)
        return case((is_null, literal(0, SmallInteger)), else_=known)
    inner = _tree(cast(value, Double), bins.edges[1:], 2)
    below = (cast(value, Double) < bins.edges[0], literal(1, SmallInteger))
    return case((is_null, literal(0, SmallInteger)), below, else_=inner)


def in_bin(dataset: Dataset, name: str, bins: Bins, at: int) -> ColumnElement[bool]:
    """Return the condition that a row is in a certain bin."""
    if bins.edges or at < len(bins.labels) - len(bins.values):
        return bin_of(dataset, name, bins) == at
    value = bins.values[at - len(bins.labels)]
    return comparable(spelt(dataset, name), [value]) == value


def number(dataset: Dataset, name: str) -> ColumnElement[float]:
    """Return a column as a number, whatever its type; NULL where it spells none."""
    raw: ColumnElement[Any] = dataset.table.c[name]
    kind = dataset.columns[name].kind
    if kind is Kind.BOOLEAN:
        return cast(raw, Integer)
    return raw if kind.is_numeric else number_or_null(cast(raw, Text))


def _tree(value: ColumnElement[float], uppers: Sequence[float], first: int) -> ColumnElement[int]:
    """Return a balanced tree of CASEs, so that a value costs log2(bins) comparisons, not bins."""
    if not uppers:
        return literal(first, SmallInteger)
    middle = len(uppers) // 2
    left = _tree(value, uppers[:middle], first)
    right = _tree(value, uppers[middle + 1 :], first + middle + 1)
    return case((value <= uppers[middle], left), else_=right)
