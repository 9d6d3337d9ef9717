"""Burn-rate tiers: how fast an error budget may be spent before somebody is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

HOUR = timedelta(hours=1)
# A check must run at least this often within a tier's short window, or one result decides alone.
CHECKS_IN_SHORT = 2


@dataclass(frozen=True)
class Tier:
    """Two windows that must both burn faster than a factor of what the budget allows.

    Args:
        name: Its name, a label.
        severity: ``critical`` (page) or ``warning`` (ticket).
        budget_share: Share of the period's budget that the long window may spend.
        long: The window that says that it matters.
        short: The window that says that it still goes on.
    """

    name: str
    severity: str
    budget_share: float
    long: timedelta
    short: timedelta

    def factor(self, period: timedelta) -> float:
        """Return how many times too fast the budget burns when this tier fires.

        Examples:
            >>> round(WORKBOOK[0].factor(timedelta(days=30)), 2), round(WORKBOOK[0].factor(timedelta(days=28)), 2)
            (14.4, 13.44)
        """
        return self.budget_share * (period / self.long)

    def threshold_ratio(self, objective: float, period: timedelta) -> float:
        """Return the bad ratio above which this tier fires; 1 or more can never be exceeded.

        Examples:
            >>> round(WORKBOOK[0].threshold_ratio(0.99, timedelta(days=30)), 3)
            0.144
        """
        return self.factor(period) * (1 - objective)

    def time_to_fire(self, objective: float, period: timedelta) -> timedelta:
        """Return how long a total outage lasts until this tier fires, before any rounding by checks.

        Examples:
            >>> str(WORKBOOK[0].time_to_fire(0.99, timedelta(days=30)))
            '0:08:38.400000'
        """
        return timedelta(seconds=round(self.threshold_ratio(objective, period) * self.long.total_seconds(), 6))

    def why_not(self, objective: float, period: timedelta, interval: timedelta) -> str | None:
        """Return why this tier makes no sense for an objective and a check interval, or None if it does."""
        threshold = self.threshold_ratio(objective, period)
        if threshold >= 1:
            return f"can never fire: {self.factor(period):.3g} x {1 - objective:.3g} is {threshold:.3g}, not below 1"
        if self.short < CHECKS_IN_SHORT * interval:
            return (
                f"is too fast: its short window of {_text(self.short)} holds fewer than"
                f" {CHECKS_IN_SHORT} checks at one every {_text(interval)}"
            )
        return None


def _text(duration: timedelta) -> str:
    minutes = duration.total_seconds() / 60
    return f"{minutes:g} min" if minutes < 120 else f"{minutes / 60:g} h"


# The four tiers of the SRE workbook, chapter 5; shares are kept and factors follow the period.
WORKBOOK = (
    Tier("page_fast", "critical", 0.02, HOUR, timedelta(minutes=5)),
    Tier("page_slow", "critical", 0.05, 6 * HOUR, timedelta(minutes=30)),
    Tier("ticket_fast", "warning", 0.10, 24 * HOUR, 2 * HOUR),
    Tier("ticket_slow", "warning", 0.10, 72 * HOUR, 6 * HOUR),
)


def sustained(factor: float, long: timedelta, short: timedelta, period: timedelta) -> Tier:
    """Return the page that fires when the budget burns ``factor`` times too fast for a sustained window."""
    return Tier("page_sustained", "critical", factor * (long / period), long, short)


def presets(period: timedelta) -> Mapping[str, tuple[Tier, ...]]:
    """Return the named sets of tiers for a period."""
    five = sustained(5, 6 * HOUR, timedelta(minutes=30), period)
    tickets = tuple(tier for tier in WORKBOOK if tier.severity == "warning")
    return {
        "workbook": WORKBOOK,
        "sustained-5x": (five, *tickets),
        "page-slow": (WORKBOOK[1], *tickets),
        "tickets": tickets,
    }
