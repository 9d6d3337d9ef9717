"""Laws of ``checks.stats`` and ``checks.concentration``, and how often chance exceeds their limits."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import kstest

from checks import chance, stats
from checks.concentration import coverage, effective_size, gini

Counts = list[int]
Pair = tuple[Counts, Counts]
Binned = tuple[list[float], Counts, Counts]

NEAR = 1e-7
"""Rounding: a distance is the root of a divergence that is right to about 1e-15."""


def counts(bins: int) -> st.SearchStrategy[Counts]:
    """Counts with at least one row, empty bins included."""
    return st.lists(st.integers(0, 10**6), min_size=bins, max_size=bins).filter(any)


pairs = st.integers(1, 12).flatmap(lambda bins: st.tuples(counts(bins), counts(bins)))
triples = st.integers(1, 8).flatmap(lambda bins: st.tuples(counts(bins), counts(bins), counts(bins)))
rows = st.integers(1, 10**9)
widths = st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0, 20.0])
binned = st.integers(1, 10).flatmap(
    lambda bins: st.tuples(st.lists(widths, min_size=bins, max_size=bins), counts(bins), counts(bins))
)
catalogues = st.lists(st.integers(0, 50), min_size=1, max_size=25)

DISTANCES: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "psi": stats.psi,
    "js_distance": stats.js_distance,
    "l_infinity": stats.l_infinity,
    "ks_statistic": stats.ks_statistic,
}
every_distance = pytest.mark.parametrize("name", DISTANCES)


def edges_of(steps: Sequence[float], start: float = 0.0) -> list[float]:
    """Edges from the widths between them."""
    return (start + np.concatenate(([0.0], np.cumsum(steps)))).tolist()


class TestDistances:
    """What every distance owes."""

    @every_distance
    @given(pair=pairs)
    def test_it_is_not_negative_and_0_for_equal_shares(self, name: str, pair: Pair) -> None:
        assert DISTANCES[name](*pair) >= 0
        assert DISTANCES[name](pair[0], pair[0]) == 0

    @every_distance
    @given(pair=pairs)
    def test_different_shares_are_seen(self, name: str, pair: Pair) -> None:
        before, after = (np.divide(sample, sum(sample)) for sample in pair)
        assume(np.abs(before - after).max() > 1e-4)
        # Half a row more per bin can make two small samples alike: (1, 0) and (4, 1) both become 3 to 1.
        options = {"smoothing": 0} if name == "psi" else {}
        assert DISTANCES[name](*pair, **options) > 0

    @every_distance
    @given(pair=pairs)
    def test_it_is_symmetric(self, name: str, pair: Pair) -> None:
        assert DISTANCES[name](*pair) == pytest.approx(DISTANCES[name](*pair[::-1]), rel=1e-12, abs=1e-15)

    @pytest.mark.parametrize("name", ["psi", "js_distance", "l_infinity"])
    @given(pair=pairs, random=st.randoms(use_true_random=False))
    def test_the_order_of_bins_does_not_matter(self, name: str, pair: Pair, random: object) -> None:
        order = list(range(len(pair[0])))
        random.shuffle(order)  # type: ignore[attr-defined]
        shuffled = [[sample[place] for place in order] for sample in pair]
        assert DISTANCES[name](*shuffled) == pytest.approx(DISTANCES[name](*pair), rel=1e-9, abs=NEAR)

    @pytest.mark.parametrize("name", ["js_distance", "l_infinity", "ks_statistic"])
    @given(pair=pairs, factor=st.integers(2, 1000))
    def test_only_shares_count(self, name: str, pair: Pair, factor: int) -> None:
        scaled = [factor * count for count in pair[0]]
        assert DISTANCES[name](scaled, pair[1]) == pytest.approx(DISTANCES[name](*pair), rel=1e-9, abs=NEAR)

    @given(pair=pairs)
    def test_the_ranges_and_how_they_bound_each_other(self, pair: Pair) -> None:
        widest, gap, js = stats.l_infinity(*pair), stats.ks_statistic(*pair), stats.js_distance(*pair)
        before, after = (np.divide(sample, sum(sample)) for sample in pair)
        variation = float(np.abs(after - before).sum()) / 2
        assert widest <= variation + NEAR
        assert gap <= variation + NEAR
        assert widest <= 2 * gap + NEAR
        assert js**2 <= variation + NEAR
        assert variation <= js * math.sqrt(2 * math.log(2)) + NEAR  # Pinsker, for each half of the divergence
        assert max(widest, gap, js) <= 1 + NEAR

    @pytest.mark.parametrize("name", ["psi", "js_distance", "ks_statistic"])
    @given(pair=pairs.filter(lambda pair: len(pair[0]) > 1), place=st.integers(0, 10))
    def test_joining_two_neighbours_never_shows_more(self, name: str, pair: Pair, place: int) -> None:
        place %= len(pair[0]) - 1
        joined = [[*one[:place], one[place] + one[place + 1], *one[place + 2 :]] for one in pair]
        options = {"smoothing": 0} if name == "psi" else {}
        assert DISTANCES[name](*joined, **options) <= DISTANCES[name](*pair, **options) * (1 + 1e-9) + NEAR

    @given(triple=triples)
    def test_the_js_distance_keeps_the_triangle_inequality(self, triple: tuple[Counts, ...]) -> None:
        first, second, third = triple
        around = stats.js_distance(first, second) + stats.js_distance(second, third)
        assert stats.js_distance(first, third) <= around + NEAR


class TestWasserstein:
    """What the area owes."""

    @given(case=binned)
    def test_it_is_the_integral_of_the_gap(self, case: Binned) -> None:
        steps, before, after = case
        parts = 2000
        change = np.divide(after, sum(after)) - np.divide(before, sum(before))
        gap = np.concatenate(([0.0], np.cumsum(change)))
        middles = (np.arange(parts) + 0.5) / parts
        area = sum(
            step * np.abs(left + (right - left) * middles).mean()
            for step, (left, right) in zip(steps, pairwise(gap), strict=True)
        )
        assert stats.wasserstein(edges_of(steps), before, after) == pytest.approx(area, rel=1e-4, abs=1e-6)

    @given(case=binned)
    def test_it_is_symmetric_not_negative_and_0_for_equal_shares(self, case: Binned) -> None:
        steps, before, after = case
        edges = edges_of(steps)
        assert stats.wasserstein(edges, before, after) >= 0
        assert stats.wasserstein(edges, before, before) == 0
        back = stats.wasserstein(edges, after, before)
        assert stats.wasserstein(edges, before, after) == pytest.approx(back, rel=1e-12, abs=1e-15)

    @given(case=binned, factor=st.sampled_from([0.25, 2.0, 1000.0]), start=st.integers(-5, 5))
    def test_it_moves_with_the_unit_not_the_origin(self, case: Binned, factor: float, start: int) -> None:
        steps, before, after = case
        plain = stats.wasserstein(edges_of(steps), before, after)
        changed = [factor * edge for edge in edges_of(steps, start)]
        assert stats.wasserstein(changed, before, after) == pytest.approx(factor * plain, rel=1e-9, abs=1e-9)

    @given(case=binned, place=st.integers(0, 9))
    def test_cutting_a_bin_in_even_halves_changes_nothing(self, case: Binned, place: int) -> None:
        steps, before, after = case
        place %= len(steps)
        halves = [[*one[:place], one[place] / 2, one[place] / 2, *one[place + 1 :]] for one in case]
        cut = stats.wasserstein(edges_of(halves[0]), halves[1], halves[2])
        assert cut == pytest.approx(stats.wasserstein(edges_of(steps), before, after), rel=1e-9, abs=1e-12)

    @given(case=binned)
    def test_it_is_at_most_the_largest_gap_over_the_whole_width(self, case: Binned) -> None:
        steps, before, after = case
        most = stats.ks_statistic(before, after) * sum(steps)
        assert stats.wasserstein(edges_of(steps), before, after) <= most + 1e-9


class TestLimits:
    """Limits and p-values move the right way."""

    @given(n=rows, m=rows, more=st.integers(2, 100), bins=st.integers(2, 1000))
    def test_more_rows_lower_every_limit(self, n: int, m: int, more: int, bins: int) -> None:
        for limit in (stats.psi_limit, stats.js_limit):
            assert limit(n * more, m, bins) < limit(n, m, bins)
            assert limit(n, m * more, bins) < limit(n, m, bins)
            assert limit(n, m, bins) == pytest.approx(limit(m, n, bins))
        assert stats.scaled_limit(1.2, n * more, m) < stats.scaled_limit(1.2, n, m)

    @given(n=rows, m=rows, bins=st.integers(1, 1000), tail=st.floats(1e-6, 0.4))
    def test_more_bins_or_a_smaller_tail_raise_it(self, n: int, m: int, bins: int, tail: float) -> None:
        for limit in (stats.psi_limit, stats.js_limit):
            assert limit(n, m, bins + 1, tail) > limit(n, m, bins, tail)
            assert limit(n, m, bins + 1, tail) > limit(n, m, bins + 1, tail * 2)

    @given(n=rows, m=rows, bins=st.integers(2, 1000), values=st.tuples(st.floats(0, 1), st.floats(0, 1)))
    def test_a_p_value_is_a_ratio_that_falls_as_the_statistic_rises(
        self, n: int, m: int, bins: int, values: tuple[float, float]
    ) -> None:
        for p_value in (stats.psi_p_value, stats.js_p_value):
            higher, lower = (p_value(value, n, m, bins) for value in sorted(values))
            assert 1 >= higher >= lower >= 0

    @given(n=rows, m=rows, bins=st.integers(2, 1000), value=st.floats(0, 1))
    def test_above_the_limit_p_is_below_the_tail(self, n: int, m: int, bins: int, value: float) -> None:
        for limit, p_value in ((stats.psi_limit, stats.psi_p_value), (stats.js_limit, stats.js_p_value)):
            assume(abs(value / limit(n, m, bins, 0.01) - 1) > 1e-6)
            assert (value > limit(n, m, bins, 0.01)) == (p_value(value, n, m, bins) < 0.01)

    @given(effect=st.floats(0, 10), null=st.floats(0, 10))
    def test_the_effect_limit_is_the_larger_and_names_it(self, effect: float, null: float) -> None:
        limit = chance.effect_limit(effect, null)
        assert limit.value == max(effect, null)
        assert {"minimum effect": effect, "sample size": null}[limit.origin] == limit.value


class TestBenjaminiHochberg:
    """Between the strictest and the loosest rule, whatever the order."""

    many = st.lists(st.one_of(st.floats(0, 1), st.floats(0, 0.05)), max_size=30)
    rates = st.floats(0.001, 0.5)

    @given(p_values=many, rate=rates)
    def test_it_lies_between_bonferroni_and_no_correction(self, p_values: list[float], rate: float) -> None:
        kept = stats.benjamini_hochberg(p_values, rate)
        assert len(kept) == len(p_values)
        for value, counts_as_change in zip(p_values, kept, strict=True):
            assert counts_as_change or value > rate / len(p_values)
            assert not counts_as_change or value <= rate * (1 + 1e-12)

    @given(p_values=many, rate=rates, random=st.randoms(use_true_random=False))
    def test_the_answer_goes_with_the_value_not_the_place(
        self, p_values: list[float], rate: float, random: object
    ) -> None:
        answers = dict(zip(p_values, stats.benjamini_hochberg(p_values, rate), strict=True))
        shuffled = list(p_values)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert stats.benjamini_hochberg(shuffled, rate) == tuple(answers[value] for value in shuffled)

    @given(p_values=many, rate=st.floats(0.001, 0.4))
    def test_a_higher_rate_keeps_at_least_as_many(self, p_values: list[float], rate: float) -> None:
        strict, loose = (stats.benjamini_hochberg(p_values, one) for one in (rate, rate * 2))
        assert all(later or not earlier for earlier, later in zip(strict, loose, strict=True))


def ranked_sum(items: Sequence[int]) -> int:
    """Sum of rank * count over the seen items, rank 1 for the smallest count."""
    return sum(rank * count for rank, count in enumerate(sorted(filter(None, items)), start=1))


class TestConcentration:
    """The sums give what the list of items would."""

    @given(items=catalogues.filter(any))
    def test_gini_is_half_the_relative_mean_difference_of_all_items(self, items: list[int]) -> None:
        seen = sum(count > 0 for count in items)
        differences = np.abs(np.subtract.outer(items, items)).mean()
        by_pairs = differences / (2 * np.mean(items))
        assert gini(ranked_sum(items), sum(items), seen, len(items)) == pytest.approx(by_pairs, abs=1e-12)

    @given(items=catalogues.filter(any), factor=st.sampled_from([2, 1000, 0.125]))
    def test_gini_does_not_see_the_unit(self, items: list[int], factor: float) -> None:
        seen = sum(count > 0 for count in items)
        plain = gini(ranked_sum(items), sum(items), seen, len(items))
        scaled = gini(factor * ranked_sum(items), factor * sum(items), seen, len(items))
        assert scaled == pytest.approx(plain, abs=1e-12)

    @given(items=catalogues.filter(any), unseen=st.integers(1, 1000))
    def test_items_never_seen_make_it_more_uneven(self, items: list[int], unseen: int) -> None:
        seen = sum(count > 0 for count in items)
        few = gini(ranked_sum(items), sum(items), seen, len(items))
        many = gini(ranked_sum(items), sum(items), seen, len(items) + unseen)
        assert few is not None
        assert many is not None
        assert 0 <= few < many < 1

    @given(items=catalogues.filter(any))
    def test_the_effective_size_is_from_1_to_the_seen_items(self, items: list[int]) -> None:
        seen = [count for count in items if count]
        size = effective_size(sum(seen), sum(count * math.log(count) for count in seen))
        entropy = -sum(count / sum(seen) * math.log(count / sum(seen)) for count in seen)
        assert size == pytest.approx(math.exp(entropy))
        assert size is not None
        assert 1 - 1e-9 <= size <= len(seen) + 1e-9

    @given(seen=st.integers(0, 1000), unseen=st.integers(0, 1000))
    def test_coverage_is_a_ratio_or_nothing(self, seen: int, unseen: int) -> None:
        share = coverage(seen, seen + unseen)
        assert (share is None) == (seen + unseen == 0)
        assert share is None or share * (seen + unseen) == pytest.approx(seen)


REPEATS = 4000
SHAPES = {
    "20 equal bins, equal samples": (np.full(20, 0.05), 4000, 4000),
    "12 bins by 1/rank, small window": (1 / np.arange(1, 13) / sum(1 / np.arange(1, 13)), 40_000, 2000),
}


def band(tail: float) -> tuple[float, float]:
    """Exceedances in `REPEATS` within 4 standard deviations, and a tenth more for the laws being limits."""
    expected, deviation = REPEATS * tail, math.sqrt(REPEATS * tail * (1 - tail))
    return 0.9 * (expected - 4 * deviation), 1.1 * (expected + 4 * deviation)


@pytest.fixture(scope="module", params=SHAPES)
def no_change(request: pytest.FixtureRequest) -> dict[str, object]:
    """Every statistic on thousands of pairs of samples from one and the same distribution."""
    shares, n, m = SHAPES[request.param]
    random = np.random.default_rng(20_240_601)
    before, after = random.multinomial(n, shares, REPEATS), random.multinomial(m, shares, REPEATS)
    drawn = list(zip(before, after, strict=True))
    values = {name: np.array([distance(*pair) for pair in drawn]) for name, distance in DISTANCES.items()}
    return {"values": values, "n": n, "m": m, "bins": len(shares), "reference": before[0]}


class TestCalibration:
    """With no change a limit is exceeded as often as its tail says."""

    @pytest.mark.parametrize("tail", [0.1, 0.01])
    def test_closed_limits(self, no_change: dict, tail: float) -> None:
        n, m, bins = no_change["n"], no_change["m"], no_change["bins"]
        low, high = band(tail)
        assert low < np.sum(no_change["values"]["psi"] > stats.psi_limit(n, m, bins, tail)) < high
        assert low < np.sum(no_change["values"]["js_distance"] > stats.js_limit(n, m, bins, tail)) < high

    @pytest.mark.parametrize("tail", [0.1, 0.01])
    def test_the_simulated_limit(self, no_change: dict, tail: float) -> None:
        factor = stats.l_infinity_factor(no_change["reference"], tail)
        limit = stats.scaled_limit(factor, no_change["n"], no_change["m"])
        low, high = band(tail)
        assert low < np.sum(no_change["values"]["l_infinity"] > limit) < high

    @pytest.mark.parametrize(
        ("name", "p_value"),
        [("psi", stats.psi_p_value), ("js_distance", stats.js_p_value)],
    )
    def test_p_values_are_about_uniform(
        self, no_change: dict, name: str, p_value: Callable[[float, float, float, int], float]
    ) -> None:
        n, m, bins = no_change["n"], no_change["m"], no_change["bins"]
        found = [p_value(value, n, m, bins) for value in no_change["values"][name]]
        # 1.95 / sqrt(4000) = 0.031 is exceeded by chance once in 1,000; one degree of freedom off gives 0.06.
        assert kstest(found, "uniform").statistic < 0.031

    @pytest.mark.parametrize("tail", [0.1, 0.01])
    def test_the_p_value_of_l_infinity_is_cautious_and_not_by_much(self, no_change: dict, tail: float) -> None:
        n, m, reference = no_change["n"], no_change["m"], no_change["reference"]
        found = [stats.l_infinity_p_value(value, reference, n, m) for value in no_change["values"]["l_infinity"]]
        low, high = band(tail)
        assert low / 2 < np.sum(np.array(found) < tail) < high

    def test_bins_cut_at_the_quantiles_of_the_reference_itself(self) -> None:
        """Equal counts by construction do not make the reference exact: the edges vary instead."""
        random = np.random.default_rng(20_240_602)
        n, m, bins, repeats = 2000, 1500, 20, 2000
        p_values = []
        for _ in range(repeats):
            edges = np.quantile(random.normal(size=n), np.linspace(0, 1, bins + 1)[1:-1])
            after = np.bincount(np.searchsorted(edges, random.normal(size=m)), minlength=bins)
            p_values.append(stats.psi_p_value(stats.psi([n / bins] * bins, after), n, m, bins))
        assert kstest(p_values, "uniform").statistic < 1.95 / math.sqrt(repeats)

    def test_nearly_empty_bins_make_psi_cautious_and_js_too_eager(self) -> None:
        """The stated reach of the laws: 200 bins by 1/rank with fewer than 1 row expected in the rarest."""
        random = np.random.default_rng(20_240_603)
        shares = 1 / np.arange(1, 201) / sum(1 / np.arange(1, 201))
        drawn = random.multinomial(1000, shares, (500, 2))
        psi_alarms = sum(stats.psi(*pair) > stats.psi_limit(1000, 1000, 200, 0.01) for pair in drawn)
        js_alarms = sum(stats.js_distance(*pair) > stats.js_limit(1000, 1000, 200, 0.01) for pair in drawn)
        assert psi_alarms == 0
        assert js_alarms > 50

    def test_joining_bins_with_few_rows_in_both_samples_repairs_js(self) -> None:
        """Chosen by the sum of both counts, which says nothing about their difference."""
        random = np.random.default_rng(20_240_604)
        shares, repeats, alarms = 1 / np.arange(1, 201) / sum(1 / np.arange(1, 201)), 1000, 0
        for before, after in random.multinomial(1000, shares, (repeats, 2)):
            keep = before + after >= 20
            joined = [np.append(sample[keep], sample[~keep].sum()) for sample in (before, after)]
            alarms += stats.js_distance(*joined) > stats.js_limit(1000, 1000, int(keep.sum()) + 1, 0.01)
        assert alarms / repeats < 0.01 + 4 * math.sqrt(0.01 * 0.99 / repeats)
