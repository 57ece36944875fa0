"""Mean and covariance of rows that come in batches, on device."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.typing import Array


class Moments(NamedTuple):
    """Of the rows seen so far; the covariance with ddof 0."""

    num_rows: Int[Array, ""]
    mean: Float[Array, " d"]
    cov: Float[Array, "d d"]


def standard_moments(dims: int) -> Moments:
    """Where `update` begins: no row seen, and the moments of N(0, I) until then."""
    return Moments(jnp.zeros((), jnp.int32), jnp.zeros(dims), jnp.eye(dims))


def update(moments: Moments, x: Float[Array, "b d"]) -> Moments:
    """The moments of the rows seen and those of x together.

    Chan, Golub & LeVeque 1979, eq. 2.1, on means in place of sums, which would outgrow
    float32. Centred squares, not raw ones, which cancel when the mean is large.
    """
    mean = jnp.mean(x, axis=0)
    centred = x - mean[None, :]
    # in full float32, which a GPU would round to TF32
    cov = jnp.matmul(centred.T, centred, precision="highest") / len(x)
    num_rows = moments.num_rows + len(x)
    old, new = moments.num_rows / num_rows, len(x) / num_rows  # shares, which sum to 1
    delta = mean - moments.mean
    between = old * new * jnp.outer(delta, delta)
    return Moments(
        num_rows,
        moments.mean + new * delta,
        old * moments.cov + new * cov + between,
    )
