"""Convolutional encoders and decoders that halve and double the resolution.

`Downsampler` and `Upsampler` go between an image and a map of features; `ConvEncoder`
and `ConvDecoder` add a dense layer, for codes that are vectors.
"""

import math

import flax.linen as nn
from jaxtyping import Float

from genjax.fields import Count
from genjax.models.mlp import ACTIVATIONS, Activation
from genjax.nn.conv import Conv
from genjax.nn.conv_transpose import ConvTranspose
from genjax.typing import Array


class Residual(nn.Module):
    """x + conv1x1(conv3x3(x)), as in van den Oord et al. 2017 (arXiv:1711.00937)."""

    activation: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The same shape out as in."""
        channels, activate = x.shape[-1], ACTIVATIONS[self.activation]
        inner = Conv(channels, (3, 3), name="conv0")(activate(x))
        return x + Conv(channels, (1, 1), name="conv1")(activate(inner))


class Downsampler(nn.Module):
    """Image to a map of features. Odd sizes round up: 7 becomes 4.

    channels: each entry halves height and width. num_res_blocks: at the lowest
    resolution. activation: between the layers.
    """

    channels: tuple[Count, ...]
    num_res_blocks: int = 0
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """(B, H / 2^n, W / 2^n, channels[-1]) for n channels."""
        for i, channels in enumerate(self.channels):
            x = Conv(channels, (4, 4), strides=(2, 2), name=f"down{i}")(x)
            x = ACTIVATIONS[self.activation](x)
        for i in range(self.num_res_blocks):
            x = Residual(self.activation, name=f"res{i}")(x)
        return x


class Upsampler(nn.Module):
    """A map of features to an image of size `shape`: the mirror of `Downsampler`.

    channels: as the Downsampler's, from the image inwards. shape: (height, width,
    channels) of the output. bias_init: of the last layer.
    """

    channels: tuple[Count, ...]
    shape: tuple[int, ...]
    num_res_blocks: int = 0
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """(B, *shape), without a last activation."""
        x = Conv(self.channels[-1], (3, 3), name="in")(x)
        for i in range(self.num_res_blocks):
            x = Residual(self.activation, name=f"res{i}")(x)
        for i, channels in reversed(list(enumerate(self.channels))):
            x = ACTIVATIONS[self.activation](x)
            x = ConvTranspose(channels, (4, 4), strides=(2, 2), name=f"up{i}")(x)
            height, width = map_size(self.shape, i)
            x = x[:, :height, :width]
        x = ACTIVATIONS[self.activation](x)
        return Conv(self.shape[-1], (3, 3), name="out")(x)


def map_size(shape: tuple[int, ...], num_halvings: int) -> tuple[int, int]:
    """(height, width) of an image of this shape after this many halvings."""
    height, width = shape[:2]
    for _ in range(num_halvings):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    return height, width


class ConvEncoder(nn.Module):
    """Image to vector: `Downsampler`, flattened, and a dense layer.

    channels: each entry halves height and width. num_res_blocks: at the lowest
    resolution. activation: between the layers.
    """

    channels: tuple[Count, ...]
    out_features: int
    num_res_blocks: int = 0
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b o"]:
        """(B, out_features)."""
        x = Downsampler(
            self.channels, self.num_res_blocks, self.activation, name="down"
        )(x)
        return nn.Dense(self.out_features, name="out")(x.reshape(len(x), -1))


class ConvDecoder(nn.Module):
    """Vector to image: a dense layer and an `Upsampler`, whose fields these are."""

    channels: tuple[Count, ...]
    shape: tuple[int, ...]
    num_res_blocks: int = 0
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, z: Float[Array, "*batch d"]) -> Float[Array, "*batch h w c"]:
        """(*batch, *shape) for any number of leading axes."""
        batch = z.shape[:-1]
        height, width = map_size(self.shape, len(self.channels))
        z = z.reshape(-1, z.shape[-1])
        x = nn.Dense(height * width * self.channels[-1], name="in")(z)
        x = Upsampler(
            self.channels,
            self.shape,
            self.num_res_blocks,
            self.activation,
            name="up",
        )(x.reshape(-1, height, width, self.channels[-1]))
        return x.reshape(*batch, *self.shape)
