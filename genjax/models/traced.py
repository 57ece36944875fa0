"""The call of a network, traced once for all its uses of one shape.

A loss, a solver and a likelihood call a network up to ten times in one program, and
each trace of a large one takes seconds. XLA puts the calls in line again.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from genjax.typing import Array, Key


@functools.partial(jax.jit, static_argnames=("module", "train", "mutable"))
def apply(
    module: nn.Module,
    variables: Mapping[str, Any],
    *inputs: Array | None,
    train: bool | None = None,
    rngs: dict[str, Key] | None = None,
    mutable: tuple[str, ...] | None = None,
    **more: Any,
) -> Any:
    """module.apply. None: train and mutable are left out."""
    if train is not None:
        more["train"] = train
    if mutable is not None:
        more["mutable"] = list(mutable)
    return module.apply(variables, *inputs, rngs=rngs, **more)
