"""DCGAN: convolutions of stride 2 all the way (Radford et al. 2016, arXiv:1511.06434).

The discriminator halves an image until no side is over 7 pixels (`num_halvings`: 64 and
32 pixels to a 4x4 map, 28 to 7x7), with `channels` features after the first halving and
twice as many after each next one; the generator is its mirror. At 64 pixels and 64
channels these are the paper's networks. Left out of the paper's: nothing; added: a bias
where no batch norm follows, and classes, which the paper's have not.

Classes are concatenated to the noise, one-hot (Mirza & Osindero 2014, arXiv:1411.1784),
and meet the discriminator's last features by projection (Miyato & Koyama 2018,
arXiv:1802.05637, eq. 3).
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import flax.linen as nn
from jaxtyping import Float

from genjax.models.players import (
    Classes,
    Discriminator,
    Generator,
    projection,
    with_one_hot,
)
from genjax.nn.conv import Conv
from genjax.nn.conv_transpose import ConvTranspose
from genjax.nn.norms import BATCH_MOMENTUM, minibatch_std, spectral
from genjax.nn.resample import num_halvings
from genjax.typing import Array, Key

weight_init = nn.initializers.normal(0.02)  # section 4


def gain_init(key: Key, shape: Sequence[int], dtype: object) -> Array:
    """Batch norm's gains as the released code starts them, N(1, 0.02^2)."""
    return 1.0 + weight_init(key, shape, dtype)


class DCGANGenerator(Generator):
    """Noise to images of size `shape` in [-1, 1], which can be halved.

    channels: features at half of the image's size.
    """

    channels: int = 64

    def examples(
        self, z: Float[Array, "b d"], label: Classes | None, train: bool
    ) -> Float[Array, "b h w c"]:
        """The label, one-hot, is a part of the noise."""
        z = with_one_hot(z, label, self.num_classes)

        def activated(x: Array, name: str) -> Array:
            return nn.relu(_batch_norm(name, train)(x))

        height, width, out_channels = self.shape
        halvings = num_halvings(height, width)
        maps = (height >> halvings, width >> halvings, self.channels << (halvings - 1))
        size = maps[0] * maps[1] * maps[2]
        x = nn.Dense(size, use_bias=False, kernel_init=weight_init, name="in")(z)
        x = activated(x.reshape(-1, *maps), "in_norm")
        for i in reversed(range(halvings)):
            last = i == 0
            x = ConvTranspose(
                out_channels if last else self.channels << (i - 1),
                (4, 4),
                strides=(2, 2),
                use_bias=last,
                kernel_init=weight_init,
                name=f"up{i}",
            )(x)
            x = nn.tanh(x) if last else activated(x, f"up{i}_norm")
        return x


class DCGANDiscriminator(Discriminator):
    """Images, or packs of them along the channels, to logits.

    With minibatch_std, a logit is not of its own row alone.

    channels: features after the first halving.
    norm: "batch", or "none", which penalties on the gradient at each example need.
    spectral: all weights have spectral norm 1 (`genjax.nn.norms.spectral`).
    minibatch_std: one more of the last features says how the batch varies.
    """

    channels: int = 64
    norm: Literal["batch", "none"] = "batch"
    spectral: bool = False
    minibatch_std: bool = False

    def logits(
        self, x: Float[Array, "b h w c"], label: Classes | None, train: bool
    ) -> Float[Array, " b"]:
        """(B,). Raises ValueError for an unknown norm."""
        if self.norm not in ("batch", "none"):
            raise ValueError(f"norm={self.norm!r} does not exist; known: batch, none")
        wrap = partial(spectral, train=train, enabled=self.spectral)
        for i in range(num_halvings(*x.shape[1:3])):
            normed = self.norm == "batch" and i > 0  # section 3: not on the image
            layer = Conv(
                self.channels << i,
                (4, 4),
                strides=(2, 2),
                use_bias=not normed,
                kernel_init=weight_init,
                name=f"down{i}",
            )
            x = wrap(layer)(x)
            x = _batch_norm(f"down{i}_norm", train)(x) if normed else x
            x = nn.leaky_relu(x, 0.2)
        x = minibatch_std(x) if self.minibatch_std else x
        features = x.reshape(len(x), -1)
        return projection(
            features, label, self.num_classes, init=weight_init, wrap=wrap
        )


def _batch_norm(name: str, train: bool) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=BATCH_MOMENTUM,
        scale_init=gain_init,
        name=name,
    )
