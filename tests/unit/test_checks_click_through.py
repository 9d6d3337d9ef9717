"""Click-through: what chance is allowed for between users and between windows, and what it costs to hold them apart."""

from __future__ import annotations

from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy import stats

from checks.baseline import Baseline, Past
from checks.check import Outcome, Verdict
from checks.click_through import ClickThrough, ClickThroughSettings, Cohort
from checks.measure import Tally
from checks.window import Window

HOUR = timedelta(hours=1)
NOW = Window(datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(2026, 3, 3, 13, tzinfo=UTC))
TYPES: dict[str, Any] = {"shown_types": ("view",), "hit_types": ("click",)}
COHORTS: dict[str, Any] = {**TYPES, "exposed": ("new",), "control": ("old",)}


def cohort(draw: np.random.Generator, users: int, rate: float) -> Cohort:
    """Return the sums over users who see few or very many things, and like them more or less."""
    shown = np.ceil(draw.lognormal(1.0, 1.2, users))
    hits = draw.binomial(shown.astype(int), np.clip(rate * draw.gamma(2.0, 0.5, users), 0, 1))
    squares = (np.sum(shown * shown), np.sum(hits * hits), np.sum(shown * hits))
    return Cohort(float(users), float(users), float(shown.sum()), float(hits.sum()), *map(float, squares))


def uplift(exposed: Cohort, control: Cohort, **settings: Any) -> Verdict:
    check = ClickThrough(ClickThroughSettings(**COHORTS, **{"min_users": 2, **settings}))
    rows = [("exposed", *astuple(exposed)), ("control", *astuple(control))]
    found = check.judge(Tally("events", NOW, {"shown": 0, "hits": 0}, listings={"cohorts": rows}), Baseline())
    return next(verdict for verdict in found if verdict.feature == "uplift")


def rated(hits: int, shown: int, *usual: float) -> Verdict:
    check = ClickThrough(ClickThroughSettings(**TYPES, min_rows=1, relative_floor=0.0))
    ends = [NOW.end - hours * HOUR for hours in range(10, 0, -1)]
    past = Past(ends, {"rate": usual * (10 // len(usual))})
    return check.judge(Tally("events", NOW, {"shown": shown, "hits": hits}), Baseline(past=past))[0]


def test_the_variance_of_a_rate_is_that_of_many_draws() -> None:
    draw = np.random.default_rng(1)
    drawn = [cohort(draw, 2_000, 0.05) for _ in range(2_000)]
    found = float(np.mean([one.log_variance for one in drawn]))
    seen = float(np.var([np.log(one.rate) for one in drawn]))
    assert found == pytest.approx(seen, rel=0.1)
    # Were rows drawn, not users, it would be the inverse of the hits: a third less.
    assert seen > 1.4 / float(np.mean([one.hits for one in drawn]))


def test_cohorts_that_do_not_differ_are_bad_once_in_a_thousand_at_most() -> None:
    draw = np.random.default_rng(2)
    bad = sum(uplift(cohort(draw, 1_000, 0.05), cohort(draw, 1_000, 0.05)).outcome is Outcome.BAD for _ in range(4_000))
    # Four are expected; more than eleven come with a probability of 0.1 %.
    assert bad <= 11


def test_a_small_hold_out_is_bad_three_times_in_a_thousand_at_most() -> None:
    """The logarithm of few hits is skewed: with as many on both sides that cancels out, with one small side not."""
    draw = np.random.default_rng(6)
    exposed = cohort(draw, 200_000, 0.004)
    controls = [cohort(draw, 1_000, 0.004) for _ in range(2_000)]
    bad = sum(uplift(exposed, one, exposed_share=0.995).outcome is Outcome.BAD for one in controls)
    # Six are expected; more than fourteen come with a probability of 0.1 %.
    assert bad <= 14


def test_a_third_less_is_found_and_may_be_allowed() -> None:
    draw = np.random.default_rng(3)
    exposed, control = cohort(draw, 20_000, 0.04), cohort(draw, 20_000, 0.06)
    found = uplift(exposed, control)
    assert found.outcome is Outcome.BAD
    least, most = found.details["uplift_low"], found.details["uplift_high"]
    assert least < found.value < most < found.limit == 0.0  # type: ignore[operator]
    assert found.details["bound"] == "at least"
    assert not {"low", "high"} & {*found.details}, "they would be shown as a usual band"
    assert found.value == pytest.approx(-1 / 3, abs=0.05)
    assert uplift(exposed, control, max_loss=0.4).outcome is Outcome.GOOD
    assert uplift(control, exposed).outcome is Outcome.GOOD


def test_an_uplift_of_many_times_is_said_in_whole_numbers() -> None:
    low, high = (
        Cohort(100.0, 100.0, 1_000.0, hits, 10_000.0, hits * hits / 100, 10 * hits) for hits in (50.0, 1_000.0)
    )
    assert uplift(high, low).reason.endswith("the control 5 %: +1,900 %, between +1,900 % and +1,900 %")


@pytest.mark.parametrize("share", [0.5, 0.1, 0.9])
def test_a_split_is_wrong_where_chi_square_says_so(share: float) -> None:
    users = 10_000
    for exposed in range(round(users * share) - 220, round(users * share) + 221, 4):
        cohorts = [Cohort(n, n, 10.0 * n, 1.0 * n, 100.0 * n, 1.0 * n, 10.0 * n) for n in (exposed, users - exposed)]
        by_scipy = stats.chisquare([exposed, users - exposed], [users * share, users * (1 - share)]).pvalue
        found = uplift(*cohorts, exposed_share=share)
        assert ("sample-ratio mismatch" in found.reason) == (by_scipy < 0.001), exposed


@pytest.mark.parametrize("expected", [2, 20, 200, 5_000])
def test_a_rate_that_stays_leaves_its_band_twice_in_a_thousand_windows_at_most(expected: int) -> None:
    draw, usual = np.random.default_rng(expected), 0.04
    shown = round(expected / usual)
    found = [rated(int(hits), shown, usual).outcome for hits in draw.poisson(expected, 5_000)]
    # Ten are expected on both sides together; more than twenty come with a probability of 0.1 %.
    assert sum(outcome is Outcome.BAD for outcome in found) <= 20


@pytest.mark.parametrize("expected", [0.3, 0.6, 1.0, 2.0])
def test_hits_so_rare_that_most_windows_have_none_are_not_bad(expected: float) -> None:
    draw = np.random.default_rng(4)
    windows = [draw.poisson(expected, 11).tolist() for _ in range(2_000)]
    found = [rated(now, 500, *(hits / 500 for hits in past)).outcome for now, *past in windows]
    # Four are expected on both sides together; more than eleven come with a probability of 0.1 %.
    assert sum(outcome is Outcome.BAD for outcome in found) <= 11


@pytest.mark.parametrize(("hits", "says"), [(100, "2 %"), (400, "8 %")])
def test_a_rate_that_halves_or_doubles_is_bad(hits: int, says: str) -> None:
    found = rated(hits, 5_000, 0.04)
    assert found.outcome is Outcome.BAD
    assert found.reason == f"{says}: {hits} hits of 5,000 shown, against a usual 4 %"
    assert (found.value < found.limit) == (hits == 100)  # type: ignore[operator]


def test_what_is_shown_and_hit_is_counted_once() -> None:
    check = ClickThrough(ClickThroughSettings(**TYPES))
    whole = {"shown": 30, "hits": 3}
    apart = Tally("events", NOW, whole, {"ios": {"shown": 20, "hits": 1}, "(none)": {"shown": 10, "hits": 2}})
    for tally, sources in ((apart, {"ios", "(none)"}), (Tally("events", NOW, whole, {"(all)": whole}), {"(all)"})):
        samples = check.counters(tally)
        assert {sample.labels["source"] for sample in samples} == sources
        for result, n in (("shown", 30), ("hit", 3)):
            assert sum(sample.value for sample in samples if sample.labels["result"] == result) == n
