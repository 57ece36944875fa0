"""The kernel distance between two sets of features.

In features of an Inception network this is KID (Binkowski et al. 2018,
arXiv:1801.01401). In other features it is another number: name it after them.
"""

import dataclasses

import numpy as np

SUBSETS, SUBSET_SIZE = 50, 1000  # of the authors' code


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """Over the subsets, mean and standard deviation (ddof 0) of the squared MMD.

    std: None where every subset is the whole of both sets, so that none differ.
    size: the rows of a subset, fewer than asked for where a set has no more.
    """

    mean: float
    std: float | None
    subsets: int
    size: int


def kernel_distance(
    x: np.ndarray,
    y: np.ndarray,
    *,
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
    gamma: float | None = None,
    seed: int = 2020,
) -> KernelDistance:
    """`squared_mmd` of subsets of x (n, d) and y (m, d), drawn as torch-fidelity does.

    In each subset first rows of x, then rows of y are chosen without replacement. For
    equal laws the mean is 0 on average, so that it can be negative.

    gamma: of the kernel; None for 1 / d.
    Raises ValueError for subsets of fewer than 2 rows.
    """
    size = min(size, len(x), len(y))
    if size < 2 or subsets < 1:
        raise ValueError(f"{subsets} subsets of {size} rows have no kernel distance")
    if size == len(x) == len(y):
        return KernelDistance(squared_mmd(x, y, gamma), None, 1, size)
    random = np.random.RandomState(seed)
    found = np.empty(subsets)
    for s in range(subsets):
        left = x[random.choice(len(x), size, replace=False)]
        right = y[random.choice(len(y), size, replace=False)]
        found[s] = squared_mmd(left, right, gamma)
    return KernelDistance(float(found.mean()), float(found.std()), subsets, size)


def squared_mmd(x: np.ndarray, y: np.ndarray, gamma: float | None = None) -> float:
    """The unbiased squared MMD of (m, d) and (m, d) with (gamma x.y + 1)^3.

    Gretton et al. 2012, lemma 6, eq. 3. Inner products in the rows' precision (float32
    for integers), sums in float64. gamma None is 1 / d.
    """
    x, y = (_floating(rows) for rows in (x, y))
    scale = 1.0 / x.shape[1] if gamma is None else gamma

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        base = (a @ b.T).astype(np.float64) * scale + 1.0
        return base * base * base

    within = sum(k.sum() - np.trace(k) for k in (kernel(x, x), kernel(y, y)))
    m = len(x)
    return float(within / (m * (m - 1)) - 2.0 * kernel(x, y).mean())


def _floating(rows: np.ndarray) -> np.ndarray:
    return rows if rows.dtype == np.float64 else rows.astype(np.float32)
