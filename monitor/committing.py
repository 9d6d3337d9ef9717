"""Commits what a round of checks has found, and contains what cannot be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError, StatementError

from monitor.errors import RecwatchError
from monitor.records import Judged
from monitor.runner import said
from monitor.store import Store


def commit_round(store: Store, found: Sequence[Judged], instead: Callable[[Judged, str], Judged]) -> Sequence[Judged]:
    """Write a round in one transaction; where one window cannot be written, each in its own.

    Args:
        store: The state.
        found: What the checks of the round have found.
        instead: Given what cannot be written, and why, returns what is written in its place.

    Returns:
        What was written.

    Raises:
        LeaseLostError: Another daemon leads.
        StateError: The state itself fails, whatever is written.
    """
    if not found:
        return found
    try:
        store.commit(*found)
    except Exception as error:
        if not _is_its_own(error):
            raise
        return [_commit(store, judged, instead) for judged in found]
    return found


def _commit(store: Store, judged: Judged, instead: Callable[[Judged, str], Judged]) -> Judged:
    try:
        store.commit(judged)
    except Exception as error:
        if not _is_its_own(error):
            raise
        judged = instead(judged, f"what it found cannot be written: {said(error)}")
        store.commit(judged)
    return judged


def _is_its_own(error: Exception) -> bool:
    """Return whether what was to be written is to blame, and not the state, which fails in its own words."""
    cause = error.__cause__
    # A bare StatementError is a value that does not become one of its column's type.
    of_value = isinstance(cause, DataError | IntegrityError | ProgrammingError) or type(cause) is StatementError
    return not isinstance(error, RecwatchError) or of_value
