"""Guesses which event types say what was shown and which that it was clicked. Pure: it sees values and their counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from checks.dataset import Kind, Role
from monitor.columns import GUESS, KEYED, LIKELY, WORDS, Seen, split, words

_SHOWN = split("impression imp shown show display displayed exposure exposed")
_VIEWED = split("view viewed pageview")
_CLICKED = split("click clicked clk tap tapped")
_CHOSEN = split("select selected")
_LISTS = split("list result search carousel promotion")
# What may stand beside them in the name of an event type.
_OF_WHAT = (
    WORDS[Role.ITEM]
    | KEYED[Role.ITEM]
    | _LISTS
    | split("rec reco recommendation recommended recommender card tile banner page detail home feed event")
)
# A column of two values with such a name says of what was shown whether it was clicked.
_SAYS_CLICKED = _CLICKED | split("is was has flag")
_YES, _NO = ("true", "1"), ("false", "0")


@dataclass(frozen=True)
class Clicks:
    """What is known of clicks.

    Args:
        shown: Event types of what is shown.
        hit: Event types of what follows.
        share: Share of the rows that are of what is shown, from 0 to 1.
        sure: How sure that is.
        why: What it was told by.
    """

    shown: tuple[str, ...]
    hit: tuple[str, ...]
    share: float
    sure: str
    why: str


def says_clicked(column: Seen) -> bool:
    """Return whether a column of yes and no is about clicks: clicked, is_click."""
    is_yes_or_no = column.type.kind in (Kind.BOOLEAN, Kind.INTEGER, Kind.NUMBER) and column.distinct == 2
    return is_yes_or_no and column.has(_CLICKED) and set(column.words) <= _SAYS_CLICKED


def clicks(rows: Mapping[str, int], is_flag: bool = False) -> Clicks | None:
    """Return what the values of an event type say of clicks, or None.

    Args:
        rows: By value, how many rows have it.
        is_flag: Whether the column's name says that its values tell whether what was shown was clicked.

    Examples:
        >>> clicks({"impression": 900, "click": 75, "purchase": 25})
        Clicks(shown=('impression',), hit=('click',), share=0.9, sure='likely', why='their names say so')
        >>> clicks({"false": 950, "true": 50}, is_flag=True).hit
        ('true',)
        >>> clicks({"view": 900, "add_to_cart": 50}) is None
        True
    """
    for yes, no in zip(_YES, _NO, strict=True):
        if is_flag and set(rows) == {yes, no}:
            return Clicks((no, yes), (yes,), 1.0, LIKELY, "each row says itself whether it was clicked")
    # Of what is written in other letters too, the words cannot be told; ${...} is filled in from the environment.
    types = sorted(name for name in rows if name.isascii() and "${" not in name)
    viewed, hit = _named(types, _VIEWED), _named(types, _CLICKED)
    shown = _named(types, _SHOWN) or [name for name in viewed if _LISTS & _parts(name)]
    sure, why = LIKELY, "their names say so"
    if not shown:
        shown, sure, why = viewed, GUESS, "no name says what was shown, and what was viewed comes nearest"
    elif not hit:
        hit = _named(types, _CHOSEN)
    if not hit:
        hit, sure, why = [name for name in viewed if name not in shown], GUESS, "no name says what was clicked"
    shown_rows, hits = (sum(rows[name] for name in types) for types in (shown, hit))
    if not hits or shown_rows <= hits:
        return None
    return Clicks(tuple(shown), tuple(hit), shown_rows / sum(rows.values()), sure, why)


def _named(types: list[str], said: frozenset[str]) -> list[str]:
    """Return the types that say one thing, and beside it at most of what."""
    return [name for name in types if said & _parts(name) and _parts(name) <= said | _OF_WHAT]


def _parts(name: str) -> frozenset[str]:
    return frozenset(word.removesuffix("s") for word in words(name))
