"""Where a token of an image is: added to it as sines, or turned into its heads.

Rotary embedding (Su et al. 2021, arXiv:2104.09864) turns pairs of features, read as
complex numbers, by angles that are linear in the position p:

  (1) rotate(q, p)_j = q_j exp(i f_j p)

so the score of a query at p and a key at p' is Re sum_j q_j conj(k_j) exp(i f_j (p -
p')): it depends on the places by their difference only. In two dimensions half of the
pairs turn with the row and half with the column.
"""

import jax.numpy as jnp
from jaxtyping import Float

from genjax.typing import Array


def grid(height: int, width: int) -> Float[Array, "t 2"]:
    """Row and column of each place of an image, row by row: (0, 0), (0, 1), ..."""
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return jnp.stack([rows.ravel(), columns.ravel()], axis=-1).astype(jnp.float32)


def sincos_2d(
    positions: Float[Array, "t 2"], dim: int, *, max_period: float = 10_000.0
) -> Float[Array, "t {dim}"]:
    """A vector for each place: sines, cosines of its row, then those of its column.

    With dim / 4 frequencies from 1 down towards 1 / max_period, as Vaswani et al. 2017
    (arXiv:1706.03762) for one dimension and DiT for two (Peebles & Xie 2023,
    arXiv:2212.09748). Raises ValueError unless 4 divides dim.
    """
    angles = _angles(positions, dim, max_period)  # (T, 2, dim/4)
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return waves.reshape(len(positions), dim)


def rotate_2d(
    x: Float[Array, "b t n d"],
    positions: Float[Array, "t 2"],
    *,
    max_period: float = 100.0,
) -> Float[Array, "b t n d"]:
    """(1) for the heads of queries or keys: first half by row, second half by column.

    Images are short next to texts, so the slowest of the d / 4 frequencies is about
    1 / 100 (Heo et al. 2024, arXiv:2403.13298, axial form). In the dtype of x. Raises
    ValueError unless 4 divides d.
    """
    angles = _angles(positions, x.shape[-1], max_period)[None, :, None]  # (1,T,1,2,d/4)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], 2, 2, -1)
    real, imaginary = pairs[..., 0, :], pairs[..., 1, :]
    turned = jnp.stack(
        [real * cos - imaginary * sin, real * sin + imaginary * cos], axis=-2
    )
    return turned.reshape(x.shape).astype(x.dtype)


def _angles(
    positions: Float[Array, "t 2"], dim: int, max_period: float
) -> Float[Array, "t 2 f"]:
    if dim % 4:
        raise ValueError(f"positions in a plane need a dim that 4 divides, not {dim}")
    frequencies = max_period ** (-jnp.arange(dim // 4) / (dim // 4))
    return positions[:, :, None] * frequencies[None, None, :]
