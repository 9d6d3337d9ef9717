"""Our figures beside SciPy's and Evidently's, on the same made rows, with every difference explained.

SciPy works on raw values (Wasserstein, KS) or on counts (Jensen-Shannon). Evidently 0.7 differs in four ways:

- it takes the natural logarithm for Jensen-Shannon: ours is theirs * 1 / sqrt(ln 2) = 1.2011;
- it cuts numeric features into Sturges bins of equal width over both samples together, ours are quantiles of
  the reference, frozen; a categorical feature has the same bins in both;
- for PSI it writes 0.0001 into empty bins (a millionth of the smallest share, if that is 0.0001 or less) and
  adds nothing elsewhere, ours adds half a row to every bin;
- it takes Wasserstein and KS from the raw values, and reports KS as a p-value; ours are taken on bins.

Evidently is called in a process of its own: importing it takes seconds and hundreds of megabytes.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.special import kolmogorov
from scipy.stats import ks_2samp, poisson, wasserstein_distance

from checks import chance, stats

ROWS = 5000
BINS = 20
BASE_2 = 1 / math.sqrt(math.log(2))
CATEGORIES = ("feed", "search", "mail", "push", "home")

ASK_EVIDENTLY = """
import json, sys
import pandas
from evidently.legacy.calculations import stattests
from evidently.legacy.core import ColumnType

answers = {}
for name, case in json.load(sys.stdin).items():
    kind = ColumnType.Numerical if case["numeric"] else ColumnType.Categorical
    samples = {side + "_data": pandas.Series(case[side]) for side in ("reference", "current")}
    tests = ["psi", "jensenshannon"] + (["wasserstein", "ks"] if case["numeric"] else [])
    answers[name] = {
        test: float(getattr(stattests, test + "_stat_test")(
            **samples, feature_type=kind, threshold=None).drift_score)
        for test in tests
    }
print("ANSWER" + json.dumps(answers))
"""


@dataclass(frozen=True)
class Numbers:
    """A numeric feature in both samples."""

    reference: NDArray[np.float64]
    current: NDArray[np.float64]

    @property
    def extremes(self) -> tuple[float, float]:
        """Smallest and largest value of both samples."""
        both = np.concatenate((self.reference, self.current))
        return float(both.min()), float(both.max())

    def edges(self, bins: int = BINS) -> NDArray[np.float64]:
        """Quantiles of the reference, with the outer bins closed at the extremes of both samples."""
        frozen = np.quantile(self.reference, np.linspace(0, 1, bins + 1))
        lowest, highest = self.extremes
        return np.concatenate(([lowest], frozen, [highest]))

    def sturges(self) -> NDArray[np.float64]:
        """Evidently's bins: equal width over both samples together."""
        return np.histogram_bin_edges(np.concatenate((self.reference, self.current)), bins="sturges")

    def counts(self, edges: Sequence[float] | NDArray[np.float64]) -> tuple[list[int], list[int]]:
        """Rows per bin of both samples; bins hold their lower edge, the last bin both."""
        return tuple(count_between(np.asarray(edges), sample) for sample in (self.reference, self.current))


def count_between(edges: NDArray[np.float64], values: NDArray[np.float64]) -> list[int]:
    """Rows per bin; with edges that coincide, rows on them go to the highest bin that starts there."""
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(places, minlength=len(edges) - 1).tolist()


def made_numbers() -> dict[str, Numbers]:
    """Numeric features: nothing changed, moved, wider, and a skewed one that moved."""
    random = np.random.default_rng(20_240_701)
    reference = random.normal(10, 2, ROWS)
    return {
        "same": Numbers(reference, random.normal(10, 2, ROWS)),
        "moved": Numbers(reference, random.normal(11, 2, ROWS)),
        "wider": Numbers(reference, random.normal(10, 3, ROWS)),
        "skewed": Numbers(random.exponential(1, ROWS), random.exponential(1.25, ROWS)),
    }


def made_words() -> dict[str, tuple[list[str], list[str]]]:
    """Categorical features: nothing changed, shares moved, and a category that is new."""
    random = np.random.default_rng(20_240_702)

    def draw(*shares: float) -> list[str]:
        return random.choice(CATEGORIES[: len(shares)], ROWS, p=shares).tolist()

    reference = draw(0.5, 0.25, 0.15, 0.1)
    return {
        "same words": (reference, draw(0.5, 0.25, 0.15, 0.1)),
        "moved words": (reference, draw(0.35, 0.25, 0.2, 0.2)),
        "new word": (reference, draw(0.45, 0.25, 0.15, 0.1, 0.05)),
    }


NUMBERS, WORDS = made_numbers(), made_words()
UNCHANGED = {"same", "same words"}
every_number = pytest.mark.parametrize("name", NUMBERS)
every_word = pytest.mark.parametrize("name", WORDS)


def word_counts(name: str) -> tuple[list[int], list[int]]:
    """Rows per category of both samples, over the categories of both together."""
    reference, current = WORDS[name]
    present = [word for word in CATEGORIES if word in reference or word in current]
    return [reference.count(word) for word in present], [current.count(word) for word in present]


@pytest.fixture(scope="module")
def evidently() -> dict[str, dict[str, float]]:
    """Evidently's figures per feature and test, from one run of a process of its own."""
    if importlib.util.find_spec("evidently") is None:
        pytest.skip("evidently is not installed: pip install evidently==0.7.23 to compare with it")
    cases: dict[str, dict[str, object]] = {
        name: {"numeric": True, "reference": case.reference.tolist(), "current": case.current.tolist()}
        for name, case in NUMBERS.items()
    }
    for name, (reference, current) in WORDS.items():
        cases[name] = {"numeric": False, "reference": reference, "current": current}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK_EVIDENTLY],
        input=json.dumps(cases),
        env={**os.environ, "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.rpartition("ANSWER")[2])


class TestScipy:
    """SciPy on the same counts, or on the raw values that were counted."""

    @every_number
    def test_jensen_shannon_on_the_same_counts_is_equal(self, name: str) -> None:
        counts = NUMBERS[name].counts(NUMBERS[name].edges())
        assert stats.js_distance(*counts) == pytest.approx(jensenshannon(*counts, base=2), rel=1e-9)

    @every_word
    def test_jensen_shannon_on_words_is_equal(self, name: str) -> None:
        counts = word_counts(name)
        assert stats.js_distance(*counts) == pytest.approx(jensenshannon(*counts, base=2), rel=1e-9)

    @every_number
    def test_wasserstein_with_a_bin_for_every_value_is_equal(self, name: str) -> None:
        """A bin of no width at every value, empty bins between them: nothing is lost, nothing differs."""
        case = NUMBERS[name]
        values, places = np.unique(np.concatenate((case.reference, case.current)), return_inverse=True)
        before, after = (np.zeros(2 * values.size - 1) for _ in range(2))
        np.add.at(before, 2 * places[:ROWS], 1)
        np.add.at(after, 2 * places[ROWS:], 1)
        ours = stats.wasserstein(np.repeat(values, 2), before, after)
        assert ours == pytest.approx(wasserstein_distance(case.reference, case.current), rel=1e-9)

    @every_number
    @pytest.mark.parametrize("bins", [20, 200])
    def test_wasserstein_on_bins_stays_within_its_bound(self, name: str, bins: int) -> None:
        """Spreading a bin's rows evenly moves each by half a width at most: that is the bound."""
        case = NUMBERS[name]
        edges = case.edges(bins)
        before, after = case.counts(edges)
        ours = stats.wasserstein(edges, before, after)
        exact = wasserstein_distance(case.reference, case.current)
        bound = float(np.diff(edges) @ np.add(before, after)) / (2 * ROWS)
        assert abs(ours - exact) <= bound
        # The bound is for the worst rows there can be. Here the wide outer bins hold most rows near their
        # inner edge; spreading them evenly shows too much, up to 0.042 deviations in a change of 0.51.
        excess = (ours - exact) / case.reference.std()
        assert -0.001 < excess < (0.01 if name in UNCHANGED else 0.05 if bins == 20 else 0.03)

    @every_number
    @pytest.mark.parametrize("bins", [20, 200])
    def test_ks_on_bins_is_below_by_less_than_the_largest_bin(self, name: str, bins: int) -> None:
        """Inside a bin the gap can grow by the smaller of the two shares only."""
        case = NUMBERS[name]
        before, after = case.counts(case.edges(bins))
        exact = ks_2samp(case.reference, case.current).statistic
        largest = np.minimum(before, after).max() / ROWS
        assert exact - largest <= stats.ks_statistic(before, after) <= exact + 1e-12

    @every_number
    def test_ks_with_a_bin_for_every_value_is_equal(self, name: str) -> None:
        case = NUMBERS[name]
        values = np.unique(np.concatenate((case.reference, case.current)))
        counts = case.counts([*values, values[-1] + 1])
        exact = ks_2samp(case.reference, case.current).statistic
        assert stats.ks_statistic(*counts) == pytest.approx(exact, rel=1e-9)

    @pytest.mark.parametrize("tail", [0.05, 0.01, 0.001])
    def test_the_most_that_chance_gives_is_equal(self, tail: float) -> None:
        # Around 500 the closed form takes over.
        expected = (0.0, 0.001, 0.0011, 0.36, 1.0, 12.0, 300.0, 499.9, 500.0, 500.1, 600.0, 5000.0, 123456.7, 1e6, 1e8)
        for mean in expected:
            assert chance.most_by_chance(mean, tail) == poisson.ppf(1 - tail, mean), mean


@pytest.mark.slow
class TestEvidently:
    """Evidently's own statistical tests, called as its drift reports call them."""

    @every_word
    def test_jensen_shannon_of_words_differs_by_the_logarithm(self, name: str, evidently: dict) -> None:
        ours = stats.js_distance(*word_counts(name))
        assert ours == pytest.approx(1.2011 * evidently[name]["jensenshannon"], rel=1e-4)
        assert ours == pytest.approx(BASE_2 * evidently[name]["jensenshannon"], rel=1e-9)

    @every_number
    def test_jensen_shannon_in_their_bins_differs_by_the_logarithm(self, name: str, evidently: dict) -> None:
        case = NUMBERS[name]
        ours = stats.js_distance(*case.counts(case.sturges()))
        assert ours == pytest.approx(BASE_2 * evidently[name]["jensenshannon"], rel=1e-9)

    @every_number
    def test_jensen_shannon_in_our_bins_is_below_that_in_both_cuts(self, name: str, evidently: dict) -> None:
        """No cut shows more than a finer one, so both figures have the same upper bound."""
        case = NUMBERS[name]
        finer = np.union1d(case.edges(), case.sturges())
        most = stats.js_distance(*case.counts(finer))
        ours, theirs = (
            stats.js_distance(*case.counts(case.edges())),
            BASE_2 * evidently[name]["jensenshannon"],
        )
        assert max(ours, theirs) <= most + 1e-9
        # And on smooth rows the cut matters little: less than noise is worth at these sizes.
        assert abs(ours - theirs) < stats.js_limit(ROWS, ROWS, BINS + 2)

    @pytest.mark.parametrize("name", ["same words", "moved words"])
    def test_psi_of_words_without_an_empty_one_is_equal_unsmoothed(self, name: str, evidently: dict) -> None:
        counts = word_counts(name)
        assert stats.psi(*counts, smoothing=0) == pytest.approx(evidently[name]["psi"], rel=1e-9)
        # Half a row in a category of 500 rows is a thousandth of it.
        assert stats.psi(*counts) == pytest.approx(evidently[name]["psi"], rel=5e-3)

    def test_psi_of_a_new_word_depends_on_what_is_written_into_the_empty_bin(self, evidently: dict) -> None:
        """Theirs puts 0.0001 where ours puts half a row of 5,000, which is 0.0001 too: they agree here."""
        before, after = word_counts("new word")
        theirs = evidently["new word"]["psi"]
        assert before[-1] == 0
        assert stats.psi(before, after, smoothing=0) == math.inf
        assert stats.psi(before, after) == pytest.approx(theirs, rel=0.02)
        # At 500,000 rows half a row is 0.000001: ours rises by share * ln(100), theirs stays.
        many = stats.psi([100 * count for count in before], [100 * count for count in after])
        assert many - theirs == pytest.approx(after[-1] / ROWS * math.log(100), rel=0.03)

    @every_number
    def test_psi_in_their_bins_with_their_filling_is_equal(self, name: str, evidently: dict) -> None:
        """With shares filled their way and left unnormed, the rest of the formula is the same."""
        case = NUMBERS[name]
        shares = [np.array(counts) / ROWS for counts in case.counts(case.sturges())]
        for one in shares:
            smallest = one[one > 0].min()
            one[one == 0] = smallest / 10**6 if smallest <= 0.0001 else 0.0001
        filled = float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))
        assert filled == pytest.approx(evidently[name]["psi"], rel=1e-9)
        # Filling adds 0.0001 or less per empty bin to a sum of 1; our norming of the shares takes it back.
        assert stats.psi(*shares, smoothing=0) == pytest.approx(filled, rel=0.01)

    @every_number
    def test_psi_in_our_bins_differs_by_less_than_noise(self, name: str, evidently: dict) -> None:
        """Another cut and filling: no bound holds for all rows, but here the fixed rule says the same."""
        ours, theirs = stats.psi(*NUMBERS[name].counts(NUMBERS[name].edges())), evidently[name]["psi"]
        assert abs(ours - theirs) < stats.psi_limit(ROWS, ROWS, BINS + 2)
        assert (ours >= stats.MINIMUM_EFFECTS["psi"]) == (theirs >= 0.1)

    @every_number
    def test_wasserstein_differs_by_the_binning_only(self, name: str, evidently: dict) -> None:
        """Same norming: the deviation of the reference over n, with the same floor of 0.001."""
        case = NUMBERS[name]
        deviation = float(case.reference.std())
        theirs = evidently[name]["wasserstein"]
        exact = wasserstein_distance(case.reference, case.current)
        assert theirs == pytest.approx(exact / deviation, rel=1e-9)
        edges = case.edges()
        before, after = case.counts(edges)
        ours = stats.normed_wasserstein(edges, before, after, deviation)
        assert abs(ours - theirs) <= float(np.diff(edges) @ np.add(before, after)) / (2 * ROWS * deviation)
        assert -0.001 < ours - theirs < (0.01 if name in UNCHANGED else 0.05)
        assert (ours >= stats.MINIMUM_EFFECTS["normed_wasserstein"]) == (theirs >= 0.1)

    @every_number
    def test_ks_on_bins_never_claims_more_than_their_p_value(self, name: str, evidently: dict) -> None:
        """Our statistic is smaller, so its p-value is larger; theirs is the exact law, ours its limit."""
        case = NUMBERS[name]
        before, after = case.counts(case.edges())
        statistic = stats.ks_statistic(before, after)
        ours, theirs = float(kolmogorov(statistic * math.sqrt(ROWS / 2))), evidently[name]["ks"]
        assert theirs == pytest.approx(ks_2samp(case.reference, case.current).pvalue, rel=1e-6)
        assert ours >= theirs * 0.95
        assert (theirs <= 0.05) == (name not in UNCHANGED)

    @pytest.mark.parametrize("name", [*NUMBERS, *WORDS])
    def test_calibrated_psi_and_js_see_made_changes_and_no_other(self, name: str, evidently: dict) -> None:
        """Both agree where nothing changed; small true changes are below the fixed 0.1 of both."""
        counts = NUMBERS[name].counts(NUMBERS[name].edges()) if name in NUMBERS else word_counts(name)
        bins = len(counts[0])
        p_psi = stats.psi_p_value(stats.psi(*counts), ROWS, ROWS, bins)
        p_js = stats.js_p_value(stats.js_distance(*counts), ROWS, ROWS, bins)
        assert (p_psi < 0.001) == (p_js < 0.001) == (name not in UNCHANGED)
        if name in UNCHANGED:
            assert max(evidently[name]["psi"], evidently[name]["jensenshannon"]) < 0.1
