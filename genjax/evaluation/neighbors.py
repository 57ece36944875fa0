"""Exact nearest neighbours among rows, by brute force in bounded memory.

Squared distances come in blocks as |x|^2 + |y|^2 - 2 x.y in float32. That loses the
digits of small distances, and with them every tie, so what its rounding leaves open is
settled in float64 by sums of squared differences. Ties and copies are then exact.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

ROWS, COLUMNS = 1024, 8192  # of the distance matrix at a time: 32 MiB in float32
SPARE = 8  # candidates beyond k: enough that hardly a row is searched twice
EXACT = 2**22  # numbers of each set that are compared in float64 at a time


@dataclasses.dataclass(frozen=True)
class Neighbors:
    """Of n rows, their k nearest in another set, the nearest first."""

    squared: Float[np.ndarray, "n k"]
    """Squared distances in float64."""
    index: Int[np.ndarray, "n k"]
    """Rows of the other set; which one of several at one distance is left open."""

    @property
    def distance(self) -> Float[np.ndarray, "n k"]:
        """Euclidean, in the unit of the rows."""
        return np.sqrt(self.squared)


@dataclasses.dataclass(frozen=True)
class Block:
    """Some rows of x against some rows of y: approximate squared distances."""

    x: np.ndarray
    y: np.ndarray
    rows: slice
    columns: slice
    squared: Float[np.ndarray, "r c"]
    slack: Float[np.ndarray, "r c"]
    """What the rounding may amount to."""

    def closer(
        self, squared_radius: Float[np.ndarray, "#r #c"], *, strict: bool
    ) -> Bool[np.ndarray, "r c"]:
        """Whether a pair is within the radius: `<` if strict, or else `<=`."""
        radius = np.broadcast_to(squared_radius, self.squared.shape)
        gap = self.squared - radius
        inside = gap < 0
        i, j = np.nonzero(np.abs(gap) <= self.slack)
        exact = squared_distances(
            self.x, self.rows.start + i, self.y, self.columns.start + j
        )
        inside[i, j] = exact < radius[i, j] if strict else exact <= radius[i, j]
        return inside


def blocks(x: np.ndarray, y: np.ndarray) -> Iterator[Block]:
    """All pairs of a row of x (n, d) and a row of y (m, d), at most ROWS by COLUMNS."""
    center = y[:ROWS].mean(axis=0, dtype=np.float64)
    # Rounding errors add up as the root of the number of terms; twice that is allowed.
    relative = 4.0 * np.sqrt(x.shape[1]) * np.finfo(np.float32).eps
    for columns in _slices(len(y), COLUMNS):
        right, right_norm = _centred(y[columns], center)
        for rows in _slices(len(x), ROWS):
            left, left_norm = _centred(x[rows], center)
            norms = left_norm[:, None] + right_norm
            squared = norms - 2.0 * (left @ right.T)
            yield Block(x, y, rows, columns, squared, norms * np.float32(relative))


def nearest(
    x: np.ndarray,
    y: np.ndarray,
    k: int,
    *,
    own: Int[np.ndarray, " n"] | None = None,
) -> Neighbors:
    """The k rows of y (m, d) that are nearest to each row of x (n, d).

    own: the row of y that each row of x is and that is left out, by its number: a copy
        of it counts. np.arange(n) where x is y.
    Raises ValueError if y has no k rows (beside a row's own).
    """
    if k < 1 or len(y) - (own is not None) < k:
        raise ValueError(f"there are no {k} neighbours among {len(y)} rows")
    keep = min(k + SPARE, len(y))
    found = np.full((len(x), keep), np.inf, np.float32)
    index = np.zeros((len(x), keep), np.int64)
    slack = np.zeros(len(x))
    for block in blocks(x, y):
        rows, start = block.rows, block.columns.start
        squared = block.squared
        if own is not None:
            _leave_out(squared, own[rows] - start)
        best = _smallest(squared, min(keep, squared.shape[1]))
        both = np.hstack([found[rows], np.take_along_axis(squared, best, axis=1)])
        names = np.hstack([index[rows], best + start])
        chosen = _smallest(both, keep)
        found[rows] = np.take_along_axis(both, chosen, axis=1)
        index[rows] = np.take_along_axis(names, chosen, axis=1)
        slack[rows] = np.maximum(slack[rows], block.slack.max(axis=1))
    squared = _exact(x, y, index)
    squared[np.isinf(found)] = np.inf
    squared, index = _sorted(squared, index)
    # One that was not kept is no nearer than this, and none is nearer than 0.
    bound = found.max(axis=1) - slack if keep < len(y) else np.full(len(x), np.inf)
    for i in np.flatnonzero(squared[:, k - 1] > np.maximum(bound, 0.0)):
        squared[i], index[i] = _search(x, y, keep, i, None if own is None else own[i])
    return Neighbors(squared[:, :k], index[:, :k])


def squared_distances(
    x: np.ndarray,
    i: Int[np.ndarray, " p"],
    y: np.ndarray,
    j: Int[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """|x_i - y_j|^2 of pairs of rows, by differences in float64."""
    result = np.empty(len(i))
    for part in _slices(len(i), max(EXACT // x.shape[1], 1)):
        difference = x[i[part]].astype(np.float64) - y[j[part]]
        result[part] = np.square(difference).sum(axis=1)
    return result


def spread(count: int, most: int) -> Int[np.ndarray, " r"]:
    """At most `most` of the numbers below count, evenly spread."""
    kept = min(count, most)
    return np.arange(kept) * count // max(kept, 1)


def _centred(rows: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # In float64, for a large mean would eat the digits.
    near = (rows.astype(np.float64) - center).astype(np.float32)
    return near, np.einsum("nd,nd->n", near, near)


def _smallest(values: np.ndarray, k: int) -> np.ndarray:
    """The places of the k smallest of each row, in no order."""
    if k == values.shape[1]:
        return np.broadcast_to(np.arange(k), values.shape)
    return np.argpartition(values, k - 1, axis=1)[:, :k]


def _leave_out(squared: np.ndarray, column: np.ndarray) -> None:
    (rows,) = np.nonzero((column >= 0) & (column < squared.shape[1]))
    squared[rows, column[rows]] = np.inf


def _exact(x: np.ndarray, y: np.ndarray, index: np.ndarray) -> np.ndarray:
    own = np.repeat(np.arange(len(x)), index.shape[1])
    return squared_distances(x, own, y, index.ravel()).reshape(index.shape)


def _sorted(squared: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((index, squared), axis=-1)
    return (
        np.take_along_axis(squared, order, axis=-1),
        np.take_along_axis(index, order, axis=-1),
    )


def _search(
    x: np.ndarray, y: np.ndarray, keep: int, i: np.integer, own: np.integer | None
) -> tuple[np.ndarray, np.ndarray]:
    """One row again, wholly in float64."""
    every = np.arange(len(y))
    squared = squared_distances(x, np.full(len(y), i), y, every)
    if own is not None:
        squared[own] = np.inf
    squared, index = _sorted(squared, every)
    return squared[:keep], index[:keep]


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
