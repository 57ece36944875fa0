"""Convolution of images with gradients that stay fast inside loops on XLA:CPU.

One dimension; b, o, i run over examples, places of the output y and the input x, K is
the kernel's length, p the padding before the first value; s is the stride, and a
convolution may put d - 1 zeros between the values of x and r - 1 between those of the
kernel (d = 1 and r = 1: none):

  (1) y[b, o, co] = sum_k sum_ci x'[b, s o + r k - p, ci] w[k, ci, co],
      x'[b, d i, ci] = x[b, i, ci], and 0 between

and with dy the gradient of y, dy'[b, s o, co] = dy[b, o, co] and 0 between,

  (2) dx[b, i, ci] = sum_k sum_co dy'[b, d i + r k - q, co] w[K-1-k, ci, co],
      q = r (K - 1) - p: a convolution of dy
  (3) dw[k, ci, co] = sum_b sum_o x'[b, r k + s o - p, ci] dy[b, o, co]: a convolution
      of x that sums over b as if it were channels, with dy as the kernel
  (4) dw[K-1-k, ci, co] = sum_b sum_i dy'[b, d i + r k - q, co] x[b, i, ci]: the same
      by (2), which meets no zeros where d > 1: up to 40 times faster than (3) there.

Each of them is again of the form (1), so derivatives of derivatives, as penalties on
gradients need them, are as well.

JAX writes (2) and (3) with permuted axes, which XLA:CPU puts in order only outside of
loops: in a `lax.scan` it falls back to naive loops, 10-100 times slower (jax-ml/jax
issue 12868). Here they are written with the axes in order, and are equal bit for bit.
Other platforms recognise JAX's own form, so they get it.
"""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.typing import Array

Padding = Literal["SAME", "VALID"] | Sequence[tuple[int, int]]
Pads = tuple[tuple[int, int], ...]
Pair = tuple[int, ...]
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
    groups: number of convolutions side by side, each from its own cg = ci / groups
        channels of x to its own co / groups channels of y.
    """
    if isinstance(padding, str):
        sizes = (x.shape[1:3], kernel.shape[:2], strides)
        padding = jax.lax.padtype_to_pads(*sizes, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    geometry = Geometry(pads, strides=tuple(strides))
    if groups == 1:
        return dilated_conv(x, kernel, geometry)

    def one_by_one(x, kernel):  # XLA:CPU has no fast form of groups
        parts = jax.tree.map(lambda a: _grouped(a, groups), (x, kernel))
        y = jax.lax.map(lambda part: dilated_conv(*part, geometry), parts)
        return jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], -1)

    def default(x, kernel):
        return _plain(x, kernel, geometry, groups)

    return jax.lax.platform_dependent(x, kernel, cpu=one_by_one, default=default)


def _grouped(x: Array, groups: int) -> Array:
    """(groups, ..., c / groups): the last axis in parts that lie side by side."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)


class Geometry(NamedTuple):
    """What (1) must know for each dimension: p (and the padding after), s, d and r.

    Negative padding cuts values off.
    """

    pads: Pads
    strides: Pair = (1, 1)
    spread_x: Pair = (1, 1)
    spread_kernel: Pair = (1, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dilated_conv(
    x: Float[Array, "b h w ci"],
    kernel: Float[Array, "kh kw ci co"],
    geometry: Geometry,
) -> Float[Array, "b h2 w2 co"]:
    """(1) in full. Reverse mode of any order; no jax.jvp."""
    return _plain(x, kernel, geometry)


def _plain(x: Array, kernel: Array, geometry: Geometry, groups: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.pads,
        lhs_dilation=geometry.spread_x,
        rhs_dilation=geometry.spread_kernel,
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
    )


def _forward(x, kernel, geometry):
    return dilated_conv(x, kernel, geometry), (x, kernel)


def _backward(geometry, residuals, dy):
    # each by itself: a penalty on dx has no need of dw, nor of its derivatives
    def default_dx(x, kernel, dy):
        return jax.vjp(lambda x: _plain(x, kernel, geometry), x)[1](dy)[0]

    def default_dw(x, kernel, dy):
        return jax.vjp(lambda kernel: _plain(x, kernel, geometry), kernel)[1](dy)[0]

    def cpu_dx(x, kernel, dy):
        return _input_gradient(x.shape, kernel, dy, geometry)

    def cpu_dw(x, kernel, dy):
        return _filter_gradient(x, kernel.shape, dy, geometry)

    pick = functools.partial(jax.lax.platform_dependent, *residuals, dy)
    return pick(cpu=cpu_dx, default=default_dx), pick(cpu=cpu_dw, default=default_dw)


dilated_conv.defvjp(_forward, _backward)


def _input_gradient(shape, kernel: Array, dy: Array, geometry: Geometry) -> Array:
    """(2)."""
    return _of_size(
        shape[1:3],
        dy,
        kernel[::-1, ::-1].swapaxes(2, 3),
        _mirrored(kernel.shape, geometry),
        strides=geometry.spread_x,
        spread_x=geometry.strides,
        spread_kernel=geometry.spread_kernel,
    )


def _filter_gradient(x: Array, shape, dy: Array, geometry: Geometry) -> Array:
    """(3), or (4) where x is spread."""
    if max(geometry.spread_x) == 1:
        dw = _of_size(
            shape[:2],
            _batch_last(x),
            _batch_as_input(dy),
            [low for low, _ in geometry.pads],
            strides=geometry.spread_kernel,
            spread_x=geometry.spread_x,
            spread_kernel=geometry.strides,
        )
        return dw.transpose(1, 2, 0, 3)
    dw = _of_size(
        shape[:2],
        _batch_last(dy),
        _batch_as_input(x),
        _mirrored(shape, geometry),
        strides=geometry.spread_kernel,
        spread_x=geometry.strides,
        spread_kernel=geometry.spread_x,
    )
    return dw.transpose(1, 2, 3, 0)[::-1, ::-1]


def _of_size(
    sizes: Sequence[int],
    x: Array,
    kernel: Array,
    lows: Sequence[int],
    *,
    strides: Pair,
    spread_x: Pair,
    spread_kernel: Pair,
) -> Array:
    """(1) of the given output size, by the padding after the last value."""
    pads = []
    for axis, (size, low) in enumerate(zip(sizes, lows, strict=True)):
        covered = (size - 1) * strides[axis]
        covered += (kernel.shape[axis] - 1) * spread_kernel[axis]
        present = (x.shape[axis + 1] - 1) * spread_x[axis]
        pads.append((low, covered - present - low))
    geometry = Geometry(tuple(pads), strides, spread_x, spread_kernel)
    return dilated_conv(x, kernel, geometry)


def _mirrored(kernel_shape: Sequence[int], geometry: Geometry) -> list[int]:
    """The padding q of (2)."""
    sizes = zip(kernel_shape[:2], geometry.spread_kernel, geometry.pads, strict=True)
    return [spread * (size - 1) - low for size, spread, (low, _) in sizes]


def _batch_last(x: Array) -> Array:
    """(c, h, w, b): channels are the examples, and b is summed over."""
    return x.transpose(3, 1, 2, 0)


def _batch_as_input(y: Array) -> Array:
    """(h, w, b, c): the kernel of a convolution that sums over b."""
    return y.transpose(1, 2, 0, 3)


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
