"""Transposed convolution with gradients that are fast on XLA:CPU.

A transposed convolution spreads x over a grid of zeros: it is (1) of
`genjax.nn.conv` with s = 1, and d = its stride.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from genjax.nn.conv import Geometry, Initializer, Padding, dilated_conv
from genjax.typing import Array


def conv_transpose(
    x: Float[Array, "b h w ci"],
    kernel: Float[Array, "kh kw ci co"],
    *,
    strides: tuple[int, int],
    padding: Padding = "SAME",
) -> Float[Array, "b h2 w2 co"]:
    """As jax.lax.conv_transpose. Reverse mode of any order; no jax.jvp.

    padding: "SAME" (h2 = h * stride), "VALID", or (low, high) for each dimension as
    jax.lax.conv_transpose takes them: cells added round the dilated x.
    """
    if isinstance(padding, str):
        sizes = zip(kernel.shape[:2], strides, strict=True)
        pads = tuple(_pads(k, s, padding) for k, s in sizes)
    else:
        pads = tuple((low, high) for low, high in padding)
    return dilated_conv(x, kernel, Geometry(pads, spread_x=tuple(strides)))


def _pads(size: int, stride: int, padding: Literal["SAME", "VALID"]) -> tuple[int, int]:
    """Cells to add before and after, as jax.lax.conv_transpose counts them."""
    if padding == "VALID":
        return size - 1, stride - 1 + max(size - stride, 0)
    low = size - 1 if stride > size - 1 else -(-(size + stride - 2) // 2)
    return low, size + stride - 2 - low


class ConvTranspose(nn.Module):
    """flax.linen.ConvTranspose for images, over `conv_transpose`; same parameters."""

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w ci"]) -> Float[Array, "b h2 w2 co"]:
        """Parameters are float32; arithmetic is in dtype (None: that of x)."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        dtype = x.dtype if self.dtype is None else self.dtype
        y = conv_transpose(
            x.astype(dtype),
            kernel.astype(dtype),
            strides=self.strides,
            padding=self.padding,
        )
        if not self.use_bias:
            return y
        zeros = nn.initializers.zeros_init()
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        return y + bias.astype(dtype)[None, None, None, :]
