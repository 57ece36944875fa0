"""(B, ...) and (B,): one number an example, and back."""

import jax.numpy as jnp
from jaxtyping import Float

from genjax.typing import Array


def per_example(
    values: Float[Array, " b"] | Float[Array, ""], like: Float[Array, " b *d"]
) -> Array:
    """`values` shaped to multiply `like`: a scalar as it is, (B,) as (B, 1, ..., 1)."""
    if values.ndim == 0:
        return values
    return values.reshape(-1, *(1 for _ in like.shape[1:]))


def mean_over_dims(x: Float[Array, " b *d"]) -> Float[Array, " b"]:
    """The mean of each example."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def sum_over_dims(x: Float[Array, " b *d"]) -> Float[Array, " b"]:
    """The sum of each example."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
