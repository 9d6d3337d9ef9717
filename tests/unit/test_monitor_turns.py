"""Turns at an engine: who is next, how many at once, and what a slow one can't do to the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from monitor import log
from monitor.turns import Turns, once

PATIENCE_SECONDS = 20.0
WAREHOUSE, LAKE = "postgresql://warehouse", "duckdb:///:memory:"


class Slow:
    """Work that runs until it is let go."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        assert self.may_end.wait(PATIENCE_SECONDS)

    def has_begun(self) -> bool:
        return self.began.wait(PATIENCE_SECONDS)


@pytest.fixture
def turns() -> Turns:
    return Turns()


def pieces(said: list[str], name: str, count: int) -> Iterator[None]:
    for number in range(count):
        said.append(f"{name}{number}")
        yield


def put_all(turns: Turns, lane: str, said: list[str], sizes: dict[str, int]) -> threading.Event:
    """Let work of each pipeline wait behind a slow one, then let all run; return what says that all is done."""
    slow, done = Slow(), threading.Event()
    turns.join("slow", {lane: 1})
    for pipeline in sizes:
        turns.join(pipeline, {lane: 1})
    turns.put(lane, "slow", "statement", once(slow))
    assert slow.has_begun()
    for pipeline, count in sizes.items():
        assert turns.put(lane, pipeline, "backlog", pieces(said, pipeline, count))
    turns.put(lane, "slow", "last", pieces(said, "z", 12))
    slow.may_end.set()
    turns.put(lane, "slow", "end", once(done.set))
    return done


def test_pipelines_take_turns_and_a_backlog_is_interleaved(turns: Turns) -> None:
    said: list[str] = []
    done = put_all(turns, WAREHOUSE, said, {"a": 4, "b": 2, "c": 1})
    assert done.wait(PATIENCE_SECONDS)
    for pipeline in ("slow", "a", "b", "c"):
        turns.leave(pipeline)
    others = [one for one in said if not one.startswith("z")]
    assert others == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_a_blocked_engine_stops_no_other_engine(turns: Turns) -> None:
    turns.join("a", {WAREHOUSE: 2, LAKE: 1})
    turns.join("b", {LAKE: 1})
    stuck = [Slow(), Slow()]
    for number, slow in enumerate(stuck):
        turns.put(WAREHOUSE, "a", f"stuck{number}", once(slow))
        assert slow.has_begun(), "it has the engine for itself, so it may have both places"
    for pipeline in ("a", "b"):
        ran = threading.Event()
        turns.put(LAKE, pipeline, "tick", once(ran.set))
        assert ran.wait(PATIENCE_SECONDS)
    for slow in stuck:
        slow.may_end.set()
    turns.leave("a")


def test_the_last_place_is_left_to_others(turns: Turns) -> None:
    turns.join("a", {WAREHOUSE: 2})
    turns.join("b", {WAREHOUSE: 2})
    first, second, ran = Slow(), Slow(), threading.Event()
    turns.put(WAREHOUSE, "a", "first", once(first))
    turns.put(WAREHOUSE, "a", "second", once(second))
    assert first.has_begun()
    turns.put(WAREHOUSE, "b", "tick", once(ran.set))
    assert ran.wait(PATIENCE_SECONDS)
    assert not second.began.is_set()
    assert turns.waiting("a") == 1
    first.may_end.set()
    assert second.has_begun(), "it has its turn as soon as the first has ended"
    second.may_end.set()
    turns.leave("a")


def test_who_allows_fewer_at_once_waits_until_no_more_run(turns: Turns) -> None:
    turns.join("a", {WAREHOUSE: 2})
    first, second, ran = Slow(), Slow(), threading.Event()
    for name, slow in (("first", first), ("second", second)):
        turns.put(WAREHOUSE, "a", name, once(slow))
        assert slow.has_begun()
    turns.join("b", {WAREHOUSE: 1})
    assert turns.waiting("b") == 0
    turns.put(WAREHOUSE, "b", "tick", once(ran.set))
    first.may_end.set()
    assert not ran.wait(0.1)
    second.may_end.set()
    assert ran.wait(PATIENCE_SECONDS)
    turns.leave("a")
    turns.leave("b")


def test_no_more_run_at_once_than_the_strictest_pipeline_allows(turns: Turns) -> None:
    lock, running, most, left = threading.Lock(), 0, 0, 120
    done = threading.Event()

    def work() -> Iterator[None]:
        nonlocal running, most, left
        for _piece in range(10):
            with lock:
                running += 1
                most = max(most, running)
            # Give the others every chance to come in.
            threading.Event().wait(0.0005)
            with lock:
                running -= 1
                left -= 1
                if left == 0:
                    done.set()
            yield

    for number in range(12):
        turns.join(f"p{number}", {WAREHOUSE: 3 if number else 2})
    for number in range(12):
        turns.put(WAREHOUSE, f"p{number}", "tick", work())
    assert done.wait(PATIENCE_SECONDS)
    assert most == 2


def test_the_same_work_does_not_wait_twice(turns: Turns) -> None:
    turns.join("a", {WAREHOUSE: 1})
    slow, ran = Slow(), threading.Event()
    assert turns.put(WAREHOUSE, "a", "tick", once(slow))
    assert slow.has_begun()
    assert not turns.put(WAREHOUSE, "a", "tick", once(slow))
    slow.may_end.set()
    turns.put(WAREHOUSE, "a", "other", once(ran.set))
    assert ran.wait(PATIENCE_SECONDS)
    assert turns.put(WAREHOUSE, "a", "tick", once(lambda: None)), "it has ended"
    turns.leave("a")


def test_who_leaves_waits_for_what_runs_and_nothing_of_it_runs_later(turns: Turns) -> None:
    turns.join("a", {WAREHOUSE: 1})
    turns.join("b", {WAREHOUSE: 1})
    slow, later, left = Slow(), Slow(), threading.Event()

    def two_pieces() -> Iterator[None]:
        slow()
        yield
        later()

    turns.put(WAREHOUSE, "a", "tick", two_pieces())
    assert slow.has_begun()
    turns.put(WAREHOUSE, "a", "later", once(later))

    def leave() -> None:
        turns.leave("a")
        left.set()

    thread = threading.Thread(target=leave)
    thread.start()
    ran = threading.Event()
    turns.put(WAREHOUSE, "b", "tick", once(ran.set))
    assert not left.is_set()
    slow.may_end.set()
    assert left.wait(PATIENCE_SECONDS)
    assert ran.wait(PATIENCE_SECONDS)
    after = threading.Event()
    turns.put(WAREHOUSE, "b", "after", once(after.set))
    assert after.wait(PATIENCE_SECONDS)
    assert not later.began.is_set()
    assert not turns.put(WAREHOUSE, "a", "tick", once(later))
    thread.join(PATIENCE_SECONDS)
    turns.leave("b")


def test_what_is_logged_says_whose_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "recwatch")
    turns = Turns(says_whose=True)
    for name in ("a", "b"):
        turns.join(name, {WAREHOUSE: 1})
        ran = threading.Event()
        turns.put(WAREHOUSE, name, "tick", once(lambda: log.event("judged", dataset="events")))
        turns.put(WAREHOUSE, name, "end", once(ran.set))
        assert ran.wait(PATIENCE_SECONDS)
        turns.leave(name)
    said = [record.message for record in caplog.records]
    assert said == ["judged dataset=events pipeline=a", "judged dataset=events pipeline=b"]
    log.event("judged", dataset="events")
    assert caplog.records[-1].message == "judged dataset=events"


def test_what_fails_takes_no_place_with_it(turns: Turns, caplog: pytest.LogCaptureFixture) -> None:
    turns.join("a", {WAREHOUSE: 1})

    def fail() -> None:
        raise ZeroDivisionError("by design")

    ran = threading.Event()
    turns.put(WAREHOUSE, "a", "broken", once(fail))
    turns.put(WAREHOUSE, "a", "tick", once(ran.set))
    assert ran.wait(PATIENCE_SECONDS)
    turns.leave("a")
    assert "ZeroDivisionError: by design" in caplog.text
