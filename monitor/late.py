"""Late rows: finds the windows that have more rows now than when they were judged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import gcd
from typing import Any

from checks.check import Check
from checks.window import EPOCH, Window
from monitor.runner import LATE, Runner
from monitor.schedule import Due
from monitor.store import Store

# Bounds what one recount brings back; with many short windows it looks less far back.
MOST_CELLS = 5_000


def reopened(runner: Runner, store: Store, dataset: str, checks: Sequence[Check[Any]], span: Window) -> list[list[Due]]:
    """Return the windows to judge again, as rounds of one check each, oldest first.

    Windows with fewer rows than before stay closed: rows that were deleted by retention are no
    reason to forget what was found in them.

    Args:
        runner: Counts the rows anew.
        store: Knows how many rows each window had.
        dataset: Name of the dataset.
        checks: Its checks; those without a count of late rows are left out.
        span: How far back to look, up to now.

    Raises:
        EngineError: The rows cannot be counted.

    Cost:
        One scan of the time column over the span for each clock and width of windows.
    """
    rounds: list[list[Due]] = []
    counted: dict[tuple[Any, timedelta], dict[datetime, int]] = {}
    for check in checks:
        if check.late_count is None:
            continue
        cell = _cell(check)
        look_back = Window(max(span.start, span.end - MOST_CELLS * cell), span.end)
        judged = store.figures(dataset, check.id, look_back, LATE)
        if not judged:
            continue
        key = (type(check).clock, cell)
        if key not in counted:
            counted[key] = runner.recount(dataset, check, look_back, cell)
        for window in sorted(judged):
            # A clock that ran ahead has judged windows that are still open.
            is_over = window.end + check.settings.settle <= span.end
            if is_over and _rows(counted[key], window, cell) > judged[window]:
                rounds.append([(check, window)])
    return rounds


def _cell(check: Check[Any]) -> timedelta:
    """Return the widest cell that tiles every window of a check."""
    settings = check.settings
    return timedelta(seconds=gcd(int(settings.every.total_seconds()), int(settings.window.total_seconds())))


def _rows(cells: dict[datetime, int], window: Window, cell: timedelta) -> int:
    first = EPOCH + ((window.start - EPOCH) // cell) * cell
    return sum(cells.get(first + cell * step, 0) for step in range(window.duration // cell))
