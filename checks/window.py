"""Time: the half-open window that a row belongs to, and which windows are due when.

No clock is read here. Every function takes the moment it should reason about.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return the whole microseconds from the Unix epoch to a zoned moment.

    Examples:
        >>> micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
        1000000
    """
    return (moment - EPOCH) // MICROSECOND


def moment(epoch_micros: int) -> datetime:
    """Return the UTC moment that lies this many microseconds after the Unix epoch.

    Examples:
        >>> moment(1_000_000).isoformat()
        '1970-01-01T00:00:01+00:00'
    """
    return EPOCH + timedelta(microseconds=epoch_micros)


@dataclass(frozen=True, order=True)
class Window:
    """A half-open interval ``[start, end)`` in UTC; a row at ``end`` belongs to the next one."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"window bounds must carry a time zone, got {self.start} to {self.end}")
        if self.end <= self.start:
            raise ValueError(f"window must end after its start, got {self.start} to {self.end}")

    @property
    def duration(self) -> timedelta:
        """Length of the window."""
        return self.end - self.start

    def __str__(self) -> str:
        """Return the window as people read it, in UTC and without needless parts."""
        start, end = self.start.astimezone(UTC), self.end.astimezone(UTC)
        clock = "%H:%M:%S" if start.second or end.second else "%H:%M"
        first = start.strftime(f"%Y-%m-%d {clock}")
        last = end.strftime(clock if start.date() == end.date() else f"%Y-%m-%d {clock}")
        return f"{first} to {last} UTC"


@dataclass(frozen=True)
class Cadence:
    """How often a check runs, over how much time, and how long after the window's end.

    Windows end at multiples of ``every`` since the Unix epoch, so that every process that
    watches the same data agrees on them. With ``every == length`` they tile the time line.

    Args:
        every: Distance between the ends of two windows; above zero.
        length: How much time one window covers; above zero.
        settle: How long after its end a window may still receive rows.
    """

    every: timedelta
    length: timedelta
    settle: timedelta = timedelta(0)

    def newest(self, now: datetime) -> Window:
        """Return the newest window that has ended and settled at ``now``."""
        settled = now - self.settle - EPOCH
        end = EPOCH + (settled // self.every) * self.every
        return Window(end - self.length, end)

    def due(self, after: datetime | None, now: datetime, at_most: int) -> tuple[Window, ...]:
        """Return the windows to judge now, oldest first.

        Args:
            after: End of the last window that was judged; None on the very first run, which
                starts with the newest window and leaves history to ``baseline build``.
            now: The present.
            at_most: Bound on the number of windows of one step, so that catching up after a
                long downtime does not block; the rest is due at the next call.

        Returns:
            No window, or windows in order without a gap after ``after``. Where that lies off the multiples, as
            ``every`` was another then, the first of windows that tile the time line is shorter.
        """
        newest = self.newest(now)
        if after is None:
            return (newest,)
        last = after - (after - EPOCH) % self.every
        missed = (newest.end - last) // self.every
        ends = [last + self.every * step for step in range(1, min(missed, at_most) + 1)]
        starts = [end - self.length for end in ends]
        if ends and self.length == self.every:
            starts[0] = after
        return tuple(map(Window, starts, ends))
