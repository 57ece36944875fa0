"""The Frechet distance without its bias, and how far it varies.

The distance of a finite set is too large, by about c / N with an unknown c that depends
on the model, so that it ranks no two models (Chong & Forsyth 2020, arXiv:1911.07023).
"""

from collections.abc import Callable

import numpy as np

from genjax.evaluation.frechet import moments_of

SIZES, PARTS = 15, 5

Distance = Callable[[np.ndarray, np.ndarray], float]
"""(mean, covariance) -> the distance, from `genjax.evaluation.frechet.frechet_from`."""


def fd_infinity(distance: Distance, rows: np.ndarray, *, seed: int = 0) -> float:
    """The distance at 1/N = 0, from a line through 15 sizes: their section 3.2.

    rows: (n, d). A set of each size of `sizes` is chosen without replacement, by
    pseudo-random numbers in place of their Sobol ones. The line is one of least squares
    in 1/N. It is a good fit for sets of several times d rows, and the result can be
    negative. Only the rows' bias goes: the reference should have many more rows.
    Raises ValueError for fewer than 30 rows.
    """
    rng = np.random.default_rng(seed)
    counts = sizes(*rows.shape)
    found = [_of(distance, rows, rng.permutation(len(rows))[:n]) for n in counts]
    if not np.isfinite(found).all():
        return float("nan")
    return float(np.polyfit(1.0 / counts, found, 1)[1])


def sizes(count: int, dims: int) -> np.ndarray:
    """15 evenly spaced numbers of rows up to `count`.

    From count / 10, as theirs, but from 2 dims where there are as many: below that the
    bias is no line in 1/N. Never from more than count / 2.
    """
    if count < 2 * SIZES:
        raise ValueError(f"{SIZES} sizes take {2 * SIZES} rows, got {count}")
    first = min(max(count // 10, 2 * dims), count // 2)
    return np.linspace(first, count, SIZES).astype(int)


def over_parts(distance: Distance, rows: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1) over 5 disjoint parts of the rows (n, d).

    Row i is in part i % 5. The parts are smaller and their mean is more biased; the
    deviation over sqrt(5) is about that of the distance of all rows.
    """
    every = np.arange(len(rows))
    found = [_of(distance, rows, every[part::PARTS]) for part in range(PARTS)]
    return float(np.mean(found)), float(np.std(found, ddof=1))


def _of(distance: Distance, rows: np.ndarray, index: np.ndarray) -> float:
    chosen = moments_of(rows, index)
    return distance(chosen.mean, chosen.cov)
