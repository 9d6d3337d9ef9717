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
        long: The window that says that it matters.
        short: The window that says that it still goes on.
        budget_share: Share of the period's budget that the long window may spend.
        burn_rate: How many times too fast the budget may burn, whatever the period; instead of a share.
    """

    name: str
    severity: str
    long: timedelta
    short: timedelta
    budget_share: float = 0.0
    burn_rate: float = 0.0

    def factor(self, period: timedelta) -> float:
        """Return how many times too fast the budget burns when this tier fires.

        Examples:
            >>> round(WORKBOOK[0].factor(timedelta(days=30)), 2), round(WORKBOOK[0].factor(timedelta(days=28)), 2)
            (14.4, 13.44)
        """
        return self.burn_rate or self.budget_share * (period / self.long)

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
    Tier("page_fast", "critical", HOUR, timedelta(minutes=5), 0.02),
    Tier("page_slow", "critical", 6 * HOUR, timedelta(minutes=30), 0.05),
    Tier("ticket_fast", "warning", 24 * HOUR, 2 * HOUR, 0.10),
    Tier("ticket_slow", "warning", 72 * HOUR, 6 * HOUR, 0.10),
)
TICKETS = tuple(tier for tier in WORKBOOK if tier.severity == "warning")
# Pages when the budget burns more than five times too fast for a sustained window.
SUSTAINED = Tier("page_sustained", "critical", 6 * HOUR, timedelta(minutes=30), burn_rate=5)
# For checks that run too rarely for any other: two bad days within a week.
DAILY = Tier("ticket_daily", "warning", timedelta(days=7), timedelta(days=2), 0.25)
PRESETS: Mapping[str, tuple[Tier, ...]] = {
    "workbook": WORKBOOK,
    "sustained-5x": (SUSTAINED, *TICKETS),
    "page-slow": (WORKBOOK[1], *TICKETS),
    "tickets": TICKETS,
}
