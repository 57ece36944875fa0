"""Codes of many images and images of many codes, in chunks of one size."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int, Shaped

from genjax.experiment import Experiment
from genjax.typing import BATCH_AXES, Array, Batch, Key, Stopped, UserError


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Images and what the model made of them, row by row, on the host."""

    images: Shaped[np.ndarray, " n *shape"]  # or points
    labels: Int[np.ndarray, " n *domains"]
    codes: Float[np.ndarray, "n d"]


class Coder:
    """`encode` and `decode` of one trained state, for any number of rows.

    Both are compiled once; the last chunk is filled up and then cut. On a mesh the work
    is split along the rows, and every process gets all of it.
    """

    def __init__(
        self,
        experiment: Experiment,
        state: Any,
        *,
        key: Key,
        chunk: int,
        mesh: Mesh | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        """Compiles nothing yet.

        key: chunk c gets fold_in(key, c), for encoders and decoders that draw.
        chunk: rows decoded at a time.
        should_stop: asked before each chunk; the same answer on every process.
        """
        self._state = state
        self._encode_key, self._decode_key = jax.random.split(key)
        self._chunk = chunk
        self._should_stop = should_stop
        split = whole = None
        if mesh is not None:
            split = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
            whole = NamedSharding(mesh, PartitionSpec())

        def encode(state: Any, batch: Batch, mask: Array, key: Key):
            assert experiment.code is not None and experiment.code.encode is not None
            code = experiment.code.encode(state, batch, key)
            return batch["image"], batch["label"], code, mask

        def decode(state: Any, code: Array, key: Key) -> Array:
            assert experiment.code is not None
            if split is not None:
                # As in sampling: otherwise each device would decode every row.
                code = jax.lax.with_sharding_constraint(code, split)
            return experiment.code.decode(state, code, key)

        self._encode = jax.jit(encode, out_shardings=whole)
        self._decode = jax.jit(decode, out_shardings=whole)

    def encode(self, batches: Iterable[tuple[Batch, Array]], what: str) -> Encoded:
        """The codes of (batch, mask) pairs, without the masked rows.

        what: the images' name, for messages.
        Raises Stopped; UserError if a code is not finite.
        """
        parts = []
        for c, (batch, mask) in enumerate(batches):
            self._check_stop(f"while encoding {what}")
            key = jax.random.fold_in(self._encode_key, c)
            *values, kept = self._encode(self._state, batch, mask, key)
            kept = np.asarray(kept)
            parts.append([np.asarray(value)[kept] for value in values])
        encoded = Encoded(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        bad = int((~np.isfinite(encoded.codes).all(axis=1)).sum())
        if bad:
            raise UserError(
                f"the codes of {bad} of {len(encoded.codes)} images of {what} are not "
                "finite: the training went wrong; try an earlier --step"
            )
        return encoded

    def decode(
        self, codes: Float[np.ndarray, "n d"]
    ) -> Shaped[np.ndarray, " n *shape"]:
        """The images, or points, of the codes. Raises Stopped."""
        images = []
        for c in range(math.ceil(len(codes) / self._chunk)):
            self._check_stop("while decoding")
            part = codes[c * self._chunk : (c + 1) * self._chunk]
            filled = np.resize(part, (self._chunk, codes.shape[1]))
            key = jax.random.fold_in(self._decode_key, c)
            image = self._decode(self._state, filled.astype(np.float32), key)
            images.append(np.asarray(image)[: len(part)])
        return np.concatenate(images)

    def _check_stop(self, place: str) -> None:
        if self._should_stop():
            raise Stopped(place)
