"""Ingestion over all sources: the sum of the sources where each is told apart, and rows of none set off against all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as some

from checks.ingestion import Ingestion, IngestionSettings, _together, stages
from checks.measure import Tally
from checks.window import Window

START = datetime(2026, 3, 3, 12, tzinfo=UTC)
counts = some.integers(0, 30)


def source(sent: int, landed: int, invalid: int, rejected: int) -> dict[str, int]:
    return stages({"sent": sent, "landed": landed, "invalid": min(invalid, landed), "rejected": rejected})


sources = some.builds(source, counts, counts, counts, counts)


@given(some.dictionaries(some.sampled_from(["ios", "web", "tv"]), sources, min_size=1))
def test_sources_that_are_told_apart_add_up(apart: dict[str, dict[str, int]]) -> None:
    whole = _together(apart)
    assert whole == {name: sum(parts[name] for parts in apart.values()) for name in whole}


@given(some.dictionaries(some.sampled_from(["ios", "web", "(none)", "other"]), sources, min_size=1))
def test_what_has_no_source_makes_up_for_losses_and_never_for_more(apart: dict[str, dict[str, int]]) -> None:
    whole = _together(apart)
    alone = {name: sum(parts[name] for parts in apart.values()) for name in whole}
    assert alone["good"] <= whole["good"] <= whole["total"]
    made_up = alone["silent_drop"] - whole["silent_drop"]
    assert 0 <= made_up == alone["surplus"] - whole["surplus"]
    assert whole["good"] - alone["good"] <= made_up
    assert min(whole["silent_drop"], whole["surplus"]) >= 0


@given(some.dictionaries(some.sampled_from(["ios", "web", "(none)", "other"]), sources, min_size=1))
def test_counters_add_up_to_the_verdict_on_all_sources(apart: dict[str, dict[str, int]]) -> None:
    whole = _together(apart)
    tally = Tally("events", Window(START, START + timedelta(hours=1)), by_source=apart)
    counted = Ingestion(IngestionSettings()).counters(tally)
    ok, failed = (
        sum(sample.value for sample in counted if sample.labels["result"] == name) for name in ("ok", "failed")
    )
    assert (ok, failed) == (whole["good"], whole["total"] - whole["good"])
    assert min(sample.value for sample in counted) >= 0


def test_a_dead_letter_without_a_source_is_no_second_loss() -> None:
    whole = _together({"ios": source(100, 90, 0, 0), "(none)": source(0, 0, 0, 10)})
    assert (whole["good"], whole["rejected"], whole["silent_drop"], whole["surplus"]) == (90, 10, 0, 0)


def test_rows_that_lost_their_source_have_landed() -> None:
    whole = _together({"ios": source(100, 90, 0, 0), "(none)": source(0, 10, 0, 0)})
    assert (whole["good"], whole["silent_drop"], whole["surplus"]) == (100, 0, 0)


def test_sends_of_a_source_by_another_name_have_landed() -> None:
    whole = _together({"ios": source(0, 100, 0, 0), "other": source(100, 0, 0, 0)})
    assert (whole["good"], whole["total"], whole["silent_drop"], whole["surplus"]) == (100, 100, 0, 0)
