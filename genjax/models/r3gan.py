"""R3GAN's residual networks (Huang et al. 2024, arXiv:2501.05441, config E).

Written from the paper's section 4 and its appendix. No normalisation; each residual
block is an inverted bottleneck with two activations,

  (1) x + conv1x1(a(conv3x3(a(conv1x1(x))))),  a(h) = leaky ReLU(h + bias), slope 0.2,

where the 3x3 convolution has groups and `expansion` times as many channels as x.
Between two resolutions, bilinear resampling and, where the width changes, a 1x1
convolution. The generator's smallest map is a learned one, each channel of it times a
linear function of the noise; the discriminator ends in the mirror of that, the inner
product of each channel with a learned map. First and last convolutions are 1x1.

Weights start as He et al. 2015 has them. The last of each block starts at zero and the
other two are L^(-1/4) times smaller (Fixup: Zhang et al. 2019, arXiv:1901.09321), L the
number of residual blocks; so both networks start as chains of linear resampling. A
label enters as its one-hot vector through a linear layer: an embedding, of which
num_classes is the fan-in.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from genjax.choices import near_multiples
from genjax.models.players import Classes, Discriminator, Generator
from genjax.nn.conv import Conv, Initializer
from genjax.nn.resample import downsample, upsample
from genjax.typing import Array

TAPS = (1, 3, 3, 1)  # bilinear, both ways
SLOPE = 0.2


def scaled_init(gain: float) -> Initializer:
    """N(0, gain^2 / fan_in)."""
    return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


class Block(nn.Module):
    """(1). branch_scale: of the first two initial weights, Fixup's L^(-1/4)."""

    expansion: int
    group_size: int
    branch_scale: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The same shape out as in; starts as the identity."""
        width = x.shape[-1]
        inner = width * self.expansion
        groups = inner // self.group_size if self.group_size else 1
        he_gain = math.sqrt(2.0 / (1.0 + SLOPE**2))
        init = scaled_init(he_gain * self.branch_scale)
        zero_init = nn.initializers.zeros_init()
        expand = Conv(inner, (1, 1), kernel_init=init, name="expand")
        spread = Conv(inner, (3, 3), groups=groups, kernel_init=init, name="spread")
        contract = _conv1x1(width, "contract", zero_init)
        h = nn.leaky_relu(expand(x), SLOPE)
        return x + contract(nn.leaky_relu(spread(h), SLOPE))


class R3GANGenerator(Generator):
    """Noise to images of size `shape`, without a last activation.

    widths: features of each resolution, from the image inwards; each next one is half
        as large. blocks: residual blocks of each.
    expansion, group_size: of (1); channels a group, 0: one group.
    num_classes: 0: unconditional. Else labels 0 ... num_classes - 1, whose embedding is
        concatenated to the noise.
    class_dim: numbers of that embedding.
    """

    widths: Sequence[int] = (768, 768, 768, 768)
    blocks: Sequence[int] = (2, 2, 2, 2)
    expansion: int = 2
    group_size: int = 16
    class_dim: int = 64

    def examples(
        self, z: Float[Array, "b d"], label: Classes | None, train: bool
    ) -> Float[Array, "b h w c"]:
        """Training makes no difference.

        Raises ValueError for a size that cannot be halved so often, or for groups that
        do not divide.
        """
        _check(self.widths, self.blocks, self.expansion, self.group_size, self.shape)
        if label is not None:
            table = _embedding(self.num_classes, self.class_dim, gain=1.0)
            z = jnp.concatenate([z, table(label)], axis=-1)

        x = self._basis(z)
        for i in reversed(range(len(self.widths))):
            if i < len(self.widths) - 1:
                if x.shape[-1] != self.widths[i]:
                    x = _conv1x1(self.widths[i], f"up{i}")(x)
                x = upsample(x, TAPS)
            for j in range(self.blocks[i]):
                x = Block(
                    self.expansion,
                    self.group_size,
                    branch_scale=_fixup(self.blocks),
                    name=f"block{i}_{j}",
                )(x)
        return _conv1x1(self.shape[-1], "out")(x)

    def _basis(self, z: Float[Array, "b d"]) -> Float[Array, "b h w c"]:
        """The learned smallest map, each channel times a linear function of z."""
        halvings, width = len(self.widths) - 1, self.widths[-1]
        shape = (self.shape[0] >> halvings, self.shape[1] >> halvings, width)
        basis = self.param("basis", nn.initializers.normal(1.0), shape)
        return basis[None] * _linear(width, "in")(z)[:, None, None, :]


class R3GANDiscriminator(Discriminator):
    """Images, or packs of them along the channels, to logits: the generator's mirror.

    Fields as the generator's, but

    class_dim: features whose inner product with the class's embedding is the logit;
        None: widths[-1].
    """

    widths: Sequence[int] = (768, 768, 768, 768)
    blocks: Sequence[int] = (2, 2, 2, 2)
    expansion: int = 2
    group_size: int = 16
    class_dim: int | None = None

    def logits(
        self, x: Float[Array, "b h w c"], label: Classes | None, train: bool
    ) -> Float[Array, " b"]:
        """Training makes no difference. Raises ValueError as the generator does."""
        _check(self.widths, self.blocks, self.expansion, self.group_size, x.shape[1:])
        x = _conv1x1(self.widths[0], "in")(x)
        for i, width in enumerate(self.widths):
            if i > 0:
                x = downsample(x, TAPS)
                if x.shape[-1] != width:
                    x = _conv1x1(width, f"down{i}")(x)
            for j in range(self.blocks[i]):
                x = Block(
                    self.expansion,
                    self.group_size,
                    branch_scale=_fixup(self.blocks),
                    name=f"block{i}_{j}",
                )(x)
        features = self._basis(x)
        if label is None:
            return _linear(1, "out")(features)[:, 0]
        class_dim = self.widths[-1] if self.class_dim is None else self.class_dim
        table = _embedding(self.num_classes, class_dim, gain=class_dim**-0.5)
        projected = _linear(class_dim, "out")(features)
        return jnp.sum(table(label) * projected, axis=-1)

    def _basis(self, x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
        """The inner product of each channel with its learned map."""
        shape = x.shape[1:]
        init = nn.initializers.normal(1.0 / math.sqrt(shape[0] * shape[1]))
        basis = self.param("basis", init, shape)
        return jnp.sum(basis[None] * x, axis=(1, 2))


def _conv1x1(channels: int, name: str, init: Initializer | None = None) -> Conv:
    """Without a bias: the paper has biases only in front of activations."""
    init = scaled_init(1.0) if init is None else init
    return Conv(channels, (1, 1), use_bias=False, kernel_init=init, name=name)


def _linear(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, use_bias=False, kernel_init=scaled_init(1.0), name=name)


def _embedding(num_classes: int, features: int, gain: float) -> nn.Embed:
    init = nn.initializers.normal(gain / math.sqrt(num_classes))
    return nn.Embed(num_classes, features, embedding_init=init, name="label")


def _fixup(blocks: Sequence[int]) -> float:
    """L^(-1/(2 m - 2)) for L blocks of m = 3 layers."""
    return max(1, sum(blocks)) ** -0.25


def _check(
    widths: Sequence[int],
    blocks: Sequence[int],
    expansion: int,
    group_size: int,
    shape: Sequence[int],
) -> None:
    """Raises ValueError for fields that do not fit each other or the image."""
    if len(widths) != len(blocks):
        raise ValueError(
            f"widths={tuple(widths)} and blocks={tuple(blocks)} must have one number "
            "for each resolution"
        )
    halvings = len(widths) - 1
    if any(size % 2**halvings for size in shape[:2]):
        raise ValueError(
            f"{len(widths)} widths halve the image {halvings} times, and "
            f"{shape[0]}x{shape[1]} does not divide by {2**halvings}: give fewer, "
            f"or set data.image_size to {near_multiples(shape[0], 2**halvings)}"
        )
    for width in widths:
        if group_size and (width * expansion) % group_size:
            raise ValueError(
                f"width {width} times expansion={expansion} does not divide into "
                f"groups of group_size={group_size}"
            )
