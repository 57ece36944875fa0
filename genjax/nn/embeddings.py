"""Numbers to vectors: the embedding of time."""

import math

import jax.numpy as jnp
from jaxtyping import Float

from genjax.typing import Array

# DDPM's networks see the index 1 ... 1000 of a step; ours is t in [0, 1] times this.
TIME_SCALE = 1000.0


def sinusoidal_embedding(
    t: Float[Array, " b"], dim: int, *, max_period: float = 10_000.0
) -> Float[Array, "b {dim}"]:
    """Sines, then cosines, of 1000 t at dim/2 frequencies from 1 to 1/max_period.

    As DDPM's released code (Ho et al. 2020, arXiv:2006.11239; get_timestep_embedding):
    the last frequency is exactly 1/max_period. Raises ValueError if dim is odd or
    under 4.
    """
    if dim % 2 or dim < 4:
        raise ValueError(f"an embedding needs an even dim of 4 or more, not {dim}")
    half = dim // 2
    frequencies = jnp.exp(-math.log(max_period) * jnp.arange(half) / (half - 1))
    angles = TIME_SCALE * t[:, None].astype(jnp.float32) * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
