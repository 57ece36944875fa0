"""The Frechet distance between two Gaussians, and the moments it is taken of.

In features of an Inception network this is FID (Heusel et al. 2017, arXiv:1706.08500,
eq. 6). In other features it is another number: name it after them.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

CHUNK = 8192  # rows: 200 MB of CIFAR images in float64


@dataclasses.dataclass(frozen=True)
class SampleMoments:
    """Count, mean and scatter of rows in float64; sets of rows add by `merge`."""

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]
    """Sum over the rows of (x - mean)(x - mean)^T."""

    @property
    def cov(self) -> Float[np.ndarray, "d d"]:
        """The unbiased covariance (ddof 1). Raises ValueError below two rows."""
        if self.count < 2:
            raise ValueError(f"a covariance takes at least 2 rows, got {self.count}")
        return self.scatter / (self.count - 1)


def moments(rows: np.ndarray) -> SampleMoments:
    """The moments of an (n, ...) array, n >= 1, each row flattened."""
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a row that is not finite shows in the result
        mean = flat.mean(axis=0)
        centred = flat - mean
        return SampleMoments(len(flat), mean, centred.T @ centred)


def moments_of(rows: np.ndarray, index: np.ndarray | slice) -> SampleMoments:
    """`moments` of rows[index], in chunks: rows may be bytes, moments are float64."""
    chosen = np.arange(len(rows))[index]
    chunks = np.array_split(chosen, -(-len(chosen) // CHUNK))
    return functools.reduce(merge, (moments(rows[chunk]) for chunk in chunks))


def merge(a: SampleMoments, b: SampleMoments) -> SampleMoments:
    """The moments of the rows of both: Chan, Golub & LeVeque 1979, eq. 2.1.

    Centred sums are kept and not raw ones, which cancel when the mean is large.
    """
    count = a.count + b.count
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.count / count)
    between = np.outer(delta, delta) * (a.count * b.count / count)
    return SampleMoments(count, mean, a.scatter + b.scatter + between)


def frechet_distance(
    mean1: Float[np.ndarray, " d"],
    cov1: Float[np.ndarray, "d d"],
    mean2: Float[np.ndarray, " d"],
    cov2: Float[np.ndarray, "d d"],
) -> float:
    """|mean1 - mean2|^2 + tr cov1 + tr cov2 - 2 tr (cov1^1/2 cov2 cov1^1/2)^1/2.

    Dowson & Landau 1982. With any factors cov1 = F1 F1^T and cov2 = F2 F2^T the last
    trace is the sum of the singular values of F1^T F2. Unlike the eigenvalues of a
    product of covariances these have lost no digits to squaring: columns may differ in
    scale by 1e6, and covariances may be singular (fewer rows than dimensions). A
    squared distance, in the squared unit of the rows. NaN if an entry is not finite.
    """
    return frechet_from(mean1, cov1)(mean2, cov2)


def frechet_from(
    mean1: Float[np.ndarray, " d"], cov1: Float[np.ndarray, "d d"]
) -> Callable[[np.ndarray, np.ndarray], float]:
    """(mean2, cov2) -> `frechet_distance`, for many of them: half of the work, once."""
    if not (np.isfinite(mean1).all() and np.isfinite(cov1).all()):
        return lambda mean2, cov2: float("nan")
    factor1 = _factor(cov1)

    def distance(mean2: np.ndarray, cov2: np.ndarray) -> float:
        if not (np.isfinite(mean2).all() and np.isfinite(cov2).all()):
            return float("nan")
        shift = np.sum((mean1 - mean2) ** 2)
        both = np.trace(cov1) + np.trace(cov2)
        product = factor1.T @ _factor(cov2)
        if product.size == 0:  # a covariance of 0 has a factor of no columns
            return float(shift + both)
        overlap = np.linalg.svd(product, compute_uv=False).sum()
        return float(shift + both - 2.0 * overlap)

    return distance


def _factor(cov: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d r"]:
    """F with cov = F F^T, of as many columns as cov has rank.

    Cholesky with pivots: its rounding errors are those of each column's own scale.
    """
    wide = np.asarray(cov, np.float64)
    (pstrf,) = scipy.linalg.get_lapack_funcs(("pstrf",), (wide,))
    lower, pivots, rank, _ = pstrf(wide, lower=1)
    factor = np.empty((len(cov), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]  # LAPACK counts from 1
    return factor
