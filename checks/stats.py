"""Distances between two binned distributions, and how large they get when nothing has changed.

Here: five statistics on counts per bin, their limits and p-values under "no change", the larger of a limit
and a minimum effect, and Benjamini-Hochberg. Not here: choosing bins, counting rows (the engine does),
verdicts, and figures about one catalogue (``concentration``).

Words: ``reference`` and ``current`` are rows per bin, 0 or more, in the same order of bins, with shares p and
q; ``n`` and ``m`` are the rows of both; ``tail`` is the chance of a false alarm, between 0 and 1.

The laws hold for large counts. A bin should expect 10 rows or more in the smaller sample, and 50 or more when
there are thousands of bins; join rarer bins (chosen by both counts added, which favours neither sample).

Cost:
    Arithmetic over the bins, microseconds, except for ``null_quantiles``. SciPy is imported where it is used.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Smallest change worth a message, by function.
MINIMUM_EFFECTS: Mapping[str, float] = MappingProxyType(
    {"psi": 0.1, "js_distance": 0.1, "normed_wasserstein": 0.1, "l_infinity": 0.02, "ks_statistic": 0.1}
)
# Least standard deviation to divide by, in units of the feature; the same as Evidently's.
DEVIATION_FLOOR = 0.001
# Another seed moves a simulated limit by 1 to 3 percent; below this tail fewer than 15 draws are left.
SEED, DRAWS, CELLS_AT_ONCE = 1, 30_000, 65_536
SMALLEST_SIMULATED_TAIL = 15 / DRAWS


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
    filled = before + after > 0
    before, after = before[filled], after[filled]
    with np.errstate(divide="ignore"):
        return float(np.sum((after - before) * np.log(after / before)))


def js_distance(reference: Sequence[float], current: Sequence[float]) -> float:
    """Return the Jensen-Shannon distance in base 2: 0 for equal shares, 1 for samples that share no bin.

    It is the square root of the divergence; empty bins need no smoothing. The natural logarithm would make it
    smaller by a factor of sqrt(ln 2) = 0.8326.

    Examples:
        >>> round(js_distance((50, 50), (90, 10)), 4)
        0.3831
    """
    before, after = _share_pair(reference, current)
    middle = (before + after) / 2
    divergence = (_relative_bits(before, middle) + _relative_bits(after, middle)) / 2
    return math.sqrt(min(1.0, max(0.0, divergence)))


def l_infinity(reference: Sequence[float], current: Sequence[float]) -> float:
    """Return the largest change of any one bin's share, from 0 to 1.

    Examples:
        >>> round(l_infinity((50, 50), (90, 10)), 4)
        0.4
    """
    before, after = _share_pair(reference, current)
    return float(np.max(np.abs(after - before)))


def ks_statistic(reference: Sequence[float], current: Sequence[float]) -> float:
    """Return the largest gap between the cumulative shares at the edges of ordered bins, from 0 to 1.

    It is a lower bound of the Kolmogorov-Smirnov statistic of the raw values, which may peak inside a bin; it
    falls short by at most the largest min(p, q) of a bin. Leave out bins without an order, such as ``null``.

    Examples:
        >>> ks_statistic((25, 25, 25, 25), (0, 50, 25, 25))
        0.25
    """
    return float(np.max(np.abs(_cumulative_gap(*_share_pair(reference, current)))))


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
    return float(_area(_widths(edges, before.size), _cumulative_gap(before, after)))


def normed_wasserstein(
    edges: Sequence[float], reference: Sequence[float], current: Sequence[float], reference_deviation: float
) -> float:
    """Return the Wasserstein distance in standard deviations of the reference.

    A deviation below ``DEVIATION_FLOOR`` (a constant feature) counts as that floor. Divide the limit from
    ``NullQuantiles.wasserstein``, which is in the feature's unit, by the same figure.

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


@dataclass(frozen=True)
class NullQuantiles:
    """Factors c of one reference; ``scaled_limit(c, n, m)`` is the limit. All plain numbers, to be stored.

    Args:
        l_infinity: Factor of the largest change of a share.
        ks: Factor of the KS statistic on the edges; for bins in another order it is another figure.
        wasserstein: Factor of the Wasserstein distance in the feature's unit; None without edges.
        tail: Chance that a limit is exceeded when nothing changed.
    """

    l_infinity: float
    ks: float
    wasserstein: float | None
    tail: float


def null_quantiles(
    reference: Sequence[float], edges: Sequence[float] | None = None, tail: float = 0.001, seed: int = SEED
) -> NullQuantiles:
    """Return how large L-infinity, KS and Wasserstein get under no change, for any number of rows.

    With many rows, q - p is normal with covariance (1/n + 1/m) (diag(p) - p p'), drawn 30,000 times. A bin
    empty in the reference stays empty. For L-infinity with ``null``, call again with it and without edges.

    Args:
        reference: Rows per bin of the reference.
        edges: As for ``wasserstein``; None leaves that statistic out.
        tail: Chance of exceeding a limit, from 0.0005, below which the draws are too few, to under 1.
        seed: Start of the random numbers; the same seed gives the same figures.

    Cost:
        Linear in bins: 40 ms for 23 bins, 0.9 s for 1,000 (so join the rare ones of a catalogue); 12 MB.

    Examples:
        >>> round(null_quantiles((50, 50), tail=0.01).l_infinity, 1)
        1.3
    """
    if not SMALLEST_SIMULATED_TAIL <= tail < 1:
        raise ValueError(f"tail must be from {SMALLEST_SIMULATED_TAIL} to under 1, got {tail}; use 0.001")
    shares = _shares("reference", reference)
    widths = None if edges is None else _widths(edges, shares.size)
    points = [float(point) for point in np.quantile(_drawn(shares, widths, seed), 1 - tail, axis=1)]
    return NullQuantiles(points[0], points[1], points[2] if edges is not None else None, tail)


def scaled_limit(factor: float, n: float, m: float) -> float:
    """Return the limit for n and m rows from a factor of ``NullQuantiles``: factor * sqrt(1/n + 1/m).

    Examples:
        >>> scaled_limit(1.5, 18, 18)
        0.5
    """
    return _measured(factor) * math.sqrt(_row_scale(n, m))


@dataclass(frozen=True)
class Limit:
    """A limit and where it comes from, in words for the report."""

    value: float
    origin: Literal["minimum effect", "sample size"]


def effect_limit(minimum_effect: float, null_limit: float) -> Limit:
    """Return the larger of the smallest change worth a message and the limit under no change.

    Examples:
        >>> effect_limit(MINIMUM_EFFECTS["psi"], psi_limit(200, 200, bins=20)).origin
        'sample size'
    """
    if _measured(null_limit) > _measured(minimum_effect):
        return Limit(null_limit, "sample size")
    return Limit(minimum_effect, "minimum effect")


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


def _shares(name: str, counts: Sequence[float], smoothing: float = 0.0) -> Array:
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} must be one count per bin, got shape {values.shape}; pass a flat sequence")
    wrong = values[~(np.isfinite(values) & (values >= 0))]
    if wrong.size:
        raise ValueError(f"{name} counts must be finite and 0 or more, got {wrong[0]}; count the rows again")
    if not values.any():
        raise ValueError(f"{name} must hold at least one row, got 0; judge an empty window as unknown")
    values = values + smoothing
    shares: Array = values / values.sum()
    return shares


def _share_pair(first: Sequence[float], second: Sequence[float], rows: float = 0.0) -> tuple[Array, Array]:
    before, after = _shares("reference", first, rows), _shares("current", second, rows)
    if before.size != after.size:
        raise ValueError(f"samples must have equal bins, got {before.size} and {after.size}; freeze the bins")
    return before, after


def _relative_bits(shares: Array, middle: Array) -> float:
    filled = shares > 0
    return float(np.sum(shares[filled] * np.log2(shares[filled] / middle[filled])))


def _cumulative_gap(before: Array, after: Array) -> Array:
    """Return the difference of the cumulative shares at every edge; it is 0 at the first and the last."""
    return np.concatenate(([0.0], np.cumsum(after - before)[:-1], [0.0]))


def _widths(edges: Sequence[float], bins: int) -> Array:
    limits = np.asarray(edges, dtype=np.float64)
    if limits.shape != (bins + 1,):
        raise ValueError(f"edges must be one more than the {bins} bins, got {limits.size}; close open bins")
    widths = np.diff(limits)
    if not (np.isfinite(limits).all() and (widths >= 0).all()):
        raise ValueError(f"edges must be finite and not fall, got {limits.tolist()}; sort them")
    return widths


def _area(widths: Array, gap: Array) -> Array:
    """Return the area under abs(gap), which is linear between edges; the first axis of gap is the edge."""
    crossing = gap[:-1] * gap[1:]
    np.minimum(crossing, 0.0, out=crossing)
    size = np.abs(gap)
    np.divide(crossing, size[:-1] + size[1:], out=crossing, where=crossing < 0)
    reach = np.append(widths, 0.0) + np.append(0.0, widths)
    area: Array = reach @ size / 2 + widths @ crossing
    return area


def _drawn(shares: Array, widths: Array | None, seed: int) -> Array:
    random, columns = np.random.default_rng(seed), max(1, CELLS_AT_ONCE // shares.size)
    roots, chunks = np.sqrt(shares), []
    for start in range(0, DRAWS, columns):
        change = random.standard_normal((shares.size, min(columns, DRAWS - start)))
        drift = roots @ change
        change *= roots[:, None]
        change -= np.outer(shares, drift)
        gap = np.zeros((shares.size + 1, change.shape[1]))
        np.cumsum(change, axis=0, out=gap[1:])
        rows = [np.abs(change).max(axis=0), np.abs(gap).max(axis=0)]
        chunks.append(np.stack(rows if widths is None else [*rows, _area(widths, gap)]))
    return np.concatenate(chunks, axis=1)


def _chi_square_point(bins: int, tail: float) -> float:
    from scipy.special import chdtri

    _check_ratio("tail", tail)
    degrees = _degrees(bins)
    return float(chdtri(degrees, tail)) if degrees else 0.0


def _chi_square_tail(bins: int, value: float) -> float:
    from scipy.special import chdtrc

    degrees = _degrees(bins)
    return float(chdtrc(degrees, value)) if degrees else 1.0


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
