"""The order of the rows, and their way to the devices.

There is no iterator state: the rows of a step are a pure function of (seed, step), so a
resumed run sees the batches that it would have seen, on any number of processes.

A split that fits stays on the devices whole, as uint8, and a step gathers its rows
inside jit (`gather`); the host then sends nothing but indices. A larger one is read
ahead of time by threads, each process its own part of every batch.
"""

import functools
import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Bool, Int64

from genjax.data.readahead import Ahead, map_now, read_ahead
from genjax.data.split import Rows, Split
from genjax.typing import Array, Batch, UserError

# A split up to this size stays on every device: CIFAR-10 takes 150 MB. A device's
# memory is wanted for the model.
RESIDENT_BYTES = 2**30


@functools.lru_cache(maxsize=4)  # a batch that crosses an epoch's end needs two
def _permutation(seed: int, epoch: int, num_examples: int) -> Int64[np.ndarray, " n"]:
    # Sorting raw Philox bits, not Generator.permutation: NumPy promises that the former
    # never change between its versions.
    key = np.array([seed % 2**64, epoch], np.uint64)
    bits = np.random.Philox(key=key).random_raw(num_examples)
    return np.argsort(bits, kind="stable")


def rows(
    seed: int, step: int, *, batch_size: int, num_examples: int, offset: int = 0
) -> Int64[np.ndarray, " batch_size"]:
    """The rows of training step `step`: a pure function of its arguments.

    The stream of one fresh permutation an epoch, cut into batches: every example comes
    exactly once an epoch, and a batch may cross an epoch's end.
    offset: rows that the steps before this one took more than step * batch_size, where
    the batch size has changed since; negative if fewer.
    """
    first = offset + step * batch_size
    parts, wanted = [], batch_size
    while wanted > 0:
        epoch, offset = divmod(first, num_examples)
        permutation = _permutation(seed, epoch, num_examples)
        parts.append(permutation[offset : offset + wanted])
        first, wanted = first + len(parts[-1]), wanted - len(parts[-1])
    return np.concatenate(parts)


class _BatchLayout:
    """Which positions of a batch belong to this process, and how they become global."""

    def __init__(self, sharding: NamedSharding, batch_size: int):
        num_shards = _num_shards(sharding)
        if batch_size % num_shards:
            fitting = max(batch_size // num_shards, 1) * num_shards
            raise UserError(
                f"batch size {batch_size} must divide by the {num_shards} devices of "
                f"the axes {sharding.spec[0]} of the mesh; try {fitting}"
            )
        self.sharding = sharding
        self.batch_size = batch_size
        self.shard_size = batch_size // num_shards
        slices = sharding.addressable_devices_indices_map((batch_size,)).values()
        starts = sorted({index[0].indices(batch_size)[0] for index in slices if index})
        self._offset = {start: i * self.shard_size for i, start in enumerate(starts)}
        self.positions = np.concatenate(
            [np.arange(start, start + self.shard_size) for start in starts]
        )

    def to_global(self, local: np.ndarray, *, axis: int) -> Array:
        """The global array of which `local` holds this process's positions on axis."""
        spec = PartitionSpec(*[None] * axis, *self.sharding.spec)
        shape = (*local.shape[:axis], self.batch_size, *local.shape[axis + 1 :])

        def shard(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None  # JAX gives None for arrays without shards only
            offset = self._offset[index[axis].indices(self.batch_size)[0]]
            part = slice(offset, offset + self.shard_size)
            return local[(*[slice(None)] * axis, part)]

        sharding = NamedSharding(self.sharding.mesh, spec)
        return jax.make_array_from_callback(shape, sharding, shard)


def _num_shards(sharding: NamedSharding) -> int:
    axes = sharding.spec[0]
    axes = (axes,) if isinstance(axes, str) else (axes or ())
    return math.prod(sharding.mesh.shape[axis] for axis in axes)


class TrainFeed:
    """Training batches for the loop: the same rows whether resident or streamed.

    resident: the whole split on every device, {"image", "label"}, or {} when the
        batches are streamed. Pass it to the jitted step and `gather` there.
    offset: of `rows`; a run that went on with other batches sets it before the first.
    """

    def __init__(
        self,
        split: Split,
        *,
        seed: int,
        batch_size: int,
        sharding: NamedSharding,
        resident: bool | None = None,
    ):
        """Put the split on the devices, or get ready to stream it.

        sharding: of a batch's first axis, over all devices of the mesh.
        resident: None keeps splits of up to RESIDENT_BYTES on the devices.

        Raises UserError where the batch does not fit the split or the devices, or where
        a split that is not in memory is to be resident.
        """
        if not 0 < batch_size <= len(split):
            raise UserError(
                f"batch size {batch_size} must lie between 1 and the {len(split)} "
                f"examples of {split.name}; set training.batch_size"
            )
        if resident and split.arrays is None:
            raise UserError(
                f"{split.name} does not fit in memory and cannot be resident on the "
                "devices; let it be streamed"
            )
        self._split = split
        self._seed, self.offset = seed, 0
        self._layout = _BatchLayout(sharding, batch_size)
        self._ahead: Ahead | None = None
        self._ahead_step = -1
        arrays = split.arrays or {}
        if resident is None:
            resident = sum(a.nbytes for a in arrays.values()) <= RESIDENT_BYTES
        everywhere = NamedSharding(sharding.mesh, PartitionSpec())
        self.resident: dict[str, Array] = {
            name: jax.make_array_from_process_local_data(everywhere, array, array.shape)
            for name, array in arrays.items()
            if resident
        }

    def get(self, step: int, num_steps: int) -> dict[str, Array]:
        """Batches of steps step ... step + num_steps - 1, stacked on a leading axis.

        {"index"} when resident, otherwise {"image", "label", "index"}: global arrays
        (num_steps, batch_size, ...), of which each process reads its own part.

        Raises UserError that names the file where an example cannot be decoded.
        """
        if self.resident:
            steps = [self._local_rows(step + i) for i in range(num_steps)]
            local = {"index": np.stack(steps).astype(np.int32)}
        else:
            batches = [self._next(step + i) for i in range(num_steps)]
            local = {name: np.stack([b[name] for b in batches]) for name in batches[0]}
        return {k: self._layout.to_global(v, axis=1) for k, v in local.items()}

    def close(self) -> None:
        """Stop the threads that read ahead. The feed may be used again."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = None

    def rows(self, step: int) -> Int64[np.ndarray, " batch"]:
        """The rows of the whole batch of this step."""
        size, num = self._layout.batch_size, len(self._split)
        order = {"batch_size": size, "num_examples": num, "offset": self.offset}
        return rows(self._seed, step, **order)

    def _local_rows(self, step: int) -> Int64[np.ndarray, " local"]:
        return self.rows(step)[self._layout.positions]

    def _next(self, step: int) -> dict[str, np.ndarray]:
        if self._ahead is None or self._ahead_step != step:
            self.close()
            self._ahead = read_ahead(
                lambda i: self._split.read(self._local_rows(i)), step, 2**40
            )
        # An iterator that raised has gone past the failed step: never ask it again.
        self._ahead_step = -1
        batch = next(self._ahead)
        self._ahead_step = step + 1
        return batch


def gather(resident: Mapping[str, Array], feed_slice: Batch) -> Batch:
    """One step's batch {"image", "label", "index"}, inside jit.

    resident: as `TrainFeed.resident`. feed_slice: one step of what `TrainFeed.get`
        gave, without its leading axis.
    """
    if not resident:
        return feed_slice
    index = feed_slice["index"]
    # Rows are in range by construction; "clip" spares the masking of those that are not
    batch = {k: jnp.take(v, index, axis=0, mode="clip") for k, v in resident.items()}
    return {**batch, "index": index}


def eval_batches(
    split: Split,
    *,
    batch_size: int,
    sharding: NamedSharding,
    limit: int | None = None,
    rows: Rows | None = None,
) -> Iterator[tuple[dict[str, Array], Bool[Array, " b"]]]:
    """Every example once, in order: batches and masks of what counts in them.

    The last batch is filled up with row 0, masked out, so that no example is left out
    and all batches have one shape.

    limit: only the first `limit` examples.
    rows: only these rows, in this order, up to `limit` of them.

    Raises UserError where the batch does not divide by the devices, where the limit is
    not positive, or where an example cannot be decoded.
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise UserError(
            f"evaluation needs a positive batch size and limit, got {batch_size} and "
            f"{limit}; set eval.batch_size and eval.limit"
        )
    layout = _BatchLayout(sharding, batch_size)
    if rows is None:
        rows = np.arange(len(split))
    return _masked_batches(split, layout, rows[:limit])


def _masked_batches(
    split: Split, layout: _BatchLayout, rows: Rows
) -> Iterator[tuple[dict[str, Array], Bool[Array, " b"]]]:
    def read(i: int) -> dict[str, np.ndarray]:
        positions = i * layout.batch_size + layout.positions
        mask = positions < len(rows)
        wanted = np.where(mask, rows[np.where(mask, positions, 0)], 0)
        return {**split.read(wanted), "mask": mask}

    num = -(-len(rows) // layout.batch_size)
    in_memory = split.arrays is not None
    ahead = map_now(read, num) if in_memory else read_ahead(read, 0, num)
    try:
        for local in ahead:
            batch = {k: layout.to_global(v, axis=0) for k, v in local.items()}
            mask = batch.pop("mask")
            yield batch, mask
    finally:
        ahead.close()
