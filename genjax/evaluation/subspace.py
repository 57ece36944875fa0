"""How far apart two linear subspaces are."""

import jax.numpy as jnp
from jaxtyping import Float

from genjax.typing import Array


def largest_principal_angle(
    a: Float[Array, "D d"], b: Float[Array, "D d"]
) -> Float[Array, ""]:
    """The largest angle, in degrees, between the spans of the columns of a and b.

    0: the same subspace; 90: some direction of one is orthogonal to the other. By its
    sine (Bjorck & Golub 1973), for its cosine tells no small angles in float32. As
    scipy.linalg.subspace_angles, but inside jit.
    """
    a, b = jnp.linalg.qr(a)[0], jnp.linalg.qr(b)[0]
    inside = jnp.matmul(b.T, a, precision="highest")
    outside = a - jnp.matmul(b, inside, precision="highest")
    sine = jnp.linalg.norm(outside, ord=2)
    return jnp.rad2deg(jnp.arcsin(jnp.minimum(sine, 1.0)))
