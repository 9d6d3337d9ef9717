"""Values of the data as they are kept: what is too long to keep is cut, so that different ones stay different."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement

from checks.dialect import LONGEST_VALUE, START, clipped
from checks.measure import Row


def clip(text: str) -> str:
    """Return a text as it is kept: as it is, or its first 935 characters, a tilde and its SHA-256 in hexadecimal.

    The same text becomes the same whatever engine it comes from, and what is clipped already stays.

    Args:
        text: Of any length; up to 1,000 characters it is kept.

    Examples:
        >>> clip("web")
        'web'
        >>> clip("x" * 1_000) == "x" * 1_000, len(clip("x" * 1_000_000))
        (True, 1000)
        >>> clip("x" * 1_000_000) == clip("x" * 1_000_001)
        False
    """
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[:START]}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def clip_cells(rows: Iterable[Row]) -> list[Row]:
    """Return rows with each text in them as it is kept."""
    return [tuple(clip(cell) if isinstance(cell, str) else cell for cell in row) for row in rows]


def comparable(text: ColumnElement[str], kept: Sequence[Any]) -> ColumnElement[str]:
    """Return a text of the data as something to compare with values that were kept.

    Cost:
        None, unless one of the values may have been cut: then a SHA-256 for each row whose text is too long.
    """
    is_cut = any(isinstance(value, str) and len(value) >= LONGEST_VALUE for value in kept)
    return clipped(text) if is_cut else text
