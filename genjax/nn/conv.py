"""Convolution of images with gradients that stay fast inside loops on XLA:CPU.

One dimension; b, o, i run over examples, places of the output y and the input x, s is
the stride, K the kernel's length, p the padding before the first value:

  (1) y[b, o, co] = sum_k sum_ci x[b, s o + k - p, ci] w[k, ci, co]

and with dy the gradient of y

  (2) dx[b, i, ci] = sum_co sum_k dilated[b, i + k - (K-1-p), co] w[K-1-k, ci, co],
      dilated[b, s o, co] = dy[b, o, co], and 0 between: a convolution of dy
  (3) dw[k, ci, co] = sum_b sum_o x[b, s o + k - p, ci] dy[b, o, co]: a convolution of x
      that sums over b as if it were channels, with dy, spread by s, as the kernel.

JAX writes (2) and (3) with permuted axes, which XLA:CPU puts in order only outside of
loops: in a `lax.scan` it falls back to naive loops, 10-100 times slower (jax-ml/jax
issue 12868). Here they are written with the axes in order, and are equal bit for bit.
Other platforms recognise JAX's own form, so they get it.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.typing import Array

Padding = Literal["SAME", "VALID"] | Sequence[tuple[int, int]]
Pads = tuple[tuple[int, int], ...]
Initializer = jax.nn.initializers.Initializer

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def conv(
    x: Float[Array, "b h w ci"],
    kernel: Float[Array, "kh kw cg co"],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    groups: int = 1,
) -> Float[Array, "b h2 w2 co"]:
    """(1), as jax.lax.conv_general_dilated. Reverse mode of any order; no jax.jvp.

    padding: "SAME", "VALID", or (low, high) for each dimension.
    groups: so many convolutions side by side, each from its own ci channels of x, which
        has groups * ci, to its own co / groups channels of y.
    """
    if isinstance(padding, str):
        sizes = (x.shape[1:3], kernel.shape[:2], strides)
        padding = jax.lax.padtype_to_pads(*sizes, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    strides = tuple(strides)
    if groups == 1:
        return _conv(x, kernel, strides, pads)

    def side_by_side(x, kernel):  # XLA:CPU has no fast form of groups, even forwards
        pairs = zip(*(jnp.split(a, groups, axis=-1) for a in (x, kernel)), strict=True)
        return jnp.concatenate([_conv(*p, strides, pads) for p in pairs], axis=-1)

    def default(x, kernel):
        return _plain(x, kernel, strides, pads, groups)

    return jax.lax.platform_dependent(x, kernel, cpu=side_by_side, default=default)


def _plain(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads) -> Array:
    return _plain(x, kernel, strides, pads)


def _forward(x, kernel, strides, pads):
    return _conv(x, kernel, strides, pads), (x, kernel)


def _backward(strides, pads, residuals, dy):
    def default(x, kernel, dy):
        _, vjp = jax.vjp(lambda x, w: _plain(x, w, strides, pads), x, kernel)
        return vjp(dy)

    def cpu(x, kernel, dy):
        return _input_gradient(x.shape, kernel, dy, strides, pads), _filter_gradient(
            x, kernel.shape, dy, strides, pads
        )

    return jax.lax.platform_dependent(*residuals, dy, cpu=cpu, default=default)


_conv.defvjp(_forward, _backward)


def _input_gradient(shape, kernel: Array, dy: Array, strides, pads: Pads) -> Array:
    """(2)."""
    around = []
    for axis, ((low, _), stride) in enumerate(zip(pads, strides, strict=True)):
        size, spread = kernel.shape[axis], (dy.shape[axis + 1] - 1) * stride + 1
        before = size - 1 - low
        around.append((before, shape[axis + 1] + size - 1 - spread - before))
    return jax.lax.conv_general_dilated(
        dy,
        kernel[::-1, ::-1].swapaxes(2, 3),
        window_strides=(1, 1),
        padding=around,
        lhs_dilation=strides,
        dimension_numbers=DIMENSIONS,
    )


def _filter_gradient(x: Array, shape, dy: Array, strides, pads: Pads) -> Array:
    """(3)."""
    around = []
    for axis, ((low, _), stride) in enumerate(zip(pads, strides, strict=True)):
        spread = (dy.shape[axis + 1] - 1) * stride + 1
        around.append((low, shape[axis] - 1 + spread - x.shape[axis + 1] - low))
    dw = jax.lax.conv_general_dilated(
        x.transpose(
            3, 1, 2, 0
        ),  # (ci, h, w, b): channels are the examples, b is summed
        dy.transpose(1, 2, 0, 3),
        window_strides=(1, 1),
        padding=around,
        rhs_dilation=strides,
        dimension_numbers=DIMENSIONS,
    )
    return dw.transpose(1, 2, 0, 3)


class Conv(nn.Module):
    """flax.linen.Conv for images, over this file's `conv`; the same parameters."""

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype | None = None
    groups: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w ci"]) -> Float[Array, "b h2 w2 co"]:
        """Parameters are float32; arithmetic is in dtype (None: that of x)."""
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        dtype = x.dtype if self.dtype is None else self.dtype
        y = conv(
            x.astype(dtype),
            kernel.astype(dtype),
            strides=self.strides,
            padding=self.padding,
            groups=self.groups,
        )
        if not self.use_bias:
            return y
        zeros = nn.initializers.zeros_init()
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        return y + bias.astype(dtype)[None, None, None, :]
