"""config.inputs of images alone: mirrored, enlarged and cropped at random."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.augment import geometry
from genjax.fields import Count
from genjax.typing import Array, DataSpec, Key, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crops:
    """What training does to the images of a domain."""

    flip: bool = False  # mirror half of the images; wrong for digits
    resize: Count | None = None  # resize to this side, then crop at random

    def fitting(self, spec: DataSpec) -> "Crops":
        """Itself, for images (..., H, W, C). Raises UserError for too small a size."""
        height, width = spec.shape[-3:-1]
        if self.resize is not None and (height != width or self.resize < height):
            raise UserError(
                f"config.inputs.resize={self.resize} must be None, or the side of a "
                f"square that the images of {height} x {width} pixels fit in"
            )
        return self

    def __call__(self, key: Key, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The images in [-1, 1], as many and as large as they were."""
        flip_key, crop_key = jax.random.split(key)
        if self.flip:
            x = geometry.flip_x(x, jax.random.bernoulli(flip_key, shape=(len(x),)))
        return x if self.resize is None else jitter(crop_key, x, self.resize)


def jitter(key: Key, x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h w c"]:
    """Each image in [-1, 1] resized to this side, and a random part of the old size."""
    b, height, width, c = x.shape
    larger = jax.image.resize(x, (b, size, size, c), "cubic")
    most = jnp.array([size - height + 1, size - width + 1])
    corners = jax.random.randint(key, (b, 2), jnp.zeros(2, jnp.int32)[None], most[None])

    def crop(image: Array, corner: Array) -> Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, c))

    return jnp.clip(jax.vmap(crop)(larger, corners), -1.0, 1.0)  # cubics overshoot
