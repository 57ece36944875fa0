"""The two networks of a variational autoencoder, dense or convolutional."""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from genjax.models.convnet import ConvDecoder, ConvEncoder
from genjax.models.mlp import MLP
from genjax.typing import Array

Backbone = Literal["dense", "conv"]


class GaussianEncoder(nn.Module):
    """The mean and the log variance of a diagonal Gaussian over codes.

    backbone: "dense" with hidden layers of `widths`, or "conv", where each of `widths`
    is the channels of a halving of the resolution.
    """

    latent_dim: int
    backbone: Backbone = "dense"
    widths: tuple[int, ...] = (200, 200)
    activation: str = "tanh"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """(mean, logvar), each (B, latent_dim)."""
        if self.backbone == "conv":
            network = ConvEncoder(
                self.widths, 2 * self.latent_dim, activation=self.activation, name="net"
            )
            out = network(x)
        else:
            network = MLP(self.widths, 2 * self.latent_dim, self.activation, name="net")
            out = network(x.reshape(len(x), -1))
        mean, logvar = jnp.split(out, 2, axis=-1)
        return mean, logvar


class PixelDecoder(nn.Module):
    """What a decoder says of the pixels (see `genjax.objectives.pixels`).

    widths, activation: those of the encoder, which are mirrored. shape: of the images.
    spread: the second parameter of a pixel: "none", "shared" (one learned number for
    all of them) or "pixel" (an output for each).
    """

    shape: tuple[int, ...]
    backbone: Backbone = "dense"
    widths: tuple[int, ...] = (200, 200)
    activation: str = "tanh"
    spread: Literal["none", "shared", "pixel"] = "none"

    @nn.compact
    def __call__(self, z: Float[Array, "*batch d"]) -> Float[Array, "*batch h w o"]:
        """(*batch, height, width, channels), or twice the channels with a spread."""
        *size, channels = self.shape
        shape = (*size, 2 * channels if self.spread == "pixel" else channels)
        if self.backbone == "conv":
            network = ConvDecoder(
                self.widths, shape, activation=self.activation, name="net"
            )
            out = network(z)
        else:
            widths = tuple(reversed(self.widths))
            network = MLP(widths, math.prod(shape), self.activation, name="net")
            out = network(z).reshape(*z.shape[:-1], *shape)
        if self.spread == "shared":
            log_spread = self.param("log_spread", nn.initializers.zeros_init(), ())
            out = jnp.concatenate([out, jnp.full_like(out, log_spread)], axis=-1)
        return out
