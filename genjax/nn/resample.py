"""Images of half and of twice the size, by a fixed filter without parameters.

One dimension; f are the filter's K taps, divided by their sum, and p = K/2 - 1:

  (1) down[i] = sum_k f[k] x[2 i + k - p], with x = 0 beyond the edges
  (2) up[n]   = 2 sum_i f[n - 2 i + p] x[i]: the transpose of (1), times 2

(1, 1), the box, takes means of 2x2 values, and repeats each value. (1, 3, 3, 1) is the
smoother FIR filter of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958) and NCSN++. In
the middle of an image both keep a constant as it is.
"""

import functools
import operator
from collections.abc import Sequence

import jax.numpy as jnp
from jax.lax import slice_in_dim
from jaxtyping import Float

from genjax.typing import Array

BOX = (1, 1)


def downsample(
    x: Float[Array, "b h w c"], taps: Sequence[int] = BOX
) -> Float[Array, "b h2 w2 c"]:
    """(1) along both axes. Raises ValueError for odd sizes or an odd number of taps."""
    if x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"{x.shape[1]}x{x.shape[2]} cannot be halved")
    weights = _normalised(taps)
    return _halve(_halve(x, 1, weights), 2, weights)


def upsample(
    x: Float[Array, "b h w c"], taps: Sequence[int] = BOX
) -> Float[Array, "b h2 w2 c"]:
    """(2) along both axes. Raises ValueError for an odd number of taps."""
    weights = _normalised(taps)
    if tuple(taps) == BOX:
        return _repeat(x)
    return _double(_double(x, 1, weights), 2, weights)


def num_halvings(height: int, width: int, *, smallest: int = 7) -> int:
    """How often an image is halved until no side is over `smallest`.

    28 pixels go to 7; 8, 16, 32, 64 and 128 to 4. Raises ValueError where a side is odd
    before that.
    """
    halvings, sides = 0, (height, width)
    while max(sides) > smallest:
        if any(side % 2 for side in sides):
            raise ValueError(
                f"{height}x{width} cannot be halved down to {smallest} or less: "
                "pad or crop the images, say to 28, 32 or 64 pixels"
            )
        halvings, sides = halvings + 1, (sides[0] // 2, sides[1] // 2)
    return halvings


def _halve(x: Array, axis: int, weights: list[float]) -> Array:
    size = x.shape[axis]
    x = _pad(x, axis, len(weights) // 2 - 1)
    terms = [
        weight * slice_in_dim(x, k, k + size - 1, stride=2, axis=axis)
        for k, weight in enumerate(weights)
    ]
    return functools.reduce(operator.add, terms)


def _double(x: Array, axis: int, weights: list[float]) -> Array:
    half, shape = len(weights) // 2, list(x.shape)
    size, padded = shape[axis], _pad(x, axis, half)
    shape[axis] = 2 * size
    phases = []
    for phase in (0, 1):  # n = 2 j + phase meets i = j + (phase + p - k) / 2
        terms = [
            2.0 * weight * slice_in_dim(padded, i, i + size, axis=axis)
            for k, weight in enumerate(weights)
            if (phase + half - 1 - k) % 2 == 0
            for i in [half + (phase + half - 1 - k) // 2]
        ]
        phases.append(functools.reduce(operator.add, terms))
    return jnp.stack(phases, axis=axis + 1).reshape(shape)


def _repeat(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """(2) for the box: each value four times, without arithmetic."""
    b, h, w, c = x.shape
    shape = (b, h, 2, w, 2, c)
    return jnp.broadcast_to(x[:, :, None, :, None, :], shape).reshape(b, 2 * h, -1, c)


def _normalised(taps: Sequence[int]) -> list[float]:
    if len(taps) % 2 or not taps:
        raise ValueError(f"a filter needs an even number of taps, not {len(taps)}")
    return [tap / sum(taps) for tap in taps]


def _pad(x: Array, axis: int, margin: int) -> Array:
    widths = [(margin, margin) if i == axis else (0, 0) for i in range(x.ndim)]
    return jnp.pad(x, widths) if margin else x
