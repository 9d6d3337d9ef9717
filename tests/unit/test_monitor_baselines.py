"""When a reference is built by itself, and of what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from checks.contract import Contract, ContractSettings
from checks.duplicates import Duplicates, DuplicatesSettings
from checks.feature_drift import FeatureDrift, FeatureDriftSettings
from checks.measure import Tally
from checks.window import Window
from monitor.baselines import is_due, reference_span
from monitor.records import SavedBaseline

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
HOUR, DAY, TICK = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
DRIFT, CONTRACT = FeatureDrift(FeatureDriftSettings()), Contract(ContractSettings())


def test_a_reference_is_renewed_when_it_is_old_unless_it_is_pinned_or_a_contract() -> None:
    span = Window(NOW - 9 * DAY, NOW - 2 * DAY)
    saved = SavedBaseline("events", "feature_drift", span, NOW - DAY, False, {}, Tally("events", span))
    assert is_due(saved, DRIFT, NOW, DAY)
    assert not is_due(saved, DRIFT, NOW, DAY + TICK)
    assert not is_due(replace(saved, pinned=True), DRIFT, NOW, DAY)
    assert not is_due(saved, CONTRACT, NOW, DAY), "one that renewed itself would accept every change"


def test_a_reference_that_is_missing_is_built_where_there_is_one() -> None:
    assert is_due(None, DRIFT, NOW, DAY)
    assert is_due(None, CONTRACT, NOW, DAY)
    assert not is_due(None, Duplicates(DuplicatesSettings()), NOW, DAY)


def test_a_reference_ends_where_the_window_under_test_begins() -> None:
    assert reference_span(DRIFT, NOW, 7 * DAY) == Window(NOW - HOUR - 7 * DAY, NOW - HOUR)
