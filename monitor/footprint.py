"""Keeps the resting daemon small: between ticks, memory that nobody uses goes back to the system (Linux)."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import time
from pathlib import Path

# What is mapped from a file for reading, code or constants, and no page of it was changed since, in memory or in
# swap: what is dropped is read again when it is needed, from the file or from the system's cache of it. What was
# changed is lost when it is dropped, so one such page keeps the whole of it: the addresses that the loader filled in.
_UNCHANGED = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]\d* +/.*\n(?:[A-Z].*\n)*?"
    r"Anonymous: +0 kB\n(?:[A-Z].*\n)*?Swap: +0 kB$",
    re.MULTILINE,
)
_DONTNEED = 4
# The least work, in CPU seconds, after which there is something to give back.
WORTH_IT_SECONDS = 0.1
# A collection of cyclic garbage is followed by none for so many times what it took.
COLLECT_EVERY = 1000


class Footprint:
    """Gives memory back after work.

    DuckDB's code alone is 37 MB when it has run, and a third of it is needed again in the usual tick; its constants
    are 12 MB, read when it is loaded. The allocator of the C library keeps what was freed. SQLAlchemy's statements
    refer to themselves, so that they go only when the collector of cyclic garbage comes: by itself after several ticks,
    whose objects lie between those that stay. Elsewhere than on Linux nothing is done.
    """

    def __init__(self) -> None:
        self._worked, self._collect_at = 0.0, 0.0
        self._library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        if self._library is not None:
            self._library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def settle(self) -> bool:
        """Give back what the work since the last call has left; return whether there was any work.

        Cost:
            3 ms, and as much again for the code that the next tick runs. The collection takes 20 to 40 ms of a daemon
            of 20 checks, and at most a thousandth of a core.
        """
        if self._library is None or time.process_time() - self._worked < WORTH_IT_SECONDS:
            return False
        self._collect()
        # The C libraries of other systems lack it.
        trim = getattr(self._library, "malloc_trim", None)
        if trim is not None:
            trim(0)
        for start, end in unchanged():
            self._library.madvise(start, end - start, _DONTNEED)
        self._worked = time.process_time()
        return True

    def _collect(self) -> None:
        begun = time.monotonic()
        if begun >= self._collect_at:
            gc.collect()
            ended = time.monotonic()
            self._collect_at = ended + COLLECT_EVERY * (ended - begun)


def unchanged() -> list[tuple[int, int]]:
    """Return the addresses of what this process reads from files and has not changed: start and end of each."""
    maps = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace")
    return [(int(start, 16), int(end, 16)) for start, end in _UNCHANGED.findall(maps)]
