"""Whose turn it is: one queue for each engine, in which pipelines take turns and none takes every place.

Nothing that waits holds a thread. Work is cut into pieces (a window, say); after each piece it goes back
to the end of its pipeline's line, and the next pipeline has its turn. So a backlog of one, or its slow
statements, make the others wait for one piece at most.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from monitor import log


@dataclass
class _Work:
    pipeline: str
    name: str
    pieces: Iterator[None]


@dataclass
class _Lane:
    """What waits for one engine, and what runs there.

    Args:
        most: How many pieces each pipeline would let run at once; the least of them holds.
        lines: What waits, by pipeline, in the order of their turns.
        running: How many pieces run, by pipeline.
        threads: How many threads take work from here.
    """

    most: dict[str, int] = field(default_factory=dict)
    lines: dict[str, deque[_Work]] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)
    threads: int = 0

    @property
    def places(self) -> int:
        """How many pieces may run at once."""
        return min(self.most.values(), default=1)

    def next(self) -> _Work | None:
        """Take the next piece that may run; its pipeline goes to the end of the round."""
        # The last place is never taken by a pipeline that has all others: it would shut the rest out.
        each = self.places if len(self.most) < 2 else max(1, self.places - 1)
        if self.running.total() >= self.places:
            return None
        for pipeline, line in self.lines.items():
            if line and self.running[pipeline] < each:
                self.lines[pipeline] = self.lines.pop(pipeline)
                self.running[pipeline] += 1
                return line.popleft()
        return None


class Turns:
    """Runs pieces of work in threads of its own, which end as soon as nothing waits.

    Args:
        says_whose: Whether what is logged meanwhile names the pipeline.
    """

    def __init__(self, says_whose: bool = False) -> None:
        self._says_whose = says_whose
        self._changed = threading.Condition()
        self._lanes: dict[str, _Lane] = {}
        # What waits or runs, so that no work is there twice.
        self._known: set[tuple[str, str]] = set()
        self._left: set[str] = set()

    def join(self, pipeline: str, lanes: Mapping[str, int]) -> None:
        """Say which lanes a pipeline uses from now on, and how many pieces it lets run there at once."""
        with self._changed:
            self._left.discard(pipeline)
            for lane in self._lanes.values():
                lane.most.pop(pipeline, None)
            for name, most in lanes.items():
                self._lanes.setdefault(name, _Lane()).most[pipeline] = most

    def put(self, lane: str, pipeline: str, name: str, pieces: Iterator[None]) -> bool:
        """Let work wait for its turns; return False if work of that name still waits or runs.

        Args:
            lane: Where it runs.
            pipeline: Whose it is.
            name: What it is, within the pipeline.
            pieces: Does one piece each time that it is asked for the next.
        """
        with self._changed:
            if pipeline in self._left or (pipeline, name) in self._known:
                return False
            self._known.add((pipeline, name))
            found = self._lanes.setdefault(lane, _Lane())
            found.lines.setdefault(pipeline, deque()).append(_Work(pipeline, name, pieces))
            self._staff(found)
        return True

    def drop(self, pipeline: str, lanes: Iterable[str]) -> None:
        """Forget what waits in some lanes; what runs ends with its piece."""
        with self._changed:
            for name in lanes:
                for work in self._lanes[name].lines.pop(pipeline, ()) if name in self._lanes else ():
                    self._known.discard((pipeline, work.name))

    def leave(self, pipeline: str) -> None:
        """Take no more work of a pipeline, forget what waits, and wait for the pieces that run."""
        with self._changed:
            self._left.add(pipeline)
        self.drop(pipeline, list(self._lanes))
        with self._changed:
            self._changed.wait_for(lambda: not any(lane.running[pipeline] for lane in self._lanes.values()))
            for lane in self._lanes.values():
                lane.most.pop(pipeline, None)
            # Lanes that nobody uses any more are closed.
            self._lanes = {name: lane for name, lane in self._lanes.items() if lane.most or lane.threads}

    def waiting(self, pipeline: str) -> int:
        """Return how many pieces of work of a pipeline wait for their turn."""
        with self._changed:
            return sum(len(lane.lines.get(pipeline, ())) for lane in self._lanes.values())

    def _staff(self, lane: _Lane) -> None:
        # One more thread for what was added; those that find nothing to do end.
        if lane.threads < lane.places:
            lane.threads += 1
            threading.Thread(target=self._run, args=(lane,), name=f"turns-{lane.threads}", daemon=True).start()

    def _run(self, lane: _Lane) -> None:
        while True:
            with self._changed:
                work = lane.next()
                if work is None:
                    lane.threads -= 1
                    self._changed.notify_all()
                    return
            if self._says_whose:
                log.whose.set(work.pipeline)
            has_more = _does_more(work)
            with self._changed:
                lane.running[work.pipeline] -= 1
                if has_more and work.pipeline in lane.most and work.pipeline not in self._left:
                    lane.lines.setdefault(work.pipeline, deque()).append(work)
                else:
                    self._known.discard((work.pipeline, work.name))
                self._changed.notify_all()


def _does_more(work: _Work) -> bool:
    """Do one piece; return whether more is left."""
    try:
        next(work.pieces)
    except StopIteration:
        return False
    except Exception as error:
        # What is expected to fail is caught where it is known what that means.
        log.error("work_failed", pipeline=work.pipeline, work=work.name, error=f"{type(error).__name__}: {error}")
        return False
    return True


def once(call: Callable[[], None]) -> Iterator[None]:
    """Return a call as work of one piece."""
    call()
    yield from ()
