"""Between examples as a data set has them and as a network sees them."""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Float, Shaped

from genjax.typing import Array


@dataclasses.dataclass(frozen=True)
class Scale:
    """Pixels lie evenly from `low` to 1; points are divided by `unit`.

    num_levels: distinct values of a pixel; 0 for points.
    """

    num_levels: int
    unit: float = 1.0
    low: float = -1.0

    @property
    def is_image(self) -> bool:
        """Whether examples are images."""
        return self.num_levels > 0

    @property
    def level_width(self) -> float:
        """From one level of a pixel to the next; for points a unit of the data."""
        if not self.is_image:
            return 1.0 / self.unit
        return (1.0 - self.low) / (self.num_levels - 1)

    def to_model(self, data: Shaped[Array, " b *d"]) -> Float[Array, " b *d"]:
        """float32, as a network sees it."""
        if not self.is_image:
            return data / self.unit
        share = data.astype(jnp.float32) / (self.num_levels - 1)
        return (1.0 - self.low) * share + self.low

    def to_data(self, x: Float[Array, " *s"]) -> Shaped[Array, " *s"]:
        """Pixels at the nearest level, those outside of the range at its ends."""
        if not self.is_image:
            return x * self.unit
        share = (jnp.clip(x, self.low, 1.0) - self.low) / (1.0 - self.low)
        return jnp.round(share * (self.num_levels - 1)).astype(jnp.uint8)

    def log_det(self, size: int) -> float:
        """Log |d to_model / d data| of an example of `size` numbers, in nats."""
        return size * math.log(self.level_width)

    def density_log_det(self, size: int) -> float:
        """`log_det` of points; 0 for pixels: their likelihood is that of levels."""
        return 0.0 if self.is_image else self.log_det(size)
