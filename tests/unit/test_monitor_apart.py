"""Draws in a process of their own."""

import sys
from collections.abc import Iterator

import pytest

from checks import stats
from monitor import apart
from monitor.errors import EngineError


@pytest.fixture
def elsewhere() -> Iterator[None]:
    stats.simulate_with(apart.drawn_apart)
    yield
    stats.simulate_with(None)


def test_draws_apart_are_those_drawn_here(elsewhere: None) -> None:
    apart_from_here = stats.l_infinity_factor((50, 30, 20))
    stats.simulate_with(None)
    assert apart_from_here == stats.l_infinity_factor((50, 30, 20))


def test_a_process_that_fails_or_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"draws failed: .+"):
        apart.drawn_apart([], 0.001, 1)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EngineError, match="could not be started: No such file"):
        apart.drawn_apart([0.5, 0.5], 0.001, 1)


def test_draws_that_take_too_long_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "LONGEST_SECONDS", 0.001)
    with pytest.raises(EngineError, match="draws of 2 bins took longer than"):
        apart.drawn_apart([0.5, 0.5], 0.001, 1)
