"""Whether a sampler repeats its training set, or itself.

All take rows: pixels, or features of an extractor. Each number needs one of the test
split in the place of samples beside it.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from genjax.evaluation.neighbors import Neighbors, nearest, spread

CELLS, DIMS, MIN_IN_CELL = 10, 64, 20
PCA_ROWS = 10_000


def authenticity(found: Neighbors, train: np.ndarray) -> float:
    """AuthPct: the percentage of samples that are no copy with noise, 0 ... 100.

    Alaa et al. 2022 (arXiv:2102.08921, section 3.3), as Stein et al. 2023
    (arXiv:2306.04675) compute it: a sample is authentic if its nearest training row is
    nearer to another training row than to the sample.

    found: the nearest of the training rows (n, d) to each sample, `nearest(..., 1)`.
    """
    owner, which = np.unique(found.index[:, 0], return_inverse=True)
    own_nearest = nearest(train[owner], train, 1, own=owner).squared[which, 0]
    return float(100.0 * np.mean(own_nearest < found.squared[:, 0]))


def data_copying(
    samples: np.ndarray,
    test: np.ndarray,
    train: np.ndarray,
    *,
    cells: int = CELLS,
    dims: int = DIMS,
    seed: int = 0,
) -> float:
    """C_T: how many standard deviations too near to the training rows the samples lie.

    Meehan, Chaudhuri & Dasgupta 2020 (arXiv:2004.05675, section 4). Well below 0: the
    samples are nearer than test rows, they are copied. Well above 0: they are farther,
    the model underfits. The rows (n, d) go to their `dims` leading principal components
    (of at most PCA_ROWS training rows) and to the cells of k-means on the training
    rows. In each cell with MIN_IN_CELL samples `rank_sum_z` compares the distances to
    the nearest training row of the cell; the mean is weighted by the share of the test
    rows. NaN if there is no such cell.
    """
    from sklearn.cluster import KMeans  # a second, which others need not wait
    from sklearn.decomposition import PCA

    rows = spread(len(train), PCA_ROWS)
    dims = min(dims, len(rows), train.shape[1])
    pca = PCA(dims, svd_solver="full" if dims == train.shape[1] else "auto")
    pca.set_params(random_state=seed).fit(train[rows].astype(np.float32))
    projected = [_project(pca, x) for x in (samples, test, train)]
    kmeans: Any = KMeans(cells, random_state=seed)
    kmeans.set_params(n_init=1).fit(projected[2])
    parts = [_Part(x, kmeans.predict(x)) for x in projected]
    weights, scores = [], []
    for cell in range(cells):
        of_samples, of_test, of_train = (part.of(cell) for part in parts)
        if len(of_samples) < MIN_IN_CELL or len(of_test) == 0:
            continue
        distances = (
            nearest(x, of_train, 1).squared[:, 0] for x in (of_samples, of_test)
        )
        scores.append(rank_sum_z(*distances))
        weights.append(len(of_test) / len(test))
    return float(np.average(scores, weights=weights)) if scores else float("nan")


def rank_sum_z(
    samples: Float[np.ndarray, " m"], test: Float[np.ndarray, " n"]
) -> float:
    """The z-score of Mann & Whitney's U, the pairs in which a sample is the larger.

    Ties count one half; mean n m / 2 - 1/2 and variance n m (n + m + 1) / 12, with the
    continuity correction of the authors' code and none for ties.
    """
    import scipy.stats  # late: it takes half a second

    n, m = len(test), len(samples)
    ranks = scipy.stats.rankdata(np.concatenate([samples, test]))
    u = ranks[:m].sum() - m * (m + 1) / 2
    return float((u - n * m / 2 + 0.5) / np.sqrt(n * m * (n + m + 1) / 12))


def duplicate_share(rows: np.ndarray) -> float:
    """The share of the rows (n, d) that occur more than once, byte for byte."""
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    as_bytes = flat.view(np.dtype((np.void, flat.strides[0])))[:, 0]
    _, counts = np.unique(as_bytes, return_counts=True)
    return float(counts[counts > 1].sum() / len(rows))


def nearest_other_ratio(rows: np.ndarray, reference: np.ndarray) -> float:
    """The median distance of a row to the nearest other, over that of the reference.

    Around 1 for rows of one law and as many of them, which is why at most len(rows) of
    the reference are taken; well below 1, the rows are near duplicates of each other.
    Not finite where half of the reference are copies.
    """
    reference = reference[spread(len(reference), len(rows))]
    own, wanted = (
        np.median(nearest(x, x, 1, own=np.arange(len(x))).distance)
        for x in (rows, reference)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(own / wanted)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Rows and the cell of each."""

    rows: np.ndarray
    cell: Int[np.ndarray, " n"]

    def of(self, cell: int) -> np.ndarray:
        return self.rows[self.cell == cell]


def _project(pca, rows: np.ndarray) -> Float[np.ndarray, "n d"]:
    """In blocks, for the rows may be bytes."""
    parts = np.array_split(rows, -(-len(rows) // PCA_ROWS))
    return np.concatenate([pca.transform(x.astype(np.float32)) for x in parts])
