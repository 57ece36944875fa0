"""One scan over the steps of a sampler, with or without the states in between."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.typing import Array

States = Float[Array, " b *d"] | Float[Array, " n b *d"]
"""The x after the last step or, with along, at all n times."""


def scan_steps(
    step: Callable[[Array, Any], tuple[Array, None]],
    x: Array,
    steps: Any,
    *,
    along: bool,
) -> Array:
    """The x after all steps or, with along, x before and after each: (n + 1, B, ...).

    step: (x, a row of steps) -> (the next x, None). steps: a tree of arrays, one row
    per step.
    """
    if not along:
        return jax.lax.scan(step, x, steps)[0]

    def keeping(x: Array, now: Any) -> tuple[Array, Array]:
        after, _ = step(x, now)
        return after, after

    states = jax.lax.scan(keeping, x, steps)[1]
    return jnp.concatenate([x[None], states])
