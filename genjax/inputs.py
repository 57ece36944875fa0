"""config.inputs: what training shows a network of a batch."""

import dataclasses

import jax
import jax.numpy as jnp

from genjax import labels
from genjax.fields import Positive, Share
from genjax.scale import Scale
from genjax.typing import Array, Batch, DataSpec, Key, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """(key, batch, scale, num_classes) -> (x0, label)."""

    flip: bool = False  # mirror half of the images; a mirrored digit is no digit
    label_dropout: Share = 0.1  # now and then no label, to learn without one too
    point_scale: Positive = 1.0  # points are divided by it: their standard deviation

    def scale(self, spec: DataSpec, *, low: float = -1.0) -> Scale:
        """Between these data and a network. Raises UserError for points to flip."""
        if self.flip and spec.num_levels == 0:
            raise UserError(f"{spec.name} has points: set config.inputs.flip=False")
        return Scale(spec.num_levels, self.point_scale, low)

    def always_labelled(self) -> "Inputs":
        """Itself, for a model without a null label. Raises UserError if labels drop."""
        if self.label_dropout:
            raise UserError(
                f"config.inputs.label_dropout={self.label_dropout} hides labels, and "
                "this model has no label for none: set it to 0.0"
            )
        return self

    def __call__(
        self, key: Key, batch: Batch, scale: Scale, num_classes: int
    ) -> tuple[Array, Array | None]:
        """(x0, label): scaled, perhaps mirrored; its label, now and then the null."""
        flip_key, label_key = jax.random.split(key)
        x0 = scale.to_model(batch["image"])
        if self.flip:
            mirrored = jax.random.bernoulli(flip_key, 0.5, (len(x0), 1, 1, 1))
            x0 = jnp.where(mirrored, x0[:, :, ::-1], x0)
        label, p = labels.of_batch(batch, num_classes), self.label_dropout
        return x0, labels.hide(label_key, label, probability=p, null=num_classes)
