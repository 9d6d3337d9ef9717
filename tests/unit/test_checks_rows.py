"""Rows and scans where nothing of an engine is needed: whose names are told apart, and what one scan may hold."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import DateTime, column, func, literal, table

from checks.dataset import ColumnType, Dataset, Kind, Role, TimeUnit
from checks.fuse import fuse
from checks.measure import Aggregate, Measure
from checks.rows import ALL_SOURCES, FARTHEST, Rows, is_source
from checks.window import Window

WINDOW = Window(datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(2026, 3, 3, 13, tzinfo=UTC))


def test_a_source_is_told_apart_up_to_300_characters_and_none_by_a_name_of_ours() -> None:
    assert [is_source(name) for name in ("ios", "x" * 300, "x" * 301, "other", "(none)", ALL_SOURCES)] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


def test_the_difference_of_the_farthest_times_fits_into_64_bits() -> None:
    assert FARTHEST + FARTHEST < 2**63
    assert datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1e6 < FARTHEST


def test_a_scan_gives_a_name_one_meaning() -> None:
    at, role = column("at", DateTime()), Role.EVENT_TIME
    dataset = Dataset(
        "events", table("events", at), {"at": ColumnType(Kind.TIMESTAMP, "TIMESTAMP")}, {role: "at"},
        {role: TimeUnit.NATIVE},
    )  # fmt: skip

    def measure(meaning: int) -> Measure:
        return Measure(Rows(dataset, WINDOW), {"n": Aggregate(func.sum(column("x")))}, {"x": literal(meaning)})

    assert len(fuse([measure(1), measure(1)])) == 1
    with pytest.raises(ValueError, match="two measures derive x in different ways; give one another name"):
        fuse([measure(1), measure(2)])
