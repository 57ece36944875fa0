"""Self-attention over the places of an image."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.nn.norms import GroupNorm
from genjax.typing import Array

Initializer = jax.nn.initializers.Initializer


class SpatialAttention(nn.Module):
    """x + attention(norm(x)), each place to all places (Ho et al. 2020's AttnBlock).

    The last layer starts at zero: the block starts as the identity, times skip_scale.
    """

    num_heads: int = 1
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.dtype("float32")
    skip_scale: float = 1.0
    groups: int | None = None  # of the norm; None: `num_groups`

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Raises ValueError if num_heads does not divide the channels."""
        b, h, w, c = x.shape
        if c % self.num_heads:
            raise ValueError(f"{c} channels do not divide into {self.num_heads} heads")
        tokens = GroupNorm(self.groups, name="norm")(x).reshape(b, h * w, c)

        def heads(name: str) -> Array:  # (B, T, N, C/N)
            layer = nn.Dense(
                c, kernel_init=self.kernel_init, dtype=self.dtype, name=name
            )
            return layer(tokens).reshape(b, h * w, self.num_heads, -1)

        # softmax in float32 inside; the scale is 1/sqrt(C/N)
        out = jax.nn.dot_product_attention(
            heads("query"), heads("key"), heads("value")
        ).reshape(b, h, w, c)
        zeros = nn.initializers.zeros_init()
        out = nn.Dense(c, kernel_init=zeros, dtype=self.dtype, name="out")(out)
        return self.skip_scale * (x + out)
