"""How often events come: what windows and limits of a new configuration rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from checks.dataset import Dataset, Role
from checks.rows import Rows
from checks.window import EPOCH, Window
from monitor.engine import Session

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# Gaps are looked for among at most about this many rows, the newest.
MOST_ROWS = 5_000_000
# Rows that a window should hold to be judged, with some to spare for quiet hours.
ENOUGH_ROWS, ENOUGH_FOR_SHAPES = 300, 1_000
WINDOWS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, DAY)
LONG_WINDOWS = (HOUR, 6 * HOUR, DAY, 7 * DAY)
AGES = (
    5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY,
    3 * DAY, 4 * DAY, 5 * DAY, 7 * DAY, 10 * DAY, 14 * DAY, 30 * DAY,
)  # fmt: skip
EVERY = (MINUTE / 2, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR)
# A gap that is this much longer than the longest so far is worth an alarm.
MARGIN = 1.5
CHECKS_IN_AGE = 10


@dataclass(frozen=True)
class Rhythm:
    """How often events come.

    Args:
        rows: How many there are.
        span: From the first to the last.
        longest_gap: The longest time without any.
    """

    rows: int
    span: timedelta
    longest_gap: timedelta

    def window(self, windows: Sequence[timedelta], enough: int) -> timedelta:
        """Return the smallest of some windows that usually holds enough rows, or the longest."""
        per_second = self.rows / max(1.0, self.span.total_seconds())
        return next((one for one in windows if one.total_seconds() * per_second >= enough), windows[-1])

    def max_age(self) -> timedelta:
        """Return the age at which a feed is stale: longer than it ever was, with a margin."""
        return next((age for age in AGES if age >= MARGIN * self.longest_gap), AGES[-1])

    def every(self) -> timedelta:
        """Return how often to look at the age: often enough to be early, no more."""
        return next((every for every in reversed(EVERY) if every <= self.max_age() / CHECKS_IN_AGE), EVERY[0])


def rhythm(session: Session, dataset: Dataset) -> Rhythm | None:
    """Return how often the events of a dataset come, by the clock of its windows; None without a time or rows.

    Raises:
        EngineError: The dataset cannot be read.

    Cost:
        Two scans of the time column, the second one with a sort of at most five million values.
    """
    role = Role.INGESTED_AT if Role.INGESTED_AT in dataset.roles else Role.EVENT_TIME
    if role not in dataset.roles:
        return None
    at = Rows(dataset, Window(EPOCH, EPOCH + DAY)).micros(role)
    times = select(at.label("at")).select_from(dataset.table).where(at.is_not(None)).subquery("times")
    columns: list[Any] = [func.count(), func.min(times.c.at), func.max(times.c.at)]
    count, first, last = session.run(select(*columns), 1, f"times of {dataset.name}")[0]
    if not count or last <= first:
        return None
    since = last - int((last - first) * min(1.0, MOST_ROWS / count))
    gaps = select((times.c.at - func.lag(times.c.at).over(order_by=times.c.at)).label("gap"))
    found = gaps.where(times.c.at >= since).subquery("gaps")
    longest_of: sa.Select[Any] = select(func.max(found.c.gap))
    longest = session.run(longest_of, 1, f"gaps of {dataset.name}")[0][0]
    return Rhythm(int(count), timedelta(microseconds=int(last - first)), timedelta(microseconds=int(longest or 0)))
