"""Moving images: flips, whole pixels, and any affine map with bilinear reading.

Lengths are pixels, the middle of the image is the origin, x goes right along columns
and y down along rows. Beyond its edges an image continues as its mirror image, which
does not repeat the edge: d c b | a b c d | c b a.
"""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Bool, Float, Int

from genjax.typing import Array

Images = Float[Array, "b h w c"]

# of coordinates: the short floats of GPUs would be wrong by a part of a pixel
einsum = functools.partial(jnp.einsum, precision="highest")


def select(which: Bool[Array, " b"], changed: Images, images: Images) -> Images:
    """The rows of `changed` where `which` says so, else those of `images`."""
    return jnp.where(which[:, None, None, None], changed, images)


def flip_x(images: Images, which: Bool[Array, " b"]) -> Images:
    """The columns of some images reversed."""
    return select(which, images[:, :, ::-1], images)


def flip_y(images: Images, which: Bool[Array, " b"]) -> Images:
    """The rows of some images reversed."""
    return select(which, images[:, ::-1], images)


def shift(images: Images, pixels: Int[Array, "b 2"]) -> Images:
    """The images shifted by whole pixels (x, y), each fewer than the side.

    No value is changed, so that a shift by 0 is the image, bit for bit.
    """
    height, width = images.shape[1:3]

    def one(image: Array, pixels: Array) -> Array:
        columns = _mirrored(jnp.arange(width) - pixels[0], width)
        rows = _mirrored(jnp.arange(height) - pixels[1], height)
        return image[rows][:, columns]

    return jax.vmap(one)(images, pixels)


def _mirrored(index: Int[Array, " n"], num: int) -> Int[Array, " n"]:
    """The place inside 0 ... num - 1 whose value an index up to num - 1 outside has."""
    return (num - 1) - jnp.abs((num - 1) - jnp.abs(index))


def turn(angle: Float[Array, " b"]) -> Float[Array, "b 2 2"]:
    """Turns (x, y) by the angle, from x towards y: clockwise, as y goes down."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([cos, -sin, sin, cos], axis=-1).reshape(-1, 2, 2)


def affine(
    images: Images, backwards: Float[Array, "b 2 2"], shift: Float[Array, "b 2"]
) -> Images:
    """What is at place u of the result was at backwards @ (u - shift) in the image.

    Read between pixels, bilinearly. Where nothing moves the image is the same, bit for
    bit.
    """
    return jax.vmap(_read)(images, backwards, shift)


def _read(
    image: Float[Array, "h w c"], linear: Float[Array, "2 2"], shift: Float[Array, "2"]
) -> Float[Array, "h w c"]:
    height, width = image.shape[:2]
    middle = jnp.array([(width - 1) / 2, (height - 1) / 2])[:, None, None]
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    places = jnp.stack([columns, rows]) - middle - shift[:, None, None]
    x, y = einsum("ij,jhw->ihw", linear, places) + middle

    def channel(values: Array) -> Array:
        return map_coordinates(values, [y, x], order=1, mode="mirror")

    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)
