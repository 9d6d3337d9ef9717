"""The chi-square law for whole degrees of freedom, without SciPy: what limits and p-values need.

Here: the chance of more than a value, and the value that is exceeded with a chance. Standard library only: the
daemon judges drift every hour, and SciPy with NumPy would cost it 27 MB for good.

Both agree with SciPy to 10 digits, up to 10,000 degrees (``tests/unit/test_chi_square.py``).

References:
    Abramowitz and Stegun (1972), Handbook of Mathematical Functions, 26.4.4, 26.4.5 (finite sums), 26.4.6
    (series), 26.4.17 (the start of the search, by Wilson and Hilferty).
"""

from __future__ import annotations

from functools import lru_cache
from math import erfc, exp, inf, lgamma, log, sqrt
from statistics import NormalDist

# A term below this part of the sum changes no digit.
_NEGLIGIBLE = 1e-17
_STEPS = 200


def chance_above(degrees: int, value: float) -> float:
    """Return the chance that chi-square with so many degrees of freedom, 1 or more, exceeds a value.

    Cost:
        Up to about ``degrees`` / 2 multiplications; few where the value is far from the degrees.

    Examples:
        >>> round(chance_above(19, 43.820), 6), chance_above(3, 0.0)
        (0.001, 1.0)
    """
    half, y = degrees / 2, value / 2
    # The half, not the value: of the smallest float nothing is left.
    if y <= 0:
        return 1.0
    if y == inf:
        return 0.0
    if y < half:
        return 1.0 - _density(half + 1, y) * _rising(half, y)
    # All terms are positive, the largest first, so nothing cancels.
    total, term, power = 0.0, _density(half, y), half - 1
    while power >= 0 and term > _NEGLIGIBLE * total:
        total += term
        term *= power / y
        power -= 1
    return min(1.0, total + erfc(sqrt(y)) if degrees % 2 else total)


@lru_cache(maxsize=1024)
def exceeded_with(degrees: int, tail: float) -> float:
    """Return the value that chi-square with so many degrees, 1 or more, exceeds with chance ``tail``.

    Args:
        degrees: Whole degrees of freedom.
        tail: Chance, between 0 and 1.

    Cost:
        That of about five calls of ``chance_above``; asked again, nothing.

    Examples:
        >>> round(exceeded_with(19, 0.001), 3)
        43.82
    """
    spread = 2 / (9 * degrees)
    root = 1 - spread - NormalDist().inv_cdf(tail) * sqrt(spread)
    value, low, high = max(degrees * root**3, 1e-3 * degrees), 0.0, inf
    for _step in range(_STEPS):
        chance = chance_above(degrees, value)
        low, high = (value, high) if chance > tail else (low, value)
        slope = _density(degrees / 2, value / 2) / 2
        # Newton's step on the logarithm, which is nearly straight in the far tail.
        step = chance * log(chance / tail) / slope if chance and slope else inf
        following = value + step
        if not low <= following <= high:
            following = (low + high) / 2 if high < inf else 2 * value
        if abs(following - value) <= 1e-14 * value:
            return following
        value = following
    return value


def _density(shape: float, y: float) -> float:
    """Return y^(shape - 1) e^-y / Gamma(shape)."""
    return exp((shape - 1) * log(y) - y - lgamma(shape))


def _rising(half: float, y: float) -> float:
    """Return the sum of y^n / ((half + 1) ... (half + n)) over n from 0."""
    total, term, under = 0.0, 1.0, half
    while term > _NEGLIGIBLE * total:
        total += term
        under += 1
        term *= y / under
    return total
