"""The tree of a state: its leaves by name, and what Orbax takes for it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Sharding, SingleDeviceSharding

from genjax.typing import UserError

StateT = TypeVar("StateT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """What must agree between a stored array and the one that is asked for."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by their path, "params/dense/kernel"; UserError for what has no bits.

    Leaves may be arrays or jax.ShapeDtypeStruct.
    """
    named: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            raise UserError(
                f"the state's leaf {path!r} must be a jax.Array to be saved, "
                f"not {type(leaf).__name__}"
            )
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise UserError(
                f"the state's leaf {path!r} is a typed key: derive keys from the step, "
                "or keep jax.random.key_data of it"
            )
        if path in named:
            raise UserError(f"two leaves of the state share the path {path!r}")
        named[path] = leaf
    return named


def leaf_of(leaf: Any) -> Leaf:
    """The shape and dtype of an array."""
    return Leaf(shape=tuple(leaf.shape), dtype=str(leaf.dtype))


def absent(tree: Any) -> list[str]:
    """The paths that hold None in the place of a leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: x is None)
    return [
        jax.tree_util.keystr(keys, simple=True, separator="/")
        for keys, leaf in leaves
        if leaf is None
    ]


def differences_of(stored: Mapping[str, Leaf], wanted: Mapping[str, Leaf]) -> list[str]:
    """A few words for each path that is not the same in both."""
    lines = [f"{p} {wanted[p]} is missing" for p in wanted if p not in stored]
    lines += [f"{p} {stored[p]} is unexpected" for p in stored if p not in wanted]
    lines += [
        f"{p} is {stored[p]}, wanted {wanted[p]}"
        for p in wanted
        if p in stored and stored[p] != wanted[p]
    ]
    return lines


def with_shardings(abstract_state: StateT) -> StateT:
    """Fill in the default device; ValueError if an array cannot be cut as it says.

    Checked here, because an impossible sharding must not look like a damaged file.
    """

    def fill(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding: Sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(
            jax.local_devices()[0]
        )
        sharding.shard_shape(tuple(leaf.shape))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    named_leaves(abstract_state)
    return jax.tree.map(fill, abstract_state)


def to_orbax(tree: Any) -> dict[str, Any]:
    """What Orbax takes: not a bare array, and no array without elements.

    Of the latter the shape, kept in meta, is all there is to know.
    """
    full = jax.tree.map(lambda leaf: None if 0 in leaf.shape else leaf, tree)
    return {"tree": full}


def from_orbax(abstract_state: StateT, read: Mapping[str, Any]) -> StateT:
    """The inverse of `to_orbax`."""
    wanted, treedef = jax.tree.flatten(abstract_state)
    found = treedef.flatten_up_to(read["tree"])
    leaves = [
        jnp.zeros(want.shape, want.dtype, device=want.sharding) if got is None else got
        for want, got in zip(wanted, found, strict=True)
    ]
    return treedef.unflatten(leaves)


def local_bytes(leaves: Any) -> int:
    """What this process writes: of each shard, one replica writes."""
    return sum(
        shard.data.nbytes
        for leaf in leaves
        for shard in leaf.addressable_shards
        if shard.replica_id == 0
    )
