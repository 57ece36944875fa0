"""What is kept of a set of examples: enough for every distance and baseline.

One pass over the training split, the test split or a set of samples; the examples
themselves are let go, unless they are points.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jaxtyping import Int

from genjax.evaluation.extractors import Extractor
from genjax.evaluation.frechet import SampleMoments, merge, moments
from genjax.typing import DataSpec, Stopped

# The covariance of D numbers takes 8 D^2 bytes and its root O(D^3): 128 MiB and some
# ten seconds on two cores at the limit, which lets 32x32x3 through.
MAX_DIMS = 4096


@dataclasses.dataclass(frozen=True)
class Summary:
    """A set of examples, summed up by `summarize`.

    name: of the set, for the protocol: "train", "test", "samples".
    moments: of the flattened examples, images scaled to [0, 1] by num_levels - 1; None
        above MAX_DIMS numbers an example.
    levels: (D, num_levels), see `level_counts`; None for points.
    points: (count, dim) float32, all of them; None for images.
    features: moments in the features of an extractor, if there was one.
    predicted: (count,) the class that the extractor reads each image as, if it has one.
    rows: (count, D) the flattened examples as they are, if they are kept.
    feature_rows, logits: (count, ...) float32 of the extractor, if they are kept.
    """

    name: str
    count: int
    moments: SampleMoments | None
    levels: np.ndarray | None
    points: np.ndarray | None
    features: SampleMoments | None = None
    predicted: np.ndarray | None = None
    rows: np.ndarray | None = None
    feature_rows: np.ndarray | None = None
    logits: np.ndarray | None = None


def summarize(
    chunks: Iterable[np.ndarray],
    *,
    name: str,
    spec: DataSpec,
    extractor: Extractor | None = None,
    keep: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """One pass over arrays (n, *spec.shape) of spec.dtype, in chunks of any size.

    keep: the examples, their features and logits too, for what needs them one by one:
        D bytes (of points 4 D) and 4 bytes a feature, for each example.
    should_stop: asked before each chunk.
    Raises ValueError if a chunk is not what spec says or there is none; Stopped when
    should_stop() is true.
    """
    sums = _Sums(spec, keep)
    for chunk in chunks:
        if should_stop():
            raise Stopped(f"while reading {name}, after {sums.count} examples")
        _check(chunk, name, spec)
        if len(chunk) == 0:
            continue
        sums.add_examples(chunk)
        if extractor is not None:
            sums.add_features(*jax.device_get(extractor.apply(chunk)))
    if sums.count == 0:
        raise ValueError(f"there is not one example in {name}")
    return sums.summary(name)


class _Sums:
    """A summary while it is being added up, chunk by chunk."""

    def __init__(self, spec: DataSpec, keep: bool):
        self.count = 0
        self._spec = spec
        self._keep = keep
        self._moments: SampleMoments | None = None
        self._levels: np.ndarray | None = None
        self._features: SampleMoments | None = None
        self._rows: dict[str, list[np.ndarray]] = {}  # by the field of Summary

    def add_examples(self, chunk: np.ndarray) -> None:
        """Images or points: (n, *spec.shape)."""
        self.count += len(chunk)
        num_levels = self._spec.num_levels
        is_image = self._spec.dtype == "uint8"
        if math.prod(self._spec.shape) <= MAX_DIMS:
            scaled = chunk / (num_levels - 1) if is_image else chunk
            self._moments = _merged(self._moments, scaled)
        if is_image:
            counts = level_counts(chunk, num_levels)
            self._levels = counts if self._levels is None else self._levels + counts
        else:
            self._append("points", chunk)
        if self._keep:
            self._append("rows", chunk.reshape(len(chunk), -1))

    def add_features(self, features: np.ndarray, logits: np.ndarray | None) -> None:
        """What an extractor says of a chunk: (n, features), and (n, classes)."""
        self._features = _merged(self._features, features)
        if self._keep:
            self._append("feature_rows", features)
        if logits is not None:
            self._append("predicted", logits.argmax(axis=-1))
            if self._keep:
                self._append("logits", logits)

    def summary(self, name: str) -> Summary:
        """Of all chunks so far."""
        rows = {field: np.concatenate(parts) for field, parts in self._rows.items()}
        return Summary(
            name=name,
            count=self.count,
            moments=self._moments,
            levels=self._levels,
            points=rows.pop("points", None),
            features=self._features,
            **rows,
        )

    def _append(self, field: str, rows: np.ndarray) -> None:
        self._rows.setdefault(field, []).append(rows)


def _merged(total: SampleMoments | None, rows: np.ndarray) -> SampleMoments:
    """The moments of these rows too."""
    part = moments(rows)
    return part if total is None else merge(total, part)


def level_counts(images: np.ndarray, num_levels: int) -> Int[np.ndarray, "d l"]:
    """How often each pixel and channel takes each level, over (n, ...) uint8 images.

    Raises ValueError for a level of num_levels or more.
    """
    flat = images.reshape(len(images), -1)
    if flat.max(initial=0) >= num_levels:
        raise ValueError(
            f"pixels must lie in 0 ... {num_levels - 1}, got {flat.max()}; is "
            "num_levels that of this data set?"
        )
    dims = flat.shape[1]
    cells = flat + np.arange(dims) * num_levels  # one bin a (pixel, level)
    counts = np.bincount(cells.ravel(), minlength=dims * num_levels)
    return counts.reshape(dims, num_levels)


def _check(chunk: np.ndarray, name: str, spec: DataSpec) -> None:
    if chunk.shape[1:] != spec.shape or chunk.dtype != spec.dtype:
        raise ValueError(
            f"{name} must hold (n, *{spec.shape}) {spec.dtype} like {spec.name}, got "
            f"{chunk.shape} {chunk.dtype}"
        )
