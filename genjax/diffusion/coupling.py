"""Coupling: which noise is paired with which example in training."""

import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from genjax.typing import Array


def optimal_transport(
    x0: Float[Array, " b *d"],
    eps: Float[Array, " b *d"],
    label: Int[Array, " b"] | None = None,
) -> Float[Array, " b *d"]:
    """The rows of eps, ordered so that the sum of |x0_i - eps_i|^2 is smallest.

    Minibatch optimal transport (Tong et al. 2024, arXiv:2302.00482, algorithm 3), by
    the exact assignment: lines cross less, so paths are straighter. Each x0 keeps its
    place. Given labels, rows change places within a class only, so that noise is N(0,
    I) for each class as it is when sampling. The time grows with the cube of the batch,
    one small operation after another: 2 ms for 64 rows on a CPU core, 70 ms for 256.
    """
    num = len(x0)
    # |x - e|^2 without the squares, which are the same for every order
    cost = -x0.reshape(num, -1) @ eps.reshape(num, -1).T
    if label is not None:
        forbidden = num * jnp.max(jnp.abs(cost))  # more than any order within classes
        cost = jnp.where(label[:, None] == label[None, :], cost, cost + forbidden)
    rows, columns = optax.assignment.hungarian_algorithm(cost)
    return eps[jnp.zeros(num, columns.dtype).at[rows].set(columns)]
