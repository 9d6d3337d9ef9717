"""Times one run of a peer in a process of its own; with the standard library alone, since a peer may have no more."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

# The day that is judged.
START, END = datetime(2025, 3, 4), datetime(2025, 3, 5)
PLACEHOLDERS = ("", "null", "none", "undefined", "nan", "0", "-1", "00000000-0000-0000-0000-000000000000")
EVENT_TYPES = ("view", "click", "cart", "purchase")
COLUMNS = (
    "event_id", "user_id", "item_id", "event_type", "event_time", "ingested_at", "source",
    "value", "device", "app_version", "position",
)  # fmt: skip


def report(run: Callable[[Path], Any]) -> None:
    """Run a peer over the folder that the command line names; print seconds, peak memory and what it found."""
    started = time.perf_counter()
    found = run(Path(sys.argv[1]))
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "found": found}, default=str))


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB (10^6 bytes)."""
    try:
        # Unlike getrusage's figure this one does not begin with that of the parent process.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
