"""Samples in chunks of one size: one compilation, and sample i is always the same."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from genjax.typing import BATCH_AXES, Array, Key, Stopped


def compile_sample(
    sample: Callable[..., Array], *, mesh: Mesh | None = None
) -> Callable[..., Array]:
    """`sample(state, key, num[, label])` jitted with `num` static; made once a run.

    On a mesh the work is split over all devices along the samples, and the result is
    whole on each of them, so that every process can fetch it.
    """
    if mesh is None:
        return jax.jit(sample, static_argnums=2)
    split = NamedSharding(mesh, PartitionSpec(BATCH_AXES))

    def split_sample(state, key, num, *label):
        # Without the constraint nothing in the program is split, and all devices
        # would draw all samples.
        return jax.lax.with_sharding_constraint(sample(state, key, num, *label), split)

    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(split_sample, static_argnums=2, out_shardings=whole)


def generate(
    sample: Callable[..., Array],
    state: Any,
    *,
    key: Key,
    num: int,
    chunk: int,
    labels: Int[np.ndarray, " l"] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[np.ndarray]:
    """Yields `num` samples, at most `chunk` at a time.

    Chunk c comes from fold_in(key, c) and is drawn in full, the last one then cut:
    sample i depends on (key, chunk, i) and not on `num`.

    sample: from `compile_sample`.
    labels: sample i gets labels[i % len(labels)]; None leaves them to the model.
    should_stop: asked before each chunk; the same answer on every process.
    Raises Stopped when should_stop() is true.
    """
    for c in range(math.ceil(num / chunk)):
        if should_stop():
            raise Stopped(f"while drawing samples, after {c * chunk} of {num}")
        label = () if labels is None else (_cycle(labels, c * chunk, chunk),)
        drawn = sample(state, jax.random.fold_in(key, c), chunk, *label)
        yield np.asarray(drawn)[: num - c * chunk]


def _cycle(labels: np.ndarray, start: int, count: int) -> np.ndarray:
    rows = np.arange(start, start + count) % len(labels)
    return labels[rows].astype(np.int32)
