"""Multilayer perceptrons: plain, and a residual one conditioned on the time."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from genjax.fields import Count
from genjax.nn.embeddings import Label, embed_label, sinusoidal_embedding
from genjax.typing import Array


class TimeMLP(nn.Module):
    """A function of a point and a time, with the shape of the point.

    width: features of the residual stream. depth: residual blocks.
    dropout: share of each block's inner features that is set to 0 in training.
    num_classes: 0: unconditional. Else labels 0 ... num_classes - 1, and num_classes:
        the null label, "no class".
    dtype: of the arithmetic; parameters are float32.
    num_features: as in `genjax.models.unet.UNet`.
    """

    out_channels: int
    width: int = 128
    depth: int = 3
    dropout: float = 0.0
    num_classes: int = 0
    dtype: jnp.dtype = jnp.dtype("float32")
    num_features: int = 0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b d"],
        t: Float[Array, " b"],
        label: Label | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b o"]:
        """float32 (B, out_channels) for t in [0, 1]; the last layer starts at zero."""

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, name=name)

        temb = sinusoidal_embedding(t, self.width)
        temb = nn.silu(dense(self.width, "time")(temb))
        labelled = embed_label(
            label,
            num_classes=self.num_classes,
            num_features=self.num_features,
            width=self.width,
            dtype=self.dtype,
        )
        if labelled is not None:
            temb = temb + labelled

        h = dense(self.width, "in")(x)
        for i in range(self.depth):
            inner = dense(self.width, f"block{i}_0")(nn.silu(h))
            inner = nn.silu(inner + dense(self.width, f"block{i}_time")(temb))
            inner = nn.Dropout(self.dropout, deterministic=not train)(inner)
            h = h + dense(self.width, f"block{i}_1")(inner)
        out = nn.Dense(
            self.out_channels,
            kernel_init=nn.initializers.zeros_init(),
            dtype=self.dtype,
            name="out",
        )(nn.silu(h))
        return out.astype(jnp.float32)


ACTIVATIONS = {
    "linear": lambda x: x,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),  # the slope that GANs use
    "gelu": nn.gelu,
    "silu": nn.silu,
}
"""Names that a config may use."""

Activation = Literal["linear", "tanh", "sigmoid", "relu", "leaky_relu", "gelu", "silu"]


class MLP(nn.Module):
    """Dense layers of the given widths with an activation, and a last one without.

    widths: of the hidden layers; empty for a single affine map. activation: between
    the layers.
    """

    widths: tuple[Count, ...]
    out_features: int
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch o"]:
        """Any number of leading axes; parameters and arithmetic in float32."""
        for i, width in enumerate(self.widths):
            x = ACTIVATIONS[self.activation](nn.Dense(width, name=f"hidden{i}")(x))
        return nn.Dense(self.out_features, name="out")(x)
