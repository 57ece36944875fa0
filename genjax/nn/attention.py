"""Self-attention: what the heads do, and a block of it over the places of an image."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.nn.norms import GroupNorm
from genjax.typing import Array

Initializer = jax.nn.initializers.Initializer
AttentionName = Literal["auto", "xla", "cudnn"]


def attend(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    implementation: AttentionName = "auto",
) -> Float[Array, "b t n d"]:
    """softmax(q k^T / sqrt(d)) v in each of n heads, the softmax in float32.

    implementation: "cudnn": its fused kernel, which never holds the (t, s) scores of a
        head; "xla": products and a softmax; "auto": cuDNN's where it can be had.
    Raises ValueError for "cudnn" where it cannot be had.
    """
    reason = why_not_cudnn(jax.devices()[0], q.dtype, q.shape[-1])
    if implementation == "cudnn" and reason:
        raise ValueError(f"attention='cudnn' {reason}: choose 'auto' or 'xla'")
    fused = implementation != "xla" and not reason
    kernel = "cudnn" if fused else "xla"
    return jax.nn.dot_product_attention(q, k, v, implementation=kernel)


def why_not_cudnn(device: Any, dtype: jnp.dtype, head_size: int) -> str:
    """Why cuDNN's fused attention cannot be had on this jax.Device, or ""."""
    if "cuda" not in device.client.platform_version:
        return f"needs an NVIDIA GPU, and this is {device.platform.upper()}"
    version = float(getattr(device, "compute_capability", "0"))
    if version < 8.0:
        return f"needs compute capability 8.0, and this GPU has {version}"
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"needs model.dtype='bfloat16', not {dtype}"
    largest = 256 if version >= 9.0 else 128
    if head_size % 8 or head_size > largest:
        return (
            f"takes heads of a multiple of 8 features up to {largest}, not {head_size}"
        )
    return ""


class SpatialAttention(nn.Module):
    """x + attention(norm(x)), each place to all places (Ho et al. 2020's AttnBlock).

    The last layer starts at zero: the block starts as the identity, times skip_scale.
    """

    num_heads: int = 1
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.dtype("float32")
    skip_scale: float = 1.0
    groups: int | None = None  # of the norm; None: `num_groups`
    attention: AttentionName = "auto"  # as `attend` has it

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

        q, k, v = heads("query"), heads("key"), heads("value")
        out = attend(q, k, v, self.attention).reshape(b, h, w, c)
        zeros = nn.initializers.zeros_init()
        out = nn.Dense(c, kernel_init=zeros, dtype=self.dtype, name="out")(out)
        return self.skip_scale * (x + out)
