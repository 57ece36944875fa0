"""Augmentation that does not leak into samples (Karras et al. 2022, arXiv:2206.00364).

Appendix F.2: images are transformed at random in training, the network is given the
transformation as a vector a of 9 numbers, and samples are drawn with a = 0, "none".
Each kind happens with the same small probability, independently of the others; N is a
standard normal draw, U a uniform one:

  kind          how                                            given as
  x-flip        columns reversed, half the time                a_0 = 1
  y-flip        rows reversed, half the time                   a_1 = 1
  scaling       by 2^(0.2 a_2)                                 a_2 ~ N
  rotation      by r ~ U(-pi, pi)                              cos r - 1, sin r
  anisotropy    2^(0.2 w) along direction s, 2^(-0.2 w) across w cos s, w sin s
  translation   by (a_7, a_8) / 8 of width and height          a_7, a_8 ~ N

with w ~ N, and s ~ U(-pi, pi) half the time, else 0. Lengths are pixels, the middle of
the image is the origin, x goes right along columns and y down along rows.

All kinds except the flips are one affine map, applied once: the value at a place of
the result is read from the image between its pixels, bilinearly, and beyond the edges
from its mirror image. (The paper filters with a wavelet instead: bilinear reading blurs
more, but only where the network is given a nonzero a.)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from genjax.augment import geometry
from genjax.augment.geometry import einsum
from genjax.typing import Array, DataSpec, Key, UserError

NUM_PARAMETERS = 9
SCALE_STD = 0.2  # of the logarithm to base 2, for scaling and anisotropy
TRANSLATION_STD = 1.0 / 8.0  # of the side of the image


class Movement(NamedTuple):
    """How each of B images is transformed; zeros: not at all."""

    x_flip: Bool[Array, " b"]
    y_flip: Bool[Array, " b"]
    scaling: Float[Array, " b"]
    rotation: Float[Array, " b"]
    stretch: Float[Array, " b"]
    stretch_direction: Float[Array, " b"]
    translation: Float[Array, "b 2"]


def augment(
    key: Key,
    images: Float[Array, "b h w c"],
    *,
    probability: float,
    x_flip_probability: float | None = None,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b 9"]]:
    """The images, transformed at random, and the vector a for the network.

    x_flip_probability: that an x-flip is drawn (and then it is one half the time);
        None: as for the other kinds.
    """
    if x_flip_probability is None:
        x_flip_probability = probability
    movement = draw(key, len(images), probability, x_flip_probability)
    return move(images, movement), parameters(movement)


def check_images(spec: DataSpec) -> None:
    """Raises UserError for points."""
    if spec.num_levels == 0:
        raise UserError(
            f"{spec.name} has points, and only images are augmented: set "
            "config.method.augment_probability=0.0"
        )


def draw(key: Key, num: int, probability: float, x_flip_probability: float) -> Movement:
    """Draws `num` movements by the table above."""
    x_key, y_key, scaling_key, rotation_key, stretch_key, shift_key = jax.random.split(
        key, 6
    )

    def happens(key: Key, chance: float = probability) -> Array:
        return jax.random.bernoulli(jax.random.fold_in(key, 0), chance, (num,))

    def normal(key: Key) -> Array:
        return jax.random.normal(jax.random.fold_in(key, 1), (num,))

    def half(key: Key) -> Array:
        return jax.random.bernoulli(jax.random.fold_in(key, 2), 0.5, (num,))

    def angle(key: Key) -> Array:
        key = jax.random.fold_in(key, 3)
        return jax.random.uniform(key, (num,), minval=-math.pi, maxval=math.pi)

    stretched = happens(stretch_key)
    shift = jax.random.normal(jax.random.fold_in(shift_key, 1), (num, 2))
    return Movement(
        x_flip=happens(x_key, x_flip_probability) & half(x_key),
        y_flip=happens(y_key) & half(y_key),
        scaling=jnp.where(happens(scaling_key), normal(scaling_key), 0.0),
        rotation=jnp.where(happens(rotation_key), angle(rotation_key), 0.0),
        stretch=jnp.where(stretched, normal(stretch_key), 0.0),
        stretch_direction=jnp.where(
            stretched & half(stretch_key), angle(stretch_key), 0.0
        ),
        translation=jnp.where(happens(shift_key)[:, None], shift, 0.0),
    )


def parameters(movement: Movement) -> Float[Array, "b 9"]:
    """The vector a: zero for an image that is not transformed."""
    m = movement
    columns = [
        m.x_flip.astype(jnp.float32),
        m.y_flip.astype(jnp.float32),
        m.scaling,
        jnp.cos(m.rotation) - 1.0,
        jnp.sin(m.rotation),
        m.stretch * jnp.cos(m.stretch_direction),
        m.stretch * jnp.sin(m.stretch_direction),
        m.translation[:, 0],
        m.translation[:, 1],
    ]
    return jnp.stack(columns, axis=-1)


def move(
    images: Float[Array, "b h w c"], movement: Movement
) -> Float[Array, "b h w c"]:
    """The images, flipped first, then scaled, rotated, stretched and translated.

    Where nothing moves the image is the same, bit for bit.
    """
    images = geometry.flip_x(images, movement.x_flip)
    images = geometry.flip_y(images, movement.y_flip)
    return geometry.affine(images, *_backwards(movement, images.shape[1:3]))


def _backwards(
    movement: Movement, size: tuple[int, ...]
) -> tuple[Float[Array, "b 2 2"], Float[Array, "b 2"]]:
    """(A, d): what is at x, y of the result was at A (x, y - d) in the image."""
    m, (height, width) = movement, size
    turn_back = geometry.turn(-m.rotation)
    unturned = geometry.turn(m.stretch_direction)
    shrink = jnp.exp2(-SCALE_STD * m.scaling)[:, None, None]
    squeeze = jnp.stack([-SCALE_STD * m.stretch, SCALE_STD * m.stretch], axis=-1)
    # in the direction's own axes: along it, and across
    stretched = unturned * jnp.exp2(squeeze)[:, None, :]
    unstretch = einsum("bij,bkj->bik", stretched, unturned)
    sides = jnp.array([width, height], jnp.float32)
    shift = TRANSLATION_STD * m.translation * sides[None, :]
    return shrink * einsum("bij,bjk->bik", turn_back, unstretch), shift
