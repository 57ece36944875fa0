"""SNGAN's residual networks for CIFAR-10 (Miyato et al. 2018, arXiv:1802.05957).

Table 4 of its appendix: the generator doubles a 4x4 map up to 32 pixels in residual
blocks with batch norm, the discriminator halves in its first two blocks of four, and
all its weights have spectral norm 1. Other sizes take as many blocks as the generator
needs from the smallest map (`num_halvings`): at 28 pixels two, from 7x7.

With classes, batch norm's gains and shifts are those of the class, and the
discriminator's logit is (Miyato & Koyama 2018, arXiv:1802.05637, eq. 3)

  (1) psi(phi(x)) + <v_y, phi(x)>, phi the last features summed over the image.

Weights start as in that paper's released code: Glorot's uniform, of twice its variance
inside of the residual branches.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from genjax.models.players import Classes, Discriminator, Generator, projection
from genjax.nn.conv import Conv, Initializer
from genjax.nn.norms import ConditionalBatchNorm, spectral
from genjax.nn.resample import downsample, num_halvings, upsample
from genjax.typing import Array

glorot_init = nn.initializers.glorot_uniform()
branch_init = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


class UpBlock(nn.Module):
    """Twice the size: norm, ReLU, nearest-neighbour doubling, 3x3; norm, ReLU, 3x3."""

    channels: int
    num_classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], label: Classes | None, *, train: bool
    ) -> Float[Array, "b h2 w2 c2"]:
        """(B, 2 H, 2 W, channels)."""

        def activated(x: Array, name: str) -> Array:
            norm = ConditionalBatchNorm(self.num_classes, name=name)
            return nn.relu(norm(x, label, train=train))

        h = upsample(activated(x, "norm1"))
        h = _conv(self.channels, "conv1")(h)
        h = _conv(self.channels, "conv2")(activated(h, "norm2"))
        # a 1x1 convolution and the doubling change places, and before it is cheaper
        return h + upsample(_shortcut(self.channels)(x))


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, and means of 2x2 pixels where `down`.

    first: no ReLU before the first convolution, as its input is the image.
    """

    channels: int
    down: bool
    first: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b h2 w2 c2"]:
        """The shortcut has a 1x1 convolution where size or channels change."""
        h = x if self.first else nn.relu(x)
        h = spectral(_conv(self.channels, "conv1"), train=train)(h)
        h = spectral(_conv(self.channels, "conv2"), train=train)(nn.relu(h))
        if self.down:
            h, x = downsample(h), downsample(x)
        if self.down or x.shape[-1] != self.channels:
            x = spectral(_shortcut(self.channels), train=train)(x)
        return h + x


class SNGANGenerator(Generator):
    """Noise to images of size `shape` in [-1, 1], which can be halved.

    channels: features of every map.
    """

    channels: int = 256

    def examples(
        self, z: Float[Array, "b d"], label: Classes | None, train: bool
    ) -> Float[Array, "b h w c"]:
        """The class has batch norms of its own."""
        height, width, out_channels = self.shape
        halvings = num_halvings(height, width)
        maps = (height >> halvings, width >> halvings, self.channels)
        size = maps[0] * maps[1] * maps[2]
        x = nn.Dense(size, kernel_init=glorot_init, name="in")(z).reshape(-1, *maps)
        for i in reversed(range(halvings)):
            block = UpBlock(self.channels, self.num_classes, name=f"up{i}")
            x = block(x, label, train=train)
        # also with classes, the last norm is the same for all
        x = nn.relu(ConditionalBatchNorm(name="out_norm")(x, None, train=train))
        return nn.tanh(_conv(out_channels, "out", glorot_init)(x))


class SNGANDiscriminator(Discriminator):
    """Images, or packs of them along the channels, to logits.

    channels: features of every map. The image's sides must divide by 4.
    """

    channels: int = 128

    def logits(
        self, x: Float[Array, "b h w c"], label: Classes | None, train: bool
    ) -> Float[Array, " b"]:
        """(1), each of its own row alone, when training too."""
        for i in range(4):
            block = DownBlock(self.channels, down=i < 2, first=i == 0, name=f"down{i}")
            x = block(x, train=train)
        features = jnp.sum(nn.relu(x), axis=(1, 2))
        wrap = partial(spectral, train=train)
        return projection(
            features, label, self.num_classes, init=glorot_init, wrap=wrap
        )


def _conv(channels: int, name: str, init: Initializer = branch_init) -> Conv:
    return Conv(channels, (3, 3), kernel_init=init, name=name)


def _shortcut(channels: int) -> Conv:
    return Conv(channels, (1, 1), kernel_init=glorot_init, name="shortcut")
