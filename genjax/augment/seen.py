"""config.augment: what is done to all that a discriminator sees."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Float, Shaped

from genjax.augment.adaptive import ada_augment, updated_p
from genjax.augment.diff_augment import diff_augment, kinds
from genjax.fields import Positive, Share
from genjax.typing import Array, DataSpec, Key, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of data and samples alike, so that samples do not learn them."""

    kind: Literal["none", "diffaugment", "ada"] = "none"  # of images
    policy: tuple[str, ...] = ("color", "translation", "cutout")  # of diffaugment
    ada_target: Share = 0.6  # of ada: share of the data that is known for sure
    ada_speed: Positive = 500_000.0  # of ada: images in which p could go from 0 to 1

    def __post_init__(self) -> None:
        kinds(self.policy)

    def fitting(self, spec: DataSpec) -> "Augment":
        """Itself, for these data. Raises UserError for points to augment."""
        if self.kind != "none" and spec.num_levels == 0:
            raise UserError(
                f"{spec.name} has points of shape {spec.shape}, and config.augment."
                f"kind={self.kind!r} is for images: choose 'none'"
            )
        return self

    def __call__(
        self, key: Key, x: Float[Array, "b h w c"], p: Float[Array, ""]
    ) -> Float[Array, "b h w c"]:
        """Images in [-1, 1], differentiably. p: of ada, the probability of a change."""
        if self.kind == "ada":
            return ada_augment(key, x, p)
        return x if self.kind == "none" else diff_augment(key, x, self.policy)

    def seen(
        self,
        key: Key,
        real: Float[Array, " b *d"],
        fake: Float[Array, " b *d"],
        p: Float[Array, ""],
        *,
        packing: int = 1,
    ) -> tuple[Float[Array, " m *e"], Float[Array, " m *e"]]:
        """What a discriminator sees of both: augmented, then packed."""
        if self.kind != "none":  # in one program: ADA's is slow to compile
            both = self(key, jnp.concatenate([real, fake]), p)
            real, fake = jnp.split(both, 2)
        return pack(real, packing), pack(fake, packing)

    def next_p(
        self, p: Float[Array, ""], real_logits: Float[Array, "..."], num_images: int
    ) -> Float[Array, ""]:
        """The probability after so many images of data, with these logits of them.

        real_logits: high for data, 0 for undecided.
        """
        if self.kind != "ada":
            return p
        return updated_p(
            p,
            real_logits,
            num_images=num_images,
            target=self.ada_target,
            speed=self.ada_speed,
        )


def pack(x: Shaped[Array, " n *d"], size: int) -> Shaped[Array, " m *e"]:
    """(n / size, ..., size * c): so many rows in turn, one's channels behind another's.

    PacGAN, Lin et al. 2018 (arXiv:1712.04086). size divides n.
    """
    packs = x.reshape(len(x) // size, size, *x.shape[1:])
    side_by_side = jnp.moveaxis(packs, 1, -2)  # (m, ..., size, c)
    return side_by_side.reshape(*side_by_side.shape[:-2], size * x.shape[-1])
