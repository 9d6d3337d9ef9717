"""Golden numbers, edge cases and error texts of ``checks.stats`` and ``checks.concentration``."""

import math
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import pytest

from checks import chance, simulation, stats
from checks.concentration import coverage, effective_size, gini

ROOT = Path(__file__).resolve().parents[2]


class TestGoldenDistances:
    """Numbers from the definitions, and numbers that can be worked out by hand."""

    def test_the_binding_case(self) -> None:
        assert round(stats.psi((50, 50), (90, 10), smoothing=0), 4) == 0.8789
        assert round(stats.js_distance((50, 50), (90, 10)), 4) == 0.3831
        assert stats.l_infinity((50, 50), (90, 10)) == pytest.approx(0.4)

    def test_smoothing_adds_half_a_row_to_every_bin_of_both(self) -> None:
        before, after = (50.5 / 101, 50.5 / 101), (90.5 / 101, 10.5 / 101)
        by_hand = sum((q - p) * math.log(q / p) for p, q in zip(before, after, strict=True))
        assert stats.psi((50, 50), (90, 10)) == pytest.approx(by_hand)
        assert stats.psi((50, 50), (90, 10)) == stats.psi((50.5, 50.5), (90.5, 10.5), smoothing=0)

    def test_a_bin_that_one_sample_lacks(self) -> None:
        assert stats.psi((10, 0), (5, 5), smoothing=0) == math.inf
        assert stats.psi((5, 5), (10, 0), smoothing=0) == math.inf
        assert math.isfinite(stats.psi((10, 0), (5, 5)))

    def test_a_bin_that_both_lack_changes_nothing_unsmoothed(self) -> None:
        assert stats.psi((50, 0, 50), (90, 0, 10), smoothing=0) == pytest.approx(0.8789, abs=5e-5)
        assert stats.js_distance((50, 0, 50), (90, 0, 10)) == stats.js_distance((50, 50), (90, 10))

    def test_nothing_in_common(self) -> None:
        assert stats.js_distance((10, 0), (0, 3)) == 1.0
        assert stats.l_infinity((10, 0), (0, 3)) == 1.0
        assert stats.ks_statistic((10, 0), (0, 3)) == 1.0

    def test_rounding_never_leaves_the_range(self) -> None:
        assert stats.js_distance((14, 19, 28, 14, 0, 0, 0, 0), (0, 0, 0, 0, 14, 28, 19, 14)) == 1.0
        assert stats.js_distance((3427558899, 1587766722), (3427558902, 1587766722)) == 0.0

    def test_one_bin_never_differs(self) -> None:
        assert stats.psi((7,), (9,)) == stats.js_distance((7,), (9,)) == 0
        assert stats.ks_statistic((7,), (9,)) == stats.wasserstein((0, 4), (7,), (9,)) == 0

    def test_ks_depends_on_the_order_of_bins(self) -> None:
        assert stats.ks_statistic((25, 25, 25, 25), (0, 50, 0, 50)) == 0.25
        assert stats.ks_statistic((25, 25, 25, 25), (0, 0, 50, 50)) == 0.5


class TestWasserstein:
    """Areas that can be drawn on paper."""

    def test_a_shift_by_one_bin_is_its_width(self) -> None:
        assert stats.wasserstein((0, 3, 6), (1, 0), (0, 1)) == 3.0

    def test_curves_that_cross_inside_a_bin(self) -> None:
        # Gap 0, 0.25, -0.25, 0 over widths 1, 4, 1: triangles of 1/8 at both ends, and in the middle
        # two triangles of base 2 and height 0.25, together 1/2. Cut at the edges only it would be 1.25.
        assert stats.wasserstein((0, 1, 5, 6), (1, 2, 1), (2, 0, 2)) == pytest.approx(0.75)

    def test_a_crossing_off_the_middle(self) -> None:
        # Gap 0, 0.1, -0.3, 0 over widths of 1: 0.05 + (0.01 + 0.09) / 0.8 + 0.15.
        assert stats.wasserstein((0, 1, 2, 3), (5, 5, 0), (6, 1, 3)) == pytest.approx(0.325)

    def test_bins_without_width_hold_equal_values(self) -> None:
        values, reference, current = (1.0, 2.0, 5.0), (3, 1, 0), (0, 1, 3)
        edges = [limit for value in values for limit in (value, value)]
        spread = [
            (reference[0], 0, reference[1], 0, reference[2]),
            (current[0], 0, current[1], 0, current[2]),
        ]
        assert stats.wasserstein(edges, *spread) == pytest.approx(0.75 * 4.0)

    def test_the_outer_bins_reach_as_far_as_the_extremes(self) -> None:
        near = stats.wasserstein((0, 1, 2, 3), (0, 10, 0), (0, 8, 2))
        far = stats.wasserstein((0, 1, 2, 30), (0, 10, 0), (0, 8, 2))
        assert far - near == pytest.approx(0.2 * 27 / 2)

    def test_norming_divides_by_the_deviation_down_to_the_floor(self) -> None:
        case = (0, 1, 2), (1, 0), (0, 1)
        assert stats.normed_wasserstein(*case, reference_deviation=0.5) == 2.0
        assert stats.normed_wasserstein(*case, reference_deviation=0.0) == 1 / stats.DEVIATION_FLOOR
        assert stats.normed_wasserstein(*case, reference_deviation=0.002) == pytest.approx(500.0)


class TestClosedLimits:
    """Limits of PSI and JS against the printed chi-square table: 99.9 % point, 19 degrees, 43.820."""

    def test_psi(self) -> None:
        assert stats.psi_limit(200, 200, bins=20) == pytest.approx(43.820 / 100, abs=1e-5)
        assert stats.psi_limit(1000, 250, bins=20) == pytest.approx(43.820 / 200, abs=1e-5)
        assert stats.psi_limit(200, 200, bins=20, tail=0.05) == pytest.approx(30.144 / 100, abs=1e-5)

    def test_js(self) -> None:
        by_hand = math.sqrt(43.820 / 100 / (8 * math.log(2)))
        assert stats.js_limit(200, 200, bins=20) == pytest.approx(by_hand, abs=1e-5)

    @pytest.mark.parametrize("tail", [0.2, 0.01, 0.001])
    def test_the_p_value_of_a_limit_is_its_tail(self, tail: float) -> None:
        psi, js = stats.psi_limit(900, 400, 7, tail), stats.js_limit(900, 400, 7, tail)
        assert stats.psi_p_value(psi, 900, 400, 7) == pytest.approx(tail)
        assert stats.js_p_value(js, 900, 400, 7) == pytest.approx(tail)

    def test_the_fixed_rule_fires_as_often_as_the_definitions_say(self) -> None:
        assert stats.psi_p_value(0.1, 200, 200, bins=20) == pytest.approx(0.96, abs=0.01)
        assert stats.psi_p_value(0.1, 500, 500, bins=20) == pytest.approx(0.17, abs=0.02)

    def test_no_change_at_all_and_a_great_change(self) -> None:
        assert stats.psi_p_value(0, 200, 200, bins=20) == stats.js_p_value(0, 200, 200, bins=20) == 1.0
        assert stats.psi_p_value(math.inf, 200, 200, bins=20) == 0.0
        assert stats.js_p_value(1.0, 10**6, 10**6, bins=20) == 0.0

    def test_l_infinity_by_hand(self) -> None:
        # Two bins of one half each: the same change in both, with a deviation of sqrt(1/4 (1/200 + 1/200)) = 0.05.
        by_hand = 2 * 2 * (1 - NormalDist().cdf(0.165 / 0.05))
        assert stats.l_infinity_p_value(0.165, (50, 50), 200, 200) == pytest.approx(by_hand)
        assert stats.l_infinity_p_value(0, (50, 50), 200, 200) == 1.0
        assert stats.l_infinity_p_value(0, (50, 0), 200, 200) == 1.0
        assert stats.l_infinity_p_value(0.3, (50, 0), 200, 200) == 0.0, "a bin that was empty has filled"

    def test_one_bin_has_limit_0(self) -> None:
        assert stats.psi_limit(200, 200, bins=1) == stats.js_limit(200, 200, bins=1) == 0.0
        assert stats.psi_p_value(0, 200, 200, bins=1) == stats.js_p_value(0, 200, 200, bins=1) == 1.0


class TestLInfinityFactor:
    """The simulation against laws that are known in closed form, within 4 percent (30 draws above 0.1 %)."""

    def test_two_bins_are_one_normal_number(self) -> None:
        exact = NormalDist().inv_cdf(1 - 0.0005) * math.sqrt(0.3 * 0.7)
        assert stats.l_infinity_factor((30, 70)) == pytest.approx(exact, rel=0.04)

    def test_many_equal_bins_are_close_to_independent_bins(self) -> None:
        one_bin = NormalDist().inv_cdf(1 - 0.001 / 200) * math.sqrt(0.01 * 0.99)
        assert stats.l_infinity_factor([5] * 100) == pytest.approx(one_bin, rel=0.04)

    def test_bins_that_are_empty_in_the_reference_do_no_harm(self) -> None:
        plain, padded = stats.l_infinity_factor((40, 30, 30)), stats.l_infinity_factor((0, 40, 30, 30, 0))
        assert padded == pytest.approx(plain, rel=0.05)

    def test_all_rows_in_one_bin_cannot_vary(self) -> None:
        assert stats.l_infinity_factor((0, 9, 0)) == pytest.approx(0)

    def test_the_seed_fixes_the_figures(self) -> None:
        first, again = (stats.l_infinity_factor((4, 3, 3)) for _ in range(2))
        assert first == again
        assert 0 < abs(stats.l_infinity_factor((4, 3, 3), seed=stats.SEED + 1) / first - 1) < 0.05

    def test_drawing_in_many_chunks_follows_the_same_law(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = stats.l_infinity_factor((4, 3, 3))
        monkeypatch.setattr(simulation, "CELLS_AT_ONCE", 3 * 7)
        assert stats.l_infinity_factor((4, 3, 3)) == pytest.approx(whole, rel=0.05)

    def test_more_bins_than_numbers_in_one_chunk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(simulation, "CELLS_AT_ONCE", 2)
        monkeypatch.setattr(simulation, "DRAWS", 200)
        assert 0.3 < stats.l_infinity_factor((4, 3, 3), tail=0.5) < 0.6

    def test_a_smaller_tail_gives_a_larger_factor(self) -> None:
        factors = [stats.l_infinity_factor((4, 3, 3), tail=tail) for tail in (0.1, 0.01, 0.001)]
        assert factors == sorted(factors)
        assert factors[0] < factors[2]

    def test_scaling(self) -> None:
        assert stats.scaled_limit(2.0, 100, 100) == pytest.approx(2.0 * math.sqrt(0.02))
        assert stats.scaled_limit(2.0, 100, 10**12) == pytest.approx(0.2)


class TestEffectLimit:
    """The larger limit wins and says where it comes from."""

    def test_many_rows_leave_the_minimum_effect(self) -> None:
        assert chance.effect_limit(0.1, 0.004) == chance.Limit(0.1, "minimum effect")

    def test_few_rows_raise_the_limit(self) -> None:
        assert chance.effect_limit(0.1, 0.438) == chance.Limit(0.438, "sample size")

    def test_a_tie_is_the_minimum_effect(self) -> None:
        assert chance.effect_limit(0.1, 0.1).origin == "minimum effect"

    def test_the_minimum_effects_of_the_definitions(self) -> None:
        assert dict(stats.MINIMUM_EFFECTS) == {
            "psi": 0.1,
            "js_distance": 0.1,
            "normed_wasserstein": 0.1,
            "l_infinity": 0.02,
            "ks_statistic": 0.1,
        }
        assert all(callable(getattr(stats, name)) for name in stats.MINIMUM_EFFECTS)
        with pytest.raises(TypeError):
            stats.MINIMUM_EFFECTS["psi"] = 0.2  # type: ignore[index]


class TestChanceLimit:
    """What chance reaches at a true ratio at the limit, one window in a thousand."""

    def test_few_events_raise_the_limit_and_many_leave_it(self) -> None:
        # Of 0.36 expected events chance makes 3, of 12,000 about 12,340.
        assert chance.TAIL == 0.001
        assert chance.chance_limit(0.001, 360) == 3 / 360
        assert chance.chance_limit(0.001, 12_000_000) == pytest.approx(0.001028, abs=5e-7)

    def test_it_is_a_ratio_and_never_below_the_limit(self) -> None:
        assert chance.chance_limit(0.9, 1) == chance.chance_limit(1.0, 10) == 1.0
        assert chance.chance_limit(0.25, 0) == 0.25
        assert chance.chance_limit(0.0, 360) == 0.0


class TestBenjaminiHochberg:
    """The example of the paper, and its edges."""

    PAPER = (
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
        0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
    )  # fmt: skip

    def test_the_table_of_the_paper_keeps_four(self) -> None:
        assert stats.benjamini_hochberg(self.PAPER) == (True,) * 4 + (False,) * 11

    def test_answers_come_in_the_given_order(self) -> None:
        assert stats.benjamini_hochberg(self.PAPER[::-1]) == (False,) * 11 + (True,) * 4

    def test_a_p_value_above_its_own_bound_counts_when_a_larger_one_passes(self) -> None:
        assert stats.benjamini_hochberg((0.03, 0.04), false_discovery_rate=0.05) == (True, True)

    def test_no_tests_and_one_test(self) -> None:
        assert stats.benjamini_hochberg(()) == ()
        assert stats.benjamini_hochberg((0.05,)) == (True,)
        assert stats.benjamini_hochberg((0.051,)) == (False,)

    def test_a_p_value_of_0_always_counts(self) -> None:
        assert stats.benjamini_hochberg((0.0, 1.0)) == (True, False)


class TestConcentration:
    """The golden case of the definitions, and small catalogues by hand."""

    def test_200_items_seen_equally_often_of_100_000(self) -> None:
        each, seen, catalogue = 5, 200, 100_000
        ranked = each * seen * (seen + 1) // 2
        assert gini(ranked, each * seen, seen, catalogue) == pytest.approx(0.998)
        assert effective_size(each * seen, seen * each * math.log(each)) == pytest.approx(200)
        assert coverage(seen, catalogue) == 0.002

    def test_over_the_seen_items_alone_it_would_read_as_even(self) -> None:
        assert gini(5 * 200 * 201 // 2, 1000, seen_items=200, catalogue_items=200) == 0.0

    def test_one_item_has_all(self) -> None:
        assert gini(7, 7, seen_items=1, catalogue_items=4) == 0.75
        assert effective_size(7, 7 * math.log(7)) == pytest.approx(1.0)

    def test_counts_1_and_3_of_two_items(self) -> None:
        assert gini(1 * 1 + 2 * 3, 4, seen_items=2, catalogue_items=2) == pytest.approx(0.25)
        entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
        assert effective_size(4, 3 * math.log(3)) == pytest.approx(math.exp(entropy))

    def test_every_count_is_1(self) -> None:
        assert effective_size(12, 0) == pytest.approx(12)

    def test_rounding_never_leaves_the_range(self) -> None:
        weights = [0.1] * 16
        assert gini(sum(0.1 * rank for rank in range(1, 17)), sum(weights), 16, 16) == 0.0
        assert effective_size(6, 6 * math.log(6)) == 1.0

    def test_nothing_seen_has_no_figure(self) -> None:
        assert gini(0, 0, 0, 100) is None
        assert gini(0, 0, 0, 0) is None
        assert effective_size(0, 0) is None
        assert coverage(0, 0) is None
        assert coverage(0, 100) == 0.0

    def test_a_large_catalogue_keeps_its_digits(self) -> None:
        catalogue, each = 10**9, 10**6
        assert gini(each * catalogue * (catalogue + 1) // 2, each * catalogue, catalogue, catalogue) == 0.0


FORM = r"^.+, got .+; .+[^.]$"

BAD_CALLS = {
    "lengths differ": (lambda: stats.psi((1, 2), (1, 2, 3)), "got 2 and 3"),
    "a negative count": (lambda: stats.js_distance((1, -2), (1, 2)), "reference counts.*got -2"),
    "a count that is no number": (lambda: stats.l_infinity((1, 2), (1, math.nan)), "current counts.*got nan"),
    "an endless count": (lambda: stats.ks_statistic((1, math.inf), (1, 2)), "got inf"),
    "no bins": (lambda: stats.psi((), ()), r"got shape \(0,\)"),
    "nested counts": (lambda: stats.psi(((1, 2),), (1, 2)), r"got shape \(1, 2\)"),  # type: ignore[arg-type]
    "an empty reference": (lambda: stats.psi((0, 0), (1, 2)), "reference must hold at least one row"),
    "an empty window": (lambda: stats.js_distance((1, 2), (0, 0)), "current must hold at least one row"),
    "negative smoothing": (lambda: stats.psi((1, 2), (1, 2), smoothing=-1), "smoothing.*got -1"),
    "endless smoothing": (lambda: stats.psi((1, 2), (1, 2), smoothing=math.inf), "smoothing.*got inf"),
    "open bins left open": (lambda: stats.wasserstein((0, 1), (1, 2), (1, 2)), "the 2 bins, got 2"),
    "falling edges": (lambda: stats.wasserstein((0, 2, 1), (1, 2), (1, 2)), "not fall"),
    "an edge without end": (lambda: stats.wasserstein((0, 1, math.inf), (1, 2), (1, 2)), "be finite"),
    "an edge that is no number": (lambda: stats.wasserstein((0, math.nan, 1), (1, 2), (1, 2)), "be finite"),
    "a negative deviation": (lambda: stats.normed_wasserstein((0, 1), (1,), (1,), -0.5), "got -0.5"),
    "a deviation that is no number": (
        lambda: stats.normed_wasserstein((0, 1), (1,), (1,), math.nan),
        "got nan",
    ),
    "no rows in n": (lambda: stats.psi_limit(0, 10, 5), "got 0 and 10"),
    "no rows in m": (lambda: stats.js_limit(10, -1, 5), "got 10 and -1"),
    "endless rows": (lambda: stats.scaled_limit(1.0, math.inf, 1), "got inf and 1"),
    "no bins for a limit": (lambda: stats.psi_limit(10, 10, 0), "bins.*got 0"),
    "no bins for a p-value": (lambda: stats.js_p_value(0.1, 10, 10, 0), "bins.*got 0"),
    "a tail in percent": (lambda: stats.psi_limit(10, 10, 5, tail=5), "tail.*got 5"),
    "a tail of 0": (lambda: stats.js_limit(10, 10, 5, tail=0), "tail.*got 0"),
    "a tail beyond the draws": (lambda: stats.l_infinity_factor((1, 2), tail=0.0001), "from 0.0005.*got 0.0001"),
    "a tail of 1": (lambda: stats.l_infinity_factor((1, 2), tail=1), "tail.*got 1"),
    "an empty reference to simulate": (lambda: stats.l_infinity_factor((0, 0)), "at least one row"),
    "edges that do not fit": (lambda: stats.wasserstein((0, 1), (1, 2), (2, 1)), "the 2 bins, got 2"),
    "a negative PSI": (lambda: stats.psi_p_value(-0.1, 10, 10, 5), "got -0.1"),
    "a PSI that is no number": (lambda: stats.psi_p_value(math.nan, 10, 10, 5), "got nan"),
    "a negative factor": (lambda: stats.scaled_limit(-1, 10, 10), "got -1"),
    "a negative limit": (lambda: chance.effect_limit(0.1, -1), "got -1"),
    "a negative effect": (lambda: chance.effect_limit(-0.1, 1), "got -0.1"),
    "a p-value above 1": (lambda: stats.benjamini_hochberg((0.5, 1.5)), "p_values.*got 1.5"),
    "a p-value that is no number": (lambda: stats.benjamini_hochberg((0.5, math.nan)), "p_values.*got nan"),
    "a rate in percent": (lambda: stats.benjamini_hochberg((0.5,), 5), "false_discovery_rate.*got 5"),
    "more seen than there are": (lambda: coverage(11, 10), "got 11 of 10"),
    "a negative catalogue": (lambda: coverage(0, -1), "catalogue_items.*got -1"),
    "negative items": (lambda: coverage(-1, 10), "seen_items.*got -1"),
    "more seen than there are, Gini": (lambda: gini(66, 11, 11, 10), "got 11 of 10"),
    "a negative total": (lambda: gini(1, -1, 1, 10), "total.*got -1"),
    "a total that is no number": (lambda: gini(1, math.nan, 1, 10), "total.*got nan"),
    "a negative ranked sum": (lambda: gini(-1, 1, 1, 10), "rank_weighted_sum.*got -1"),
    "events but no items": (lambda: gini(5, 5, 0, 10), "0 together, got 5, 0"),
    "items but no events": (lambda: gini(0, 0, 5, 10), "0 together, got 0, 5"),
    "ranks from the top": (lambda: gini(1 * 3 + 2 * 1, 4, 2, 10), "from 6.0 to 8, got 5; rank by row_number"),
    "shared ranks": (lambda: gini(1 * 2 + 1 * 2, 4, 2, 10), "got 4; rank by row_number"),
    "ranks from the catalogue": (lambda: gini(99 * 2 + 100 * 2, 4, 2, 100), "got 398"),
    "a ranked sum just out of reach": (lambda: gini(9, 4, 2, 10), "from 6.0 to 8, got 9"),
    "an endless total": (lambda: effective_size(math.inf, 1), "total.*got inf"),
    "a logarithm in base 2": (lambda: effective_size(8, 8 * math.log2(8)), "at most total .* got 24"),
    "a negative entropy sum": (lambda: effective_size(8, -1), "sum_count_log_count.*got -1"),
    "a negative total, entropy": (lambda: effective_size(-8, 1), "total.*got -8"),
    "an entropy sum of nothing": (lambda: effective_size(0, 1), "got 1; sum"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_impossible_input_is_refused_with_the_value_and_what_to_do(name: str) -> None:
    """The form of every message: what is wrong, got VALUE; what to do."""
    call, text = BAD_CALLS[name]
    with pytest.raises(ValueError, match=text) as caught:
        call()
    assert caught.match(FORM)
    assert str(caught.value)[0].islower()


def test_numpy_is_not_loaded_until_draws_are_asked_for() -> None:
    """All that the daemon judges by is the standard library's; only draws load NumPy, and nothing loads SciPy."""
    script = (
        "import sys; import checks; from checks import stats, concentration;"
        "stats.psi((1, 2), (2, 1)); stats.wasserstein((0, 1, 2), (1, 2), (2, 1));"
        "stats.psi_limit(100, 100, 5); stats.psi_p_value(0.1, 100, 100, 5);"
        "assert 'numpy' not in sys.modules;"
        "stats.l_infinity_factor((1, 2));"
        "assert 'numpy' in sys.modules;"
        "assert 'scipy' not in sys.modules; print('as promised')"
    )
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("as promised", "")
