"""Tiers of the SRE workbook: its factors, and which of them make sense for an objective and an interval."""

from __future__ import annotations

from datetime import timedelta

import pytest

from alerts.burn import DAILY, PRESETS, SUSTAINED, WORKBOOK, Tier

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_the_tiers_are_those_of_the_workbook() -> None:
    assert [(tier.severity, tier.long, tier.short) for tier in WORKBOOK] == [
        ("critical", HOUR, 5 * MINUTE), ("critical", 6 * HOUR, 30 * MINUTE),
        ("warning", DAY, 2 * HOUR), ("warning", 3 * DAY, 6 * HOUR),
    ]  # fmt: skip
    assert [tier.factor(30 * DAY) for tier in WORKBOOK] == pytest.approx([14.4, 6, 3, 1])
    assert [tier.factor(28 * DAY) for tier in WORKBOOK] == pytest.approx([13.44, 5.6, 2.8, 28 / 30])
    assert (SUSTAINED.factor(28 * DAY), DAILY.factor(28 * DAY)) == (5, 1)
    tickets = ("ticket_fast", "ticket_slow")
    assert {name: tuple(tier.name for tier in tiers) for name, tiers in PRESETS.items()} == {
        "workbook": ("page_fast", "page_slow", *tickets), "sustained-5x": ("page_sustained", *tickets),
        "page-slow": ("page_slow", *tickets), "tickets": tickets,
    }  # fmt: skip


def test_a_total_outage_fires_once_the_long_window_is_as_bad_as_the_threshold() -> None:
    assert WORKBOOK[0].time_to_fire(0.99, 30 * DAY) == timedelta(minutes=8, seconds=38.4)
    assert SUSTAINED.time_to_fire(0.99, 28 * DAY) == 18 * MINUTE


def test_a_tier_that_only_more_than_a_total_outage_exceeds_makes_no_sense() -> None:
    tier = Tier("page", "critical", HOUR, 5 * MINUTE, burn_rate=2)
    assert tier.why_not(0.5, DAY, MINUTE) == "can never fire: 2 x 0.5 is 1, not below 1"
    assert tier.why_not(0.51, DAY, MINUTE) is None


def test_a_tier_whose_short_window_holds_one_check_makes_no_sense() -> None:
    assert SUSTAINED.why_not(0.99, 28 * DAY, 15 * MINUTE) is None
    too_fast = "is too fast: its short window of 30 min holds fewer than 2 checks at one every 16 min"
    assert SUSTAINED.why_not(0.99, 28 * DAY, 16 * MINUTE) == too_fast
    assert "of 2 h holds fewer than 2 checks at one every 2 h" in str(WORKBOOK[2].why_not(0.99, 28 * DAY, 2 * HOUR))
