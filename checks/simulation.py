"""Draws how far shares move when nothing changed: the part of ``checks.stats`` that needs NumPy.

It imports nothing of recwatch, so it runs as a program too: JSON from standard input, the point as JSON to standard
output. A process that must stay small starts it as one (``monitor.apart``); what NumPy takes goes with the process.
"""

import json
import sys
from collections.abc import Sequence

import numpy as np

DRAWS, CELLS_AT_ONCE = 30_000, 65_536


def drawn_point(shares: Sequence[float], tail: float, seed: int) -> float:
    """Return what L-infinity exceeds with chance ``tail``, as a factor of sqrt(1/n + 1/m).

    With many rows, q - p over that root is normal with covariance diag(p) - p p'; it is drawn 30,000 times.

    Args:
        shares: Shares of the reference, by bin; their sum is 1.
        tail: Chance of exceeding the point.
        seed: Start of the random numbers.

    Cost:
        Linear in bins: 40 ms for 23 bins, 0.9 s for 1,000; 12 MB.
    """
    roots, random = np.sqrt(np.asarray(shares, dtype=np.float64)), np.random.default_rng(seed)
    columns, largest = max(1, CELLS_AT_ONCE // roots.size), []
    for start in range(0, DRAWS, columns):
        change = random.standard_normal((roots.size, min(columns, DRAWS - start)))
        drift = roots @ change
        change *= roots[:, None]
        change -= np.outer(roots**2, drift)
        largest.append(np.abs(change).max(axis=0))
    return float(np.quantile(np.concatenate(largest), 1 - tail))


if __name__ == "__main__":
    json.dump(drawn_point(**json.load(sys.stdin)), sys.stdout)
