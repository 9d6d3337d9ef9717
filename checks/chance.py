"""How far chance alone carries a figure, so that a limit can allow for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, floor, sqrt
from statistics import NormalDist
from typing import Literal

# How often a window may be called bad although its true ratio is just at the limit.
TAIL = 0.001
# How many standard deviations of a normal figure chance exceeds as often.
DEVIATIONS = NormalDist().inv_cdf(1 - TAIL)
# Above this many expected events the normal distribution is as good as Poisson's.
_MANY = 500.0


@lru_cache(maxsize=4096)
def most_by_chance(expected: float, tail: float = TAIL) -> int:
    """Return the greatest count that chance reaches, when ``expected`` events are expected.

    Rare events of large numbers follow Poisson's law; the returned count is its ``1 - tail``
    quantile. Standard library only: the daemon asks at every tick, and SciPy costs it 20 MB.

    Args:
        expected: Mean number of events, 0 or more.
        tail: Probability of a count above the returned one, between 0 and 1.

    Cost:
        At most about 600 multiplications.

    Examples:
        >>> most_by_chance(0.0), most_by_chance(0.36), most_by_chance(12.0)
        (0, 3, 24)

    References:
        Johnson, Kemp and Kotz (2005), Univariate Discrete Distributions, chapter 4.
    """
    if expected > _MANY:
        # Half an event of continuity correction, and the skewness term of Cornish and Fisher.
        z = NormalDist().inv_cdf(1 - tail)
        return floor(expected + z * sqrt(expected) + (z * z - 1) / 6 + 0.5)
    count, share = 0, exp(-expected)
    reached = share
    while reached < 1 - tail:
        count += 1
        share *= expected / count
        reached += share
    return count


def chance_limit(limit: float, total: int) -> float:
    """Return the greatest ratio that is still good when the true ratio may be up to ``limit``.

    With a limit of 0.001 and 360 events, one bad event is a ratio of 0.0028 and no sign of
    anything; with 12 million events, 0.00104 is one. A limit of 0 stays 0: then one is too many.

    Args:
        limit: Greatest true ratio that is good, from 0 to 1.
        total: Events in the window.

    Examples:
        >>> round(chance_limit(0.001, 360), 4), round(chance_limit(0.001, 12_000_000), 6)
        (0.0083, 0.001028)
        >>> chance_limit(0.0, 360)
        0.0
    """
    if not total:
        return limit
    return min(1.0, max(limit, most_by_chance(limit * total) / total))


@dataclass(frozen=True)
class Limit:
    """A limit and where it comes from, in words for the report."""

    value: float
    origin: Literal["minimum effect", "sample size"]


def effect_limit(minimum_effect: float, null_limit: float) -> Limit:
    """Return the larger of the smallest change worth a message and the limit under no change.

    Examples:
        >>> effect_limit(0.1, 0.438).origin
        'sample size'
    """
    wrong = [value for value in (minimum_effect, null_limit) if not value >= 0]
    if wrong:
        raise ValueError(f"a statistic or limit must be 0 or more, got {wrong[0]}; compute it again")
    if null_limit > minimum_effect:
        return Limit(null_limit, "sample size")
    return Limit(minimum_effect, "minimum effect")
