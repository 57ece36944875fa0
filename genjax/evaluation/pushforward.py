"""The density of g(z), z ~ N(0, 1), for a function g from the line to the line.

On a fine grid z_0 < ... < z_n, g is taken as linear between neighbours, as a network of
rectified units is, and as constant beyond the ends. Then with the normal law's Phi

  (1)  P(g(z) <= x) = Phi(z_0) [g(z_0) <= x] + (1 - Phi(z_n)) [g(z_n) <= x]
                      + sum_i P(z_i < z <= z_{i+1}, g(z) <= x)

where the part of a piece that lies below x is an interval, on the left where g rises
and on the right where it falls. So the mass of every bin is exact, also where g folds
the line (z^2) or puts mass on a point, where a density does not exist.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, rel_entr

Values = Float[np.ndarray, " n"]
Edges = Float[np.ndarray, " e"]

LIMIT = 6.0  # beyond it lie 2e-9 of N(0, 1)


def normal_grid(num: int = 2001) -> Values:
    """Evenly spaced z in [-LIMIT, LIMIT]."""
    return np.linspace(-LIMIT, LIMIT, num)


def pushforward_cdf(z: Values, x: Values, at: Edges) -> Edges:
    """(1), at the points `at`, x being g(z); z rises. In float64."""
    z, x, at = (values.astype(np.float64) for values in (z, x, at))
    (left, right), (first, last) = (z[:-1], z[1:]), (x[:-1], x[1:])
    low, high = np.minimum(first, last), np.maximum(first, last)
    rises, length, mass = last >= first, right - left, ndtr(right) - ndtr(left)
    total = ndtr(z[0]) * (x[0] <= at) + ndtr(-z[-1]) * (x[-1] <= at)
    for i, point in enumerate(at):  # few pieces cross a point
        c = (low < point) & (point < high)
        part = (point - low[c]) / (high[c] - low[c]) * length[c]
        risen = ndtr(left[c] + part) - ndtr(left[c])
        fallen = ndtr(right[c]) - ndtr(right[c] - part)
        total[i] += mass[high <= point].sum() + np.where(rises[c], risen, fallen).sum()
    return total


def masses(cdf: Edges) -> Float[np.ndarray, " m"]:
    """Of the e + 1 bins that e edges make, the first and the last without an end."""
    return np.diff(cdf, prepend=0.0, append=1.0)


def jensen_shannon(p: Values, q: Values) -> float:
    """JSD of two lists of masses, in nats: 0 if they are equal, log 2 if apart.

    Of the masses of bins it is at most that of the densities (data processing), and
    goes there as the bins become narrow. Lin 1991, eq. 4.1 with equal weights.
    """
    middle = 0.5 * (p + q)
    return float(0.5 * (rel_entr(p, middle) + rel_entr(q, middle)).sum())


def wasserstein1(p_cdf: Edges, q_cdf: Edges, edges: Edges) -> float:
    """W1 = integral of |P - Q| between the first and the last edge (trapezoids)."""
    return float(np.trapezoid(np.abs(p_cdf - q_cdf), edges))


def optimal_discriminator(p: Values, q: Values) -> Values:
    """The best D, p / (p + q) of masses or densities; 1/2 where both are 0.

    Goodfellow et al. 2014 (arXiv:1406.2661), proposition 1.
    """
    total = p + q
    return np.where(total > 0, p / np.where(total > 0, total, 1.0), 0.5)


def discriminator_gap(d: Values, p: Values, q: Values) -> float:
    """Mean |D - p / (p + q)| under (p + q) / 2, from 0 to 1.

    d: the probabilities of the bins; p, q: their masses, whose sums may be below 1.
    """
    weight = 0.5 * (p + q)
    return float((weight * np.abs(d - optimal_discriminator(p, q))).sum())
