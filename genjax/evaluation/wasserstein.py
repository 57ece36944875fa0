"""The Wasserstein-2 distance between two sets of points in a few dimensions."""

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

MAX_POINTS = 2000  # the exact matching takes about two seconds for these


def wasserstein2(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """The least root mean square distance of x_i from y_p(i) over all matchings p.

    In the unit of the points. Two samples of one law are some n^(-1/2) or more apart,
    so read it beside a floor. NaN for points that are not finite, as a model that has
    diverged draws them. Raises ValueError for sets of different sizes.
    """
    if len(x) != len(y):
        raise ValueError(f"sets of one size are matched, not {len(x)} and {len(y)}")
    cost = cdist(x, y, "sqeuclidean")
    if not np.isfinite(cost).all():
        return float("nan")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))
