"""Distances between two binned distributions, and how large they get when nothing has changed.

Here: five statistics on counts per bin, their limits and p-values under "no change", the larger of a limit
and a minimum effect, and Benjamini-Hochberg. Not here: choosing bins, counting rows (the engine does),
verdicts, and figures about one catalogue (``concentration``).

Words: ``reference`` and ``current`` are rows per bin, 0 or more, in the same order of bins, with shares p and
q; ``n`` and ``m`` are the rows of both; ``tail`` is the chance of a false alarm, between 0 and 1.

The laws hold for large counts. A bin should expect 10 rows or more in the smaller sample, and 50 or more when
there are thousands of bins; join rarer bins (chosen by both counts added, which favours neither sample).

Cost:
    Arithmetic over the bins, a microsecond each, except for ``l_infinity_factor``, which alone loads NumPy. All else
    is the standard library's: every daemon judges drift, and NumPy with SciPy would cost each of them 27 MB.

Raises:
    ValueError: Every function, for input that cannot be: a count that is negative or not finite, samples with
        different bins or without rows, edges that fall, a ratio outside its range.

References:
    PSI: Yurdakul (2018), Statistical Properties of Population Stability Index, Western Michigan University.
    JS: Lin (1991), Divergence Measures Based on the Shannon Entropy, IEEE Trans. Information Theory 37(1);
    Grosse et al. (2002), Analysis of Symbolic Sequences Using the Jensen-Shannon Divergence, Phys. Rev. E 65.
    KS: Conover (1972), A Kolmogorov Goodness-of-Fit Test for Discontinuous Distributions, JASA 67.
    Wasserstein: Vallender (1974), Calculation of the Wasserstein Distance Between Probability Distributions
    on the Line, Theory of Probability and Its Applications 18(4).
    Several tests: Benjamini and Hochberg (1995), Controlling the False Discovery Rate, JRSS B 57(1).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from types import MappingProxyType

from checks import chi_square

Shares = list[float]

# Smallest change worth a message, by function.
MINIMUM_EFFECTS: Mapping[str, float] = MappingProxyType(
    {"psi": 0.1, "js_distance": 0.1, "normed_wasserstein": 0.1, "l_infinity": 0.02, "ks_statistic": 0.1}
)
# Least standard deviation to divide by, in units of the feature; the same as Evidently's.
DEVIATION_FLOOR = 0.001
# Another seed moves a simulated limit by 1 to 3 percent; below this tail fewer than 15 draws are left.
SEED, SMALLEST_SIMULATED_TAIL = 1, 0.0005


def psi(reference: Sequence[float], current: Sequence[float], smoothing: float = 0.5) -> float:
    """Return the population stability index, the sum of (q - p) ln(q / p), 0 or more.

    Args:
        reference: Rows per bin of the reference.
        current: Rows per bin of the window under test.
        smoothing: Rows added to every bin, 0 or more; with 0, a bin that one sample lacks makes it infinite.

    Examples:
        >>> round(psi((50, 50), (90, 10), smoothing=0), 4)
        0.8789
    """
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise ValueError(f"smoothing must be 0 or more rows, got {smoothing}; use 0.5")
    before, after = _share_pair(reference, current, smoothing)
    filled = [(p, q) for p, q in zip(before, after, strict=True) if p or q]
    if not all(p and q for p, q in filled):
        return math.inf
    return math.fsum((q - p) * math.log(q / p) for p, q in filled)


def js_distance(reference: Sequence[float], current: Sequence[float]) -> float:
    """Return the Jensen-Shannon distance in base 2: 0 for equal shares, 1 for samples that share no bin.

    It is the square root of the divergence; empty bins need no smoothing. The natural logarithm would make it
    smaller by a factor of sqrt(ln 2) = 0.8326.

    Examples:
        >>> round(js_distance((50, 50), (90, 10)), 4)
        0.3831
    """
    before, after = _share_pair(reference, current)
    middle = [(p + q) / 2 for p, q in zip(before, after, strict=True)]
    divergence = (_relative_bits(before, middle) + _relative_bits(after, middle)) / 2
    return math.sqrt(min(1.0, max(0.0, divergence)))


def l_infinity(reference: Sequence[float], current: Sequence[float]) -> float:
    """Return the largest change of any one bin's share, from 0 to 1.

    Examples:
        >>> round(l_infinity((50, 50), (90, 10)), 4)
        0.4
    """
    before, after = _share_pair(reference, current)
    return max(abs(q - p) for p, q in zip(before, after, strict=True))


def ks_statistic(reference: Sequence[float], current: Sequence[float]) -> float:
    """Return the largest gap between the cumulative shares at the edges of ordered bins, from 0 to 1.

    It is a lower bound of the Kolmogorov-Smirnov statistic of the raw values, which may peak inside a bin; it
    falls short by at most the largest min(p, q) of a bin. Leave out bins without an order, such as ``null``.

    Examples:
        >>> ks_statistic((25, 25, 25, 25), (0, 50, 25, 25))
        0.25
    """
    return max(map(abs, _cumulative_gap(*_share_pair(reference, current))))


def wasserstein(edges: Sequence[float], reference: Sequence[float], current: Sequence[float]) -> float:
    """Return the area between the cumulative shares: the mean distance rows have to move, in feature units.

    Rows count as spread evenly inside their bin; the area is exact for that, also where the curves cross. It
    differs from that of the raw values by at most the sum of width * (p + q) / 2. One wild value can move it.

    Args:
        edges: Limits of the bins, one more than bins, not falling. Close the open bins with the extremes of
            both samples: ``(min(lowest, inner[0]), *inner, max(highest, inner[-1]))``. A bin of no width
            holds equal values.
        reference: Rows per bin of the reference, lowest bin first, without ``null``.
        current: Rows per bin of the window under test.

    Examples:
        >>> wasserstein((0, 1, 2, 3), (10, 0, 0), (0, 0, 10))
        2.0
    """
    before, after = _share_pair(reference, current)
    return _area(_widths(edges, len(before)), _cumulative_gap(before, after))


def normed_wasserstein(
    edges: Sequence[float], reference: Sequence[float], current: Sequence[float], reference_deviation: float
) -> float:
    """Return the Wasserstein distance in standard deviations of the reference.

    A deviation below ``DEVIATION_FLOOR`` (a constant feature) counts as that floor.

    Examples:
        >>> normed_wasserstein((0, 1, 2, 3), (10, 0, 0), (0, 0, 10), reference_deviation=4.0)
        0.5
    """
    if not (math.isfinite(reference_deviation) and reference_deviation >= 0):
        raise ValueError(f"reference_deviation must be 0 or more, got {reference_deviation}; measure again")
    return wasserstein(edges, reference, current) / max(reference_deviation, DEVIATION_FLOOR)


def psi_limit(n: float, m: float, bins: int, tail: float = 0.001) -> float:
    """Return what PSI exceeds with chance ``tail`` when nothing changed: (1/n + 1/m) chi2(bins - 1).

    Smoothing makes the chance smaller when bins are nearly empty. One bin alone cannot change: limit 0.

    Examples:
        >>> round(psi_limit(200, 200, bins=20), 4)
        0.4382
    """
    return _row_scale(n, m) * _chi_square_point(bins, tail)


def psi_p_value(value: float, n: float, m: float, bins: int) -> float:
    """Return the chance of a PSI of ``value`` or more when nothing changed.

    Examples:
        >>> round(psi_p_value(0.4382, 200, 200, bins=20), 4)
        0.001
    """
    return _chi_square_tail(bins, _measured(value) / _row_scale(n, m))


def js_limit(n: float, m: float, bins: int, tail: float = 0.001) -> float:
    """Return what the JS distance exceeds with chance ``tail`` when nothing changed.

    The divergence in base 2 is near (1/n + 1/m) chi2(bins - 1) / (8 ln 2). Bins that expect fewer than 10
    rows make it larger (false alarms): 100,000 items drawn 1/rank, a million events each, nothing changed,
    read 0.203 with a limit of 0.191; with items under 50 events joined, 0.035 with a limit of 0.036.

    Examples:
        >>> round(js_limit(200, 200, bins=20), 4)
        0.2811
    """
    return math.sqrt(_row_scale(n, m) * _chi_square_point(bins, tail) / (8 * math.log(2)))


def js_p_value(value: float, n: float, m: float, bins: int) -> float:
    """Return the chance of a JS distance of ``value`` or more when nothing changed.

    Examples:
        >>> round(js_p_value(0.2811, 200, 200, bins=20), 4)
        0.001
    """
    return _chi_square_tail(bins, 8 * math.log(2) * _measured(value) ** 2 / _row_scale(n, m))


def l_infinity_p_value(value: float, reference: Sequence[float], n: float, m: float) -> float:
    """Return at most the chance that any bin's share changes by ``value`` or more when nothing changed.

    It is the sum of the chances of all bins, each change being near normal with many rows.

    Examples:
        >>> round(l_infinity_p_value(0.165, (50, 50), 200, 200), 3)
        0.002
    """
    if _measured(value) == 0:
        return 1.0
    spreads = [p * (1 - p) * _row_scale(n, m) for p in _shares("reference", reference)]
    return min(1.0, math.fsum(chi_square.chance_above(1, value**2 / s) for s in spreads if s))


# Arguments and answer of ``checks.simulation.drawn_point``, which is the default.
Simulate = Callable[[Sequence[float], float, int], float]


def _simulated_here(shares: Sequence[float], tail: float, seed: int) -> float:
    from checks.simulation import drawn_point

    return drawn_point(shares, tail, seed)


_simulate: Simulate = _simulated_here


def simulate_with(simulate: Simulate | None) -> None:
    """Draw elsewhere from now on, in another process for one; None draws here again."""
    global _simulate
    _simulate = simulate or _simulated_here


def l_infinity_factor(reference: Sequence[float], tail: float = 0.001, seed: int = SEED) -> float:
    """Return how large L-infinity gets under no change, for any number of rows; ``scaled_limit`` makes a limit of it.

    With many rows, q - p is normal with covariance (1/n + 1/m) (diag(p) - p p'), drawn 30,000 times. A bin
    empty in the reference stays empty.

    Args:
        reference: Rows per bin of the reference.
        tail: Chance of exceeding a limit, from 0.0005, below which the draws are too few, to under 1.
        seed: Start of the random numbers; the same seed gives the same figures.

    Cost:
        Linear in bins: 40 ms for 23 bins, 0.9 s for 1,000 (so join the rare ones of a catalogue); 12 MB.

    Examples:
        >>> round(l_infinity_factor((50, 50), tail=0.01), 1)
        1.3
    """
    if not SMALLEST_SIMULATED_TAIL <= tail < 1:
        raise ValueError(f"tail must be from {SMALLEST_SIMULATED_TAIL} to under 1, got {tail}; use 0.001")
    return _simulate(_shares("reference", reference), tail, seed)


def scaled_limit(factor: float, n: float, m: float) -> float:
    """Return the limit for n and m rows from ``l_infinity_factor``: factor * sqrt(1/n + 1/m).

    Examples:
        >>> scaled_limit(1.5, 18, 18)
        0.5
    """
    return _measured(factor) * math.sqrt(_row_scale(n, m))


def benjamini_hochberg(p_values: Sequence[float], false_discovery_rate: float = 0.05) -> tuple[bool, ...]:
    """Return which tests count, in the given order, so that few of those that count are false alarms.

    With k tests, all up to the largest p-value that is at most rank * false_discovery_rate / k count. The
    expected share of false ones stays below the rate when the tests are independent or rise together.

    Args:
        p_values: One per feature, from 0 to 1; none gives an empty answer.
        false_discovery_rate: Share of false alarms among alarms, between 0 and 1.

    Examples:
        >>> benjamini_hochberg((0.04, 0.001, 0.03, 0.6))
        (False, True, False, False)
    """
    _check_ratio("false_discovery_rate", false_discovery_rate)
    wrong = [value for value in p_values if not 0 <= value <= 1]
    if wrong:
        raise ValueError(f"p_values must be from 0 to 1, got {wrong[0]}; leave out features without one")
    cutoff = -1.0
    for rank, value in enumerate(sorted(p_values), start=1):
        if value <= rank * false_discovery_rate / len(p_values):
            cutoff = value
    return tuple(value <= cutoff for value in p_values)


def _shares(name: str, counts: Sequence[float], smoothing: float = 0.0) -> Shares:
    inner = next((count for count in counts if isinstance(count, Sequence)), None)
    if inner is not None or not len(counts):
        shape = (len(counts),) if inner is None else (len(counts), len(inner))
        raise ValueError(f"{name} must be one count per bin, got shape {shape}; pass a flat sequence")
    wrong = [count for count in counts if not 0 <= count < math.inf]
    if wrong:
        raise ValueError(f"{name} counts must be finite and 0 or more, got {wrong[0]}; count the rows again")
    if not any(counts):
        raise ValueError(f"{name} must hold at least one row, got 0; judge an empty window as unknown")
    values = [float(count) + smoothing for count in counts]
    total = math.fsum(values)
    return [value / total for value in values]


def _share_pair(first: Sequence[float], second: Sequence[float], rows: float = 0.0) -> tuple[Shares, Shares]:
    before, after = _shares("reference", first, rows), _shares("current", second, rows)
    if len(before) != len(after):
        raise ValueError(f"samples must have equal bins, got {len(before)} and {len(after)}; freeze the bins")
    return before, after


def _relative_bits(shares: Shares, middle: Shares) -> float:
    return math.fsum(p * math.log2(p / between) for p, between in zip(shares, middle, strict=True) if p)


def _cumulative_gap(before: Shares, after: Shares) -> list[float]:
    """Return the difference of the cumulative shares at every edge; it is 0 at the first and the last."""
    changes = [q - p for p, q in zip(before, after, strict=True)]
    return [0.0, *list(accumulate(changes))[:-1], 0.0]


def _widths(edges: Sequence[float], bins: int) -> list[float]:
    if len(edges) != bins + 1:
        raise ValueError(f"edges must be one more than the {bins} bins, got {len(edges)}; close open bins")
    widths = [float(high) - float(low) for low, high in pairwise(edges)]
    if not (all(map(math.isfinite, edges)) and all(width >= 0 for width in widths)):
        raise ValueError(f"edges must be finite and not fall, got {list(edges)}; sort them")
    return widths


def _area(widths: Sequence[float], gap: Sequence[float]) -> float:
    """Return the area under abs(gap), which is linear between edges."""
    return math.fsum(width * _mean_size(*ends) for width, ends in zip(widths, pairwise(gap), strict=True))


def _mean_size(left: float, right: float) -> float:
    """Return the mean of the absolute values on the line from one to the other."""
    whole = abs(left) + abs(right)
    return whole / 2 if left * right >= 0 else whole / 2 + left * right / whole


def _chi_square_point(bins: int, tail: float) -> float:
    _check_ratio("tail", tail)
    degrees = _degrees(bins)
    return chi_square.exceeded_with(degrees, tail) if degrees else 0.0


def _chi_square_tail(bins: int, value: float) -> float:
    degrees = _degrees(bins)
    return chi_square.chance_above(degrees, value) if degrees else 1.0


def _row_scale(n: float, m: float) -> float:
    if not (0 < n < math.inf and 0 < m < math.inf):
        raise ValueError(f"n and m must be rows above 0, got {n} and {m}; judge an empty window as unknown")
    return 1 / n + 1 / m


def _degrees(bins: int) -> int:
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}; pass the number of bins counted")
    return bins - 1


def _measured(value: float) -> float:
    if not value >= 0:
        raise ValueError(f"a statistic or limit must be 0 or more, got {value}; compute it again")
    return value


def _check_ratio(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}; use a ratio, not percent")
