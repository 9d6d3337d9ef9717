"""Which windows of which checks are due, in the order in which they are to be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from checks.check import Check
from checks.window import Window

Due = tuple[Check[Any], Window]


def due(
    checks: Sequence[Check[Any]], watermarks: Mapping[str, datetime | None], now: datetime, at_most: int
) -> list[list[Due]]:
    """Return the due windows as rounds; the checks of a round share their scans.

    Args:
        checks: Checks of one dataset.
        watermarks: For each check id, the end of its newest judged window.
        now: The present.
        at_most: Most windows of one check in one step.

    Returns:
        Rounds, oldest window first; a round has each check at most once, and all that end together.
    """
    ends: dict[datetime, list[Due]] = {}
    for check in checks:
        cadence = check.settings.cadence
        after = watermarks.get(check.id)
        windows = cadence.due(after, now, at_most)
        if not check.catches_up:
            # The past of the present moment can't be looked up later: only the newest is due.
            newest = cadence.newest(now)
            # One that lies ahead was judged by a clock that ran ahead, and must not blind the check until then.
            windows = (newest,) if after is None or not newest.end <= after <= now else ()
        for window in windows:
            ends.setdefault(window.end, []).append((check, window))
    rounds: list[list[Due]] = []
    for end in sorted(ends):
        # Checks settle at different times. Those that do not wait for one another share what a round costs.
        if rounds and not {check.id for check, _window in rounds[-1]} & {check.id for check, _window in ends[end]}:
            rounds[-1] += ends[end]
        else:
            rounds.append(ends[end])
    return rounds


def given_up(window: Window, now: datetime, horizon: timedelta) -> bool:
    """Return whether a window that can't be judged is too old to be tried again."""
    return window.end < now - horizon


def newest(check: Check[Any], at: datetime) -> Window:
    """Return the window of a check as of a moment: the newest settled one, or the moment itself."""
    if check.catches_up:
        window: Window = check.settings.cadence.newest(at)
        return window
    return Window(at - check.settings.window, at)
