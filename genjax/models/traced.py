"""The call of a network: traced once for all its uses of one shape, in one precision.

A loss, a solver and a likelihood call a network up to ten times in one program, and
each trace of a large one takes seconds. XLA puts the calls in line again.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.typing import Array, Key


@functools.partial(jax.jit, static_argnames=("module", "train", "mutable", "dtype"))
def apply(
    module: nn.Module,
    variables: Mapping[str, Any],
    *inputs: Array | None,
    train: bool | None = None,
    rngs: dict[str, Key] | None = None,
    mutable: tuple[str, ...] | None = None,
    dtype: str = "float32",
    **more: Any,
) -> Any:
    """module.apply. None: train and mutable are left out.

    dtype: of the arithmetic, for modules that take that of their inputs. Parameters and
        inputs are rounded to it on the way in, and all that comes out is float32; so
        weights, their gradients and what is made of the output stay float32, and so
        do running statistics, which are not rounded.
    """
    if train is not None:
        more["train"] = train
    if mutable is not None:
        more["mutable"] = list(mutable)
    if dtype == "float32":
        return module.apply(variables, *inputs, rngs=rngs, **more)
    given = {**variables, "params": _cast(variables["params"], dtype)}
    out = module.apply(given, *_cast(inputs, dtype), rngs=rngs, **more)
    return _cast(out, "float32")


def _cast(tree: Any, dtype: str) -> Any:
    """The tree with its floating-point arrays in that dtype."""

    def cast(leaf: Array) -> Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)
