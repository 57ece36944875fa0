"""DiffAugment (Zhao et al. 2020, arXiv:2006.10738): no image is seen plain.

Data and samples are changed alike at random before the discriminator, and the
generator's gradient comes back through the change. Section 4.1 has three kinds:

  color        brightness + U(-1/2, 1/2), then the saturation times U(0, 2), then the
               contrast times U(1/2, 3/2)
  translation  by whole pixels, up to 1/8 of the side, with zeros where nothing was
  cutout       zeros in a square (a rectangle in an oblong image) of half the side

U is a uniform draw of its own for each image, and zero the middle gray of [-1, 1].
Nothing is clipped to that range. The rest is as in the released code: the order
within color, saturation about the mean of a pixel's channels, contrast about the mean
of the image, shifts uniform over the whole pixels, and squares that may hang over the
edge by up to half of their side.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from genjax.augment import geometry
from genjax.augment.geometry import Images
from genjax.choices import nearest
from genjax.typing import Array, Key, UserError

PerImage = Float[Array, " b"]


def diff_augment(key: Key, images: Images, policy: str | Sequence[str]) -> Images:
    """The images, in [-1, 1], each changed at random by every kind of the policy.

    policy: kinds in order, "color,translation,cutout" or ("color", "translation");
        "" changes nothing.
    Raises UserError for a kind that does not exist.
    """
    changed = images
    for i, kind in enumerate(kinds(policy)):
        changed = KINDS[kind](jax.random.fold_in(key, i), changed)
    return changed.astype(images.dtype)


def kinds(policy: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds of a policy in order. Raises UserError for one that does not exist."""
    names = policy.split(",") if isinstance(policy, str) else policy
    names = tuple(name.strip() for name in names if name.strip())
    for name in names:
        if name not in KINDS:
            raise UserError(
                f"there is no augmentation {name!r}{nearest(name, KINDS)}; known: "
                f"{', '.join(KINDS)}, with commas between them"
            )
    return names


# --- kinds: drawn at random -----------------------------------------------------------


def color(key: Key, images: Images) -> Images:
    """Random brightness, saturation and contrast."""
    draws = jax.random.uniform(key, (3, len(images)))
    images = brighten(images, draws[0] - 0.5)
    images = saturate(images, 2.0 * draws[1])
    return contrast(images, draws[2] + 0.5)


def translation(key: Key, images: Images) -> Images:
    """A random shift, up to 1/8 of each side."""
    height, width = images.shape[1:3]
    reach = jnp.array([[_rounded(width / 8), _rounded(height / 8)]])
    pixels = jax.random.randint(key, (len(images), 2), -reach, reach + 1)
    return translate(images, pixels)


def cutout(key: Key, images: Images) -> Images:
    """A random square of half the side without its content."""
    sides = jnp.array([images.shape[1:3]])
    hole = jnp.array([_hole(images.shape[1:3])])
    over = hole // 2
    corner = jax.random.randint(
        key, (len(images), 2), -over, sides - hole + over + 1
    )  # (B, 2): row, column
    return cut(images, corner)


KINDS = {"color": color, "translation": translation, "cutout": cutout}
"""Names that a policy may use."""


# --- what they do, given the draws ----------------------------------------------------


def brighten(images: Images, by: PerImage) -> Images:
    """The images with so much added."""
    return images + _spread(by)


def saturate(images: Images, factor: PerImage) -> Images:
    """Each pixel's distance from its gray, the mean of its channels, times the factor.

    An image of one channel is all gray: it stays as it is.
    """
    gray = images.mean(axis=-1, keepdims=True)
    return gray + _spread(factor) * (images - gray)


def contrast(images: Images, factor: PerImage) -> Images:
    """Each value's distance from the mean of its image times the factor."""
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + _spread(factor) * (images - mean)


def translate(images: Images, pixels: Int[Array, "b 2"]) -> Images:
    """The images shifted by whole pixels (x right, y down), filled with zeros."""
    height, width = images.shape[1:3]
    x, y = pixels[:, :1], pixels[:, 1:]
    from_row = jnp.arange(height)[None, :] - y
    from_column = jnp.arange(width)[None, :] - x
    inside = _box(
        (from_row >= 0) & (from_row < height),
        (from_column >= 0) & (from_column < width),
    )
    return jnp.where(inside, geometry.shift(images, pixels), 0.0)


def cut(images: Images, corner: Int[Array, "b 2"]) -> Images:
    """The images with zeros in a square of half the side from the corner (row, column).

    The corner may lie outside: then less is cut.
    """
    height, width = images.shape[1:3]
    hole_height, hole_width = _hole((height, width))
    row = jnp.arange(height)[None, :] - corner[:, :1]
    column = jnp.arange(width)[None, :] - corner[:, 1:]
    hole = _box((row >= 0) & (row < hole_height), (column >= 0) & (column < hole_width))
    return jnp.where(hole, 0.0, images)


def _hole(sides: Sequence[int]) -> tuple[int, int]:
    height, width = sides
    return _rounded(height / 2), _rounded(width / 2)


def _rounded(length: float) -> int:
    """To whole pixels, halves up: Python's own rounding takes 2.5 to 2."""
    return int(length + 0.5)


def _box(rows: Bool[Array, "b h"], columns: Bool[Array, "b w"]) -> Array:
    """(B, H, W, 1): inside the rows and the columns of each image."""
    return rows[:, :, None, None] & columns[:, None, :, None]


def _spread(values: PerImage) -> Float[Array, "b 1 1 1"]:
    return values[:, None, None, None]
