"""Digests: of each leaf on its devices, and of the description of a step."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from genjax.typing import Array


class DamagedError(Exception):
    """A step on disk that is not what was saved."""


def digests(leaves: Mapping[str, Array]) -> tuple[dict[str, list[int]], list[str]]:
    """The digest of each leaf, and the paths of those that are not finite."""
    # One program a leaf, not one for the tree: leaves of equal shape share it, and a
    # program over a thousand leaves compiles for half a minute.
    words = jax.device_get([_digest_on(_replicated(x))(x) for x in leaves.values()])
    digests = {
        path: [int(word) for word in leaf_words[:2]]
        for path, leaf_words in zip(leaves, words, strict=True)
    }
    not_finite = [p for p, word in zip(leaves, words, strict=True) if word[2]]
    return digests, not_finite


def _replicated(leaf: Array) -> NamedSharding | None:
    """So that every process of a mesh can read the digest."""
    if isinstance(leaf.sharding, NamedSharding):
        return NamedSharding(leaf.sharding.mesh, PartitionSpec())
    return None


@functools.lru_cache(maxsize=8)
def _digest_on(sharding: NamedSharding | None) -> Any:
    return jax.jit(digest, out_shardings=sharding)


def digest(x: Array) -> Array:
    """Two hashes and whether a value is not finite: (3,) uint32.

    Sums mod 2^32 over the elements, each with its row-major position, so the order of
    summation and with it the sharding does not matter. The first is linear with odd
    weights: a change of any one element always shows. The second is not linear, so a
    conspiracy of changes would have to fool both. It is no guard against an attacker.
    """
    if jnp.issubdtype(x.dtype, jnp.inexact):
        not_finite = jnp.any(~jnp.isfinite(x)).astype(jnp.uint32)
    else:
        not_finite = jnp.zeros((), jnp.uint32)
    words = _words(x)
    position = _row_major_position(words.shape)
    return jnp.stack(
        [
            jnp.sum(words * (2 * position + 1), dtype=jnp.uint32),
            jnp.sum(_mix(words ^ _mix(position + 1)), dtype=jnp.uint32),
            not_finite,
        ]
    )


def _words(x: Array) -> Array:
    """The bits of x as uint32, one word an element, with a last axis of 2 for 64."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], axis=-1)
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    elif jnp.issubdtype(x.dtype, jnp.integer) and jnp.iinfo(x.dtype).bits < 8:
        x = x.astype(jnp.int8)  # int4 and the like cannot be reinterpreted
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}
    bits = jax.lax.bitcast_convert_type(x, unsigned[x.dtype.itemsize])
    return bits.astype(jnp.uint32)


def _row_major_position(shape: tuple[int, ...]) -> Array:
    position, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        position = position + along * np.uint32(stride % 2**32)
        stride *= shape[axis]
    return position


def _mix(u: Array) -> Array:
    """The finalizer "lowbias32" (C. Wellons, hash-prospector): a bijection."""
    u = (u ^ (u >> 16)) * np.uint32(0x7FEB352D)
    u = (u ^ (u >> 15)) * np.uint32(0x846CA68B)
    return u ^ (u >> 16)


def seal(body: Mapping[str, Any]) -> dict[str, Any]:
    """The description, JSON values, with its checksum."""
    return {"sha256": _sha256(body), "body": body}


def unseal(sealed: Mapping[str, Any]) -> dict[str, Any]:
    """The description that was sealed. Raises DamagedError if it is another."""
    body = sealed["body"]
    if _sha256(body) != sealed["sha256"]:
        raise DamagedError("its description fails its checksum")
    return body


def _sha256(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
