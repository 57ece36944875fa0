"""How much of the samples lies among the data, and how much of the data among them.

Precision and recall after Kynkaanniemi et al. 2019 (arXiv:1904.06991, eq. 1-2), density
and coverage after Naeem et al. 2020 (arXiv:2002.09797, eq. 3-4). Each set is taken as
the union of balls round its rows, as wide as the distance to the k-th nearest other row
of the set. On the edge of a ball the two papers' codes differ, and so do we: it counts
for precision and recall, and not for density and coverage.
"""

import numpy as np

from genjax.evaluation.neighbors import blocks, nearest

K_PRECISION, K_DENSITY = 3, 5


def prdc(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    k_precision: int = K_PRECISION,
    k_density: int = K_DENSITY,
) -> dict[str, float]:
    """{"precision", "recall", "density", "coverage"} of rows (n, d) and (m, d).

    precision: the share of `fake` in any ball of `real`; recall the reverse; both with
        balls of k_precision. density: the balls of `real` that a row of `fake` is in,
        over k_density, on average: 1 for equal laws, and it can exceed 1. coverage: the
        share of the balls of `real` that hold a row of `fake`, see `expected_coverage`.

    Memory does not grow with n * m. Raises ValueError if a set has no more rows than k.
    """
    k = max(k_precision, k_density)
    of_real = nearest(real, real, k, own=np.arange(len(real))).squared
    of_fake = nearest(fake, fake, k_precision, own=np.arange(len(fake))).squared
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    covered, pairs = np.zeros(len(real), bool), 0
    for block in blocks(real, fake):
        rows, columns = block.rows, block.columns
        wide = of_real[rows, k_precision - 1, None]
        precise[columns] |= block.closer(wide, strict=False).any(axis=0)
        wide = of_fake[None, columns, k_precision - 1]
        recalled[rows] |= block.closer(wide, strict=False).any(axis=1)
        inside = block.closer(of_real[rows, k_density - 1, None], strict=True)
        covered[rows] |= inside.any(axis=1)
        pairs += int(inside.sum())
    return {
        "precision": float(precise.mean()),
        "recall": float(recalled.mean()),
        "density": pairs / (k_density * len(fake)),
        "coverage": float(covered.mean()),
    }


def expected_coverage(num_real: int, num_fake: int, k: int = K_DENSITY) -> float:
    """The mean coverage of two sets of one continuous law: Naeem et al. 2020, eq. 10.

    1 - prod over j < k of (N - 1 - j) / (N + M - 1 - j): of the other N - 1 + M rows,
    the k nearest to a real one are all real. About 1 - 2^-k for N = M.
    """
    j = np.arange(k)
    missed = (num_real - 1 - j) / (num_real + num_fake - 1 - j)
    return float(1.0 - np.prod(missed))
