"""What cannot be written is told from a state that cannot be written to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.exc import DataError, OperationalError

from checks.check import Outcome, Verdict
from checks.window import Window
from monitor.committing import commit_round
from monitor.errors import StateError
from monitor.lease import LeaseLostError
from monitor.records import Judged

WINDOW = Window(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 1, tzinfo=UTC))


def judged(check: str) -> Judged:
    verdict = Verdict(check, "events", WINDOW, Outcome.GOOD, "ratio", 0.0)
    return Judged(check, "events", WINDOW, (verdict,), WINDOW.end, 0.1)


def instead(found: Judged, reason: str) -> Judged:
    error = Verdict(found.check, "events", WINDOW, Outcome.ERROR, "none", reason=reason)
    return replace(found, verdicts=(error,), advances=False)


@dataclass
class Shelf:
    """A store that keeps what it is given, unless told to fail."""

    fail: Callable[[Judged], Exception | None]
    kept: list[Judged] = field(default_factory=list)

    def commit(self, *found: Judged) -> None:
        for one in found:
            error = self.fail(one)
            if error is not None:
                raise error
        self.kept += found


def because(cause: Exception) -> StateError:
    error = StateError("state: cannot be written")
    error.__cause__ = cause
    return error


def commit(shelf: Shelf, *checks: str) -> list[tuple[str, bool]]:
    store: Any = shelf
    return [(one.check, one.failed) for one in commit_round(store, [judged(check) for check in checks], instead)]


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), because(DataError("INSERT", {}, Exception("out of range")))]
)
def test_what_cannot_be_written_takes_no_other_along(error: Exception) -> None:
    shelf = Shelf(lambda one: error if one.check == "b" and not one.failed else None)
    assert commit(shelf, "a", "b", "c") == [("a", False), ("b", True), ("c", False)]
    assert [(one.check, one.failed) for one in shelf.kept] == [("a", False), ("b", True), ("c", False)]
    assert shelf.kept[1].verdicts[0].reason.startswith("what it found cannot be written: ")


@pytest.mark.parametrize(
    "error",
    [
        StateError("another write has gone on for too long"),
        because(OperationalError("INSERT", {}, Exception("disk full"))),
        LeaseLostError("another daemon leads now"),
    ],
)
def test_a_state_that_fails_is_no_fault_of_a_check(error: Exception) -> None:
    shelf = Shelf(lambda _one: error)
    with pytest.raises(type(error)):
        commit(shelf, "a", "b")
    # Nor where it begins to fail on the way.
    shelf = Shelf(lambda one: OverflowError() if one.check == "b" and not shelf.kept else error if shelf.kept else None)
    with pytest.raises(type(error)):
        commit(shelf, "a", "b")
    assert [(one.check, one.failed) for one in shelf.kept] == [("a", False)]


def test_nothing_found_asks_nothing_of_the_state() -> None:
    assert commit(Shelf(lambda _one: StateError("asked"))) == []
