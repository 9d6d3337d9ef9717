"""Which items are the head, what a reference must hold, and how often chance and a loop exceed the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from checks.baseline import Baseline
from checks.check import Outcome, Verdict
from checks.dataset import ColumnType, Dataset, Kind, Role, TimeUnit, dataset_table
from checks.feedback_loop import FeedbackLoop, FeedbackLoopSettings
from checks.measure import Tally
from checks.rows import Rows
from checks.window import Window

WINDOW = Window(datetime(2026, 3, 3, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC))
ROLES = {Role.EVENT_TIME: "at", Role.ITEM: "what", Role.COHORT: "arm"}
COLUMNS = {
    "at": ColumnType(Kind.TIMESTAMP, "TIMESTAMP"), "what": ColumnType(Kind.INTEGER, "BIGINT"),
    "arm": ColumnType(Kind.TEXT, "TEXT"),
}  # fmt: skip
UNITS = {Role.EVENT_TIME: TimeUnit.NATIVE}
EVENTS = Dataset("events", dataset_table("events", COLUMNS), COLUMNS, ROLES, UNITS)
NAMED: dict[str, Any] = {"exposed": ("model",), "control": ("organic",)}
WINDOWS = 2_000
Counts = Sequence[int]


def check(**settings: Any) -> FeedbackLoop:
    return FeedbackLoop(FeedbackLoopSettings(**{**NAMED, **settings}))


def tally(exposed: Counts, control: Counts, head: set[str] | None = None) -> Tally:
    """Return what an engine counts where the items 0, 1, 2 and so on have these events in the two cohorts."""
    rows = []
    for name, counts in (("exposed", exposed), ("control", control)):
        seen = sorted(count for count in counts if count)
        weighted = sum(place * count for place, count in enumerate(seen, start=1))
        n_log_n = sum(count * math.log(count) for count in seen)
        on_head = None if head is None else sum(n for item, n in enumerate(counts) if str(item) in head)
        rows.append((name, sum(seen) or None, len(seen), weighted, n_log_n, max(seen, default=0), None, None, on_head))
    both = [(item, sum(pair)) for item, pair in enumerate(zip(exposed, control, strict=True)) if sum(pair)]
    ranking = sorted(both, key=lambda one: (-one[1], str(one[0])))[:1_000]
    return Tally("events", WINDOW, listings={"feedback_loop": rows, "ranking": ranking})


def head(built: FeedbackLoop, frozen: Baseline) -> set[str]:
    """Return the items that the statement for a window names."""
    (listing,) = built.measures(Rows(EVENTS, WINDOW), frozen)
    named = [value for value in listing.statement.compile().params.values() if isinstance(value, list)]  # type: ignore[union-attr]
    return {item for values in named for item in values} - {"model", "organic"}


def judged(built: FeedbackLoop, then: tuple[Counts, Counts], now: tuple[Counts, Counts]) -> Verdict:
    """Return the verdict on a window, held against a reference that is learnt first."""
    frozen = Baseline(frozen=built.freeze(tally(*then), EVENTS))
    on_head = set(built._head(frozen))
    (verdict,) = built.judge(tally(*now, on_head), replace(frozen, reference=tally(*then, on_head)))
    return verdict


@pytest.mark.parametrize(
    ("counts", "share", "items"),
    [
        ((30, 40, 10, 20), 0.5, {"0", "1"}),
        ((30, 40, 10, 20), 0.7, {"0", "1"}),
        ((30, 40, 10, 20), 0.71, {"0", "1", "3"}),
        ((30, 40, 10, 20), 0.01, {"1"}),
        ((30, 40, 10, 20), 1.0, {"0", "1", "2", "3"}),
        # 0.1 times 30 is a bit more than 3 to a computer.
        ((3, *[1] * 27), 0.1, {"0"}),
    ],
)
def test_the_head_is_no_larger_than_it_must_be(counts: Counts, share: float, items: set[str]) -> None:
    built = check(min_rows=1, head_share=share)
    control = [0, *counts[1:]]
    exposed = [count - other for count, other in zip(counts, control, strict=True)]
    assert head(built, Baseline(frozen=built.freeze(tally(exposed, control), EVENTS))) == items


def test_each_item_of_the_head_is_one_parameter() -> None:
    built = check(head_share=1.0)
    frozen = Baseline(frozen=built.freeze(tally([10] * 1_000, [10] * 1_000), EVENTS))
    (listing,) = built.measures(Rows(EVENTS, WINDOW), frozen)
    found = listing.statement.compile().params.values()  # type: ignore[union-attr]
    assert sum(len(value) if isinstance(value, list) else 1 for value in found) < 1_000 + 30


@pytest.mark.parametrize(
    ("exposed", "control", "said"),
    [
        ([499], [500], "only 499 exposed events in the reference, 500 are needed; choose a longer span"),
        ([500], [499], "only 499 control events in the reference, 500 are needed; choose a longer span"),
        ([500], [0], "no control events in the reference, 500 are needed; choose a longer span"),
    ],
)
def test_a_reference_with_too_little_of_a_cohort_is_none(exposed: Counts, control: Counts, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        check().freeze(tally(exposed, control), EVENTS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"exposed": ("model", "model-b")}, "has changed since the reference was built; build it anew with: "),
        ({"control": ("search",)}, "has changed since the reference was built; build it anew with: "),
        ({"head_share": 0.4}, "has changed since the reference was built; build it anew with: "),
        ({"min_rows": 501}, "only 500 exposed events in the reference, 501 are needed"),
    ],
)
def test_what_a_reference_was_not_built_for_is_not_held_against_it(settings: dict[str, Any], said: str) -> None:
    then, now = tally([400, 100], [300, 200], {"0"}), tally([600, 400], [600, 400], {"0"})
    frozen = Baseline(frozen=check().freeze(then, EVENTS), reference=then)
    (verdict,) = check(**settings).judge(now, frozen)
    assert (verdict.outcome, verdict.value) == (Outcome.UNKNOWN, None)
    assert said in verdict.reason
    assert check().judge(now, frozen)[0].outcome is Outcome.GOOD


def test_the_order_of_the_values_is_no_change() -> None:
    counted = tally([400, 100], [300, 200], {"0"})
    frozen = Baseline(frozen=check(exposed=("a", "b")).freeze(counted, EVENTS), reference=counted)
    assert check(exposed=("b", "a")).judge(counted, frozen)[0].outcome is Outcome.GOOD


def test_shares_of_0_and_1_are_not_certain() -> None:
    built = check(max_bias=0.0, min_rows=1)
    verdict = judged(built, ((10, 0), (10, 0)), ((10, 0), (9, 1)))
    assert verdict.value == pytest.approx(0.1)
    assert verdict.outcome is Outcome.GOOD


def test_absent_without_a_role_or_a_cohort() -> None:
    without = replace(EVENTS, roles={Role.EVENT_TIME: "at", Role.ITEM: "what"})
    assert check().absent(without) == "needs the role cohort"
    assert check(exposed=()).absent(EVENTS) == check(control=()).absent(EVENTS) == "needs exposed and control"
    assert check().absent(EVENTS) is None


def windows(pull: float) -> list[Verdict]:
    """Return verdicts on windows of unlike cohorts over 300 items, each with a reference of its own.

    Args:
        pull: Share of the exposed events that a loop leads to the ten most popular items.
    """
    random = np.random.default_rng(1)
    usual = 1 / np.arange(1, 301)
    exposed, control = usual / usual.sum(), usual**0.8 / (usual**0.8).sum()
    led = (1 - pull) * exposed + pull * (np.arange(300) < 10) / 10
    built, found = check(max_bias=0.0), []
    for _ in range(WINDOWS):
        then = random.multinomial(20_000, exposed), random.multinomial(3_000, control)
        now = random.multinomial(6_000, led), random.multinomial(2_000, control)
        found.append(judged(built, *[tuple(map(np.ndarray.tolist, pair)) for pair in (then, now)]))
    return found


def test_chance_alone_is_bad_once_in_a_thousand_windows() -> None:
    """Two of 2,000 are expected."""
    found = windows(0.0)
    assert sum(verdict.outcome is Outcome.BAD for verdict in found) <= 4
    biases = [verdict.value or 0.0 for verdict in found]
    assert abs(np.mean(biases)) < 4 * np.std(biases) / math.sqrt(WINDOWS)
    limits = [verdict.limit or 0.0 for verdict in found]
    assert np.std(biases) * 3.09 == pytest.approx(np.mean(limits), rel=0.05)


def test_a_loop_of_10_points_is_found() -> None:
    """Half of what it leads to the head was there already."""
    found = windows(0.2)
    assert np.mean([verdict.value or 0.0 for verdict in found]) == pytest.approx(0.1, abs=0.01)
    assert sum(verdict.outcome is Outcome.BAD for verdict in found) > 0.99 * WINDOWS
