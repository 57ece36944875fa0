"""config.augment: the augmentation of everything that a discriminator sees."""

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

    kind: Literal["none", "diffaugment", "ada"] = "none"  # the augmentation
    policy: tuple[str, ...] = ("color", "translation", "cutout")  # of diffaugment
    ada_target: Share = 0.6  # ada: target for the mean sign of D on data
    ada_speed: Positive = 500_000.0  # ada: images in which p can rise from 0 to 1

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
        """The probability after `num_images` images of data with these logits.

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
    """(n / size, ..., size * c): each row holds the channels of `size` rows of x.

    PacGAN, Lin et al. 2018 (arXiv:1712.04086). size divides n.
    """
    packs = x.reshape(len(x) // size, size, *x.shape[1:])
    side_by_side = jnp.moveaxis(packs, 1, -2)  # (m, ..., size, c)
    return side_by_side.reshape(*side_by_side.shape[:-2], size * x.shape[-1])
