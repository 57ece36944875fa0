"""The two networks of a variational autoencoder, dense or convolutional."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from genjax.fields import Count, Field, Open
from genjax.models.convnet import ConvDecoder, ConvEncoder
from genjax.models.fields import DTYPE, Dtype, fields_of
from genjax.models.mlp import MLP, Activation
from genjax.models.networks import Networks
from genjax.typing import Array, DataSpec

Backbone = Literal["dense", "conv"]
Spread = Literal["none", "shared", "pixel"]


class GaussianEncoder(nn.Module):
    """The mean and the log variance of a diagonal Gaussian over codes.

    latent_dim: numbers in a code. backbone: dense layers, or convolutions.
    widths: of the hidden layers; of "conv" the channels of each halving.
    activation: between the layers.
    """

    latent_dim: Count
    backbone: Backbone = "dense"
    widths: tuple[Count, ...] = (200, 200)
    activation: Activation = "tanh"

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
    widths: tuple[Count, ...] = (200, 200)
    activation: Activation = "tanh"
    spread: Spread = "none"

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


def fields(stated: Mapping[str, Any]) -> dict[str, Field]:
    """Those of config.model, which are the encoder's; the decoder mirrors it."""
    del stated  # they do not depend on it
    return {**fields_of(GaussianEncoder), "dtype": DTYPE}


Model = Annotated[Mapping[str, Any], Open(fields)]
"""config.model: the fields of `GaussianEncoder`, and dtype."""


def make_networks(
    spec: DataSpec,
    spread: Spread,
    *,
    latent_dim: int,
    dtype: Dtype = "float32",
    **options: Any,
) -> Networks:
    """The parts "encoder", x -> (mean, logvar), and "decoder", z -> output for p(x|z).

    spread: as `PixelDecoder` has it. Raises UserError for fields that do not fit.
    """
    return Networks.fitting(
        spec,
        dtype,
        encoder=(GaussianEncoder(latent_dim, **options), spec.shape),
        decoder=(PixelDecoder(spec.shape, spread=spread, **options), (latent_dim,)),
    )
