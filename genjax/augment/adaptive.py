"""Adaptive discriminator augmentation, ADA (Karras et al. 2020, arXiv:2006.06676).

The discriminator sees data and samples only after random changes, each of which falls
upon an image with probability p. As long as p < 1, the law of the changed images
determines that of the plain ones (section 2.2), so that the generator does not learn
the changes; p itself follows how much the discriminator overfits.

Appendix B, in this order; N is a standard normal draw, U a uniform one, all of them
apart for each image:

  blit      x-flip                half the time
            quarter turns         0, 1, 2 or 3
            whole translation     U(-1/8, 1/8) of each side, to the next pixel
  geometry  isotropic scaling     by 2^(0.2 N)
            rotation              by U(-pi, pi)
            anisotropy            2^(0.2 N) along x (right), its inverse along y
            rotation              by U(-pi, pi) once more
            translation           N / 8 of each side
  color     brightness            + 0.2 N
            contrast              times 2^(0.5 N), about 0
            luma flip             half the time: gray values are negated, colors stay
            hue                   colors turned by U(-pi, pi) about the gray axis
            saturation            colors times 2^N

Both rotations happen with probability 1 - sqrt(1 - p), so that there is none at all
with probability 1 - p. Color means a pixel without its gray, which is the mean of its
channels: one channel has no color, so that hue and saturation do nothing to it, and a
luma flip negates it. Hues are for three channels alone, all else is for any number.

Where this differs from the paper: images are read bilinearly instead of by a wavelet
filter; blits are a step of their own before the geometry, as they need no reading
between pixels, so that what they mirror at an edge may be mirrored again; and images
that are not square take half turns only, as quarter turns would change their shape.

After some minibatches p is adjusted (section 3), by the signs of the logits D at data:

  (1)  p += sign(mean sign D(x) - target) * images seen / speed, within [0, 1]
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from genjax.augment import geometry
from genjax.augment.geometry import Images, einsum
from genjax.typing import Array, Key

Probability = Float[Array, ""] | float
PerImage = Float[Array, " b"]

WHOLE_TRANSLATION = 1.0 / 8.0  # of the side, at most
SCALE_STD = 0.2  # of the logarithm to base 2, for scaling and anisotropy
TRANSLATION_STD = 1.0 / 8.0  # of the side
BRIGHTNESS_STD = 0.2  # of images in [-1, 1]
CONTRAST_STD = 0.5  # of the logarithm to base 2
SATURATION_STD = 1.0  # of the logarithm to base 2


def ada_augment(key: Key, images: Images, p: Probability) -> Images:
    """The images, in [-1, 1], each changed by each kind with probability p.

    Nothing is clipped to that range. An image upon which nothing falls comes back as it
    was, bit for bit.

    p: in [0, 1]; may be traced.
    """
    blit_key, geometry_key, color_key = jax.random.split(key, 3)
    num = len(images)
    changed = blit(images, draw_blit(blit_key, num, p))
    changed = move(changed, draw_geometry(geometry_key, num, p))
    changed = recolor(changed, draw_color(color_key, num, p))
    return changed.astype(images.dtype)


def updated_p(
    p: Probability,
    real_logits: Float[Array, "..."],
    *,
    num_images: int,
    target: float = 0.6,
    speed: float = 500_000.0,
) -> Float[Array, ""]:
    """The probability p after an adjustment by (1): up if the discriminator overfits.

    The heuristic is r_t of the paper, eq. 1. It needs logits whose sign tells data from
    samples; those of a relativistic or a Wasserstein loss have no zero of their own, so
    pass them with the mean of the logits of data and samples taken off.

    real_logits: of augmented data, since p was last adjusted; the paper takes those of
        four minibatches.
    num_images: images of data seen since p was last adjusted.
    target: mean sign at which p stays, in (-1, 1).
    speed: images in which p goes from 0 to 1 when always raised.
    """
    overfit = jnp.mean(jnp.sign(real_logits))
    step = jnp.sign(overfit - target) * (num_images / speed)
    return jnp.clip(p + step, 0.0, 1.0)


# --- blits: pixels change places ------------------------------------------------------


class Blit(NamedTuple):
    """What is done to each of B images; zeros: nothing."""

    x_flip: Bool[Array, " b"]
    quarter_turns: Int[Array, " b"]  # counterclockwise
    translation: Float[Array, "b 2"]  # of width and height, right and down


def draw_blit(key: Key, num: int, p: Probability) -> Blit:
    """Draws `num` blits by the table above."""
    coin_key, flip_key, turn_key, shift_key = jax.random.split(key, 4)
    flipped, turned, shifted = jax.random.bernoulli(coin_key, p, (3, num))
    flips = jax.random.bernoulli(flip_key, 0.5, (num,))
    turns = jax.random.randint(turn_key, (num,), 0, 4)
    shift = jax.random.uniform(shift_key, (num, 2), minval=-1.0, maxval=1.0)
    return Blit(
        x_flip=flipped & flips,
        quarter_turns=jnp.where(turned, turns, 0),
        translation=jnp.where(shifted[:, None], WHOLE_TRANSLATION * shift, 0.0),
    )


def blit(images: Images, drawn: Blit) -> Images:
    """The images flipped, then turned, then shifted by whole pixels."""
    height, width = images.shape[1:3]
    images = geometry.flip_x(images, drawn.x_flip)
    images = geometry.select(drawn.quarter_turns >= 2, images[:, ::-1, ::-1], images)
    if height == width:
        turned = jnp.rot90(images, axes=(1, 2))
        images = geometry.select(drawn.quarter_turns % 2 == 1, turned, images)
    pixels = jnp.round(drawn.translation * jnp.array([[width, height]]))
    return geometry.shift(images, pixels.astype(jnp.int32))


# --- geometry: read between pixels ----------------------------------------------------


class Geometry(NamedTuple):
    """How each of B images is transformed; zeros: not at all."""

    scaling: PerImage
    rotation: PerImage  # radians clockwise, before the anisotropy
    anisotropy: PerImage
    rotation_after: PerImage
    translation: Float[Array, "b 2"]


def draw_geometry(key: Key, num: int, p: Probability) -> Geometry:
    """Draws `num` of them by the table above."""
    coin_key, rotation_key, angle_key, normal_key = jax.random.split(key, 4)
    scaled, stretched, shifted = jax.random.bernoulli(coin_key, p, (3, num))
    p_rotation = 1.0 - jnp.sqrt(1.0 - p)
    turned, turned_after = jax.random.bernoulli(rotation_key, p_rotation, (2, num))
    before, after = _angles(angle_key, (2, num))
    scaling, anisotropy, x, y = jax.random.normal(normal_key, (4, num))
    return Geometry(
        scaling=jnp.where(scaled, scaling, 0.0),
        rotation=jnp.where(turned, before, 0.0),
        anisotropy=jnp.where(stretched, anisotropy, 0.0),
        rotation_after=jnp.where(turned_after, after, 0.0),
        translation=jnp.where(shifted[:, None], jnp.stack([x, y], axis=-1), 0.0),
    )


def move(images: Images, drawn: Geometry) -> Images:
    """The images scaled, rotated, stretched, rotated and translated, all at once."""
    height, width = images.shape[1:3]
    shrink = jnp.exp2(-SCALE_STD * drawn.scaling)[:, None, None]
    squeeze = SCALE_STD * jnp.stack([-drawn.anisotropy, drawn.anisotropy], axis=-1)
    unstretch = geometry.turn(-drawn.rotation) * jnp.exp2(squeeze)[:, None, :]
    turn_back = geometry.turn(-drawn.rotation_after)
    backwards = shrink * einsum("bij,bjk->bik", unstretch, turn_back)
    shift = TRANSLATION_STD * drawn.translation * jnp.array([[width, height]])
    return geometry.select(
        _any(drawn), geometry.affine(images, backwards, shift), images
    )


# --- color ----------------------------------------------------------------------------


class Color(NamedTuple):
    """How the colors of each of B images change; zeros: not at all."""

    brightness: PerImage
    contrast: PerImage
    luma_flip: Bool[Array, " b"]
    hue: PerImage  # radians
    saturation: PerImage


def draw_color(key: Key, num: int, p: Probability) -> Color:
    """Draws `num` changes of color by the table above."""
    coin_key, normal_key, flip_key, hue_key = jax.random.split(key, 4)
    coins = jax.random.bernoulli(coin_key, p, (5, num))
    brightened, contrasted, flipped, hued, saturated = coins
    brightness, contrast, saturation = jax.random.normal(normal_key, (3, num))
    flips = jax.random.bernoulli(flip_key, 0.5, (num,))
    return Color(
        brightness=jnp.where(brightened, brightness, 0.0),
        contrast=jnp.where(contrasted, contrast, 0.0),
        luma_flip=flipped & flips,
        hue=jnp.where(hued, _angles(hue_key, (num,)), 0.0),
        saturation=jnp.where(saturated, saturation, 0.0),
    )


def recolor(images: Images, drawn: Color) -> Images:
    """The images with the brightness, contrast, luma, hue and saturation changed."""
    brightness, contrast, hue, saturation = (
        values[:, None, None, None]
        for values in (
            BRIGHTNESS_STD * drawn.brightness,
            jnp.exp2(CONTRAST_STD * drawn.contrast),
            drawn.hue,
            jnp.exp2(SATURATION_STD * drawn.saturation),
        )
    )
    gray = images.mean(axis=-1, keepdims=True)
    colors = images - gray
    if images.shape[-1] == 3:
        # in the plane across the gray axis, by the cross product with its direction
        across = (jnp.roll(colors, 1, -1) - jnp.roll(colors, -1, -1)) / math.sqrt(3.0)
        colors = jnp.cos(hue) * colors + jnp.sin(hue) * across
    gray = contrast * (gray + brightness)
    gray = geometry.select(drawn.luma_flip, -gray, gray)
    changed = gray + contrast * saturation * colors
    return geometry.select(_any(drawn), changed, images)


def _angles(key: Key, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, minval=-math.pi, maxval=math.pi)


def _any(drawn: Geometry | Color) -> Bool[Array, " b"]:
    """Whether anything at all happens to each image."""
    happens = [(values != 0).reshape(len(values), -1).any(axis=1) for values in drawn]
    return jnp.stack(happens).any(axis=0)
