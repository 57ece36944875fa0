"""The energy distance between two sets of points in a few dimensions."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

BLOCK = 1024  # rows of the distance matrix held at a time


def energy_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| over all pairs, in the unit of the points.

    Szekely & Rizzo 2013, eq. 2.5 (the V-statistic: pairs of a point with itself
    count). At least zero, and zero only for equal sets; two samples of one law score
    about (1/n + 1/m) E|X - X'|, so read it beside a floor. In one dimension it is the
    square of `scipy.stats.energy_distance`.
    """
    return 2.0 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)


def mean_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """The mean Euclidean distance over all n * m pairs, in float64."""
    blocks = (x[i : i + BLOCK] for i in range(0, len(x), BLOCK))
    total = sum(float(cdist(block, y).sum()) for block in blocks)
    return total / (len(x) * len(y))
