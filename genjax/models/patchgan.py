"""The networks of CycleGAN: a ResNet from image to image, and a judge of patches.

Zhu et al. 2017 (arXiv:1703.10593, section 4 and appendix 7.2). The generator is that of
Johnson et al. 2016 (arXiv:1603.08155), the discriminator the PatchGAN of pix2pix (Isola
et al. 2017, arXiv:1611.07004). Weights start from N(0, 0.02^2).

The networks of the paper have biases before every instance normalisation, which removes
them again; here they are left out, and the function is the same.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from genjax.nn.conv import Conv
from genjax.nn.conv_transpose import ConvTranspose
from genjax.nn.norms import instance_norm
from genjax.typing import Array, DataSpec, UserError

INIT = nn.initializers.normal(0.02)
UP_PADDING = ((1, 2), (1, 2))  # the transpose of a 3x3 of stride 2 padded by (1, 1)


class ResNetGenerator(nn.Module):
    """Image to image of the same shape, both in [-1, 1].

    In the paper's words c7s1-k, d2k, ..., R..., u..., c7s1-3: with the standard fields
    its network for 256 x 256 pixels; for 128 x 128 it has num_blocks=6.

    channels: k, doubled by each of num_downs layers, which halve height and width; both
        must divide by 2^num_downs and be at least 2^(num_downs + 1).
    """

    channels: int = 64
    num_downs: int = 2
    num_blocks: int = 9

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The other image; a row does not depend on the others."""
        image_channels = x.shape[-1]
        widths = [self.channels * 2**i for i in range(self.num_downs + 1)]
        h = Conv(widths[0], (7, 7), name="in", **_UNPADDED)(reflect(x, 3))
        h = nn.relu(instance_norm(h))
        for i, width in enumerate(widths[1:]):
            down = Conv(width, (3, 3), (2, 2), name=f"down{i}", **_PADDED)
            h = nn.relu(instance_norm(down(h)))
        for i in range(self.num_blocks):
            h = ResidualBlock(name=f"block{i}")(h)
        for i, width in enumerate(widths[-2::-1]):
            up = ConvTranspose(
                width,
                (3, 3),
                (2, 2),
                padding=UP_PADDING,
                use_bias=False,
                kernel_init=INIT,
                name=f"up{i}",
            )
            h = nn.relu(instance_norm(up(h)))
        out = Conv(
            image_channels, (7, 7), padding="VALID", kernel_init=INIT, name="out"
        )
        return jnp.tanh(out(reflect(h, 3)))


class ResidualBlock(nn.Module):
    """Rk of the paper: x + two 3x3 convolutions of it, no activation at the end."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The same shape out as in."""
        width = x.shape[-1]
        h = Conv(width, (3, 3), name="conv0", **_UNPADDED)(reflect(x, 1))
        h = nn.relu(instance_norm(h))
        h = Conv(width, (3, 3), name="conv1", **_UNPADDED)(reflect(h, 1))
        return x + instance_norm(h)


class PatchDiscriminator(nn.Module):
    """A logit for each patch of an image in [-1, 1].

    Ck for each k of channels, all 4x4 and all but the last of stride 2, then 4x4 to the
    logit. With the standard fields each logit sees 70 x 70 pixels; (64, 128, 256) sees
    34, and (64, 128) 16.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2"]:
        """30 x 30 logits of 256 x 256 pixels, with the standard fields."""
        last = len(self.channels) - 1
        for i, width in enumerate(self.channels):
            x = Conv(
                width,
                (4, 4),
                (2, 2) if i < last else (1, 1),
                padding=((1, 1), (1, 1)),
                use_bias=i == 0,
                kernel_init=INIT,
                name=f"conv{i}",
            )(x)
            x = nn.leaky_relu(x if i == 0 else instance_norm(x), 0.2)
        logit = Conv(1, (4, 4), padding=((1, 1), (1, 1)), kernel_init=INIT, name="out")
        return logit(x)[..., 0]


_UNPADDED = {"padding": "VALID", "use_bias": False, "kernel_init": INIT}
_PADDED = {"padding": ((1, 1), (1, 1)), "use_bias": False, "kernel_init": INIT}


def reflect(x: Float[Array, "b h w c"], width: int) -> Float[Array, "b h2 w2 c"]:
    """The image with a mirrored border of this many pixels, fewer than its sides."""
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)), mode="reflect")


def check_fits(spec: DataSpec, *, num_downs: int, num_layers: int) -> None:
    """Raises UserError unless the images (2, H, W, C) of both domains fit the networks.

    num_layers: of the discriminators, as many as their channels.
    """
    if len(spec.shape) != 4:
        raise UserError(
            f"{spec.name} has examples of shape {spec.shape}, and CycleGAN needs "
            "images of two domains: set data.name=domains, data.a.name and data.b.name"
        )
    if num_layers < 1:
        raise UserError("config.model.d_channels needs the channels of a layer or more")
    _, height, width, _ = spec.shape
    factor = 2**num_downs
    for side in (height, width):
        if side % factor or side < max(2 * factor, 4):
            raise UserError(
                f"images of {height} x {width} pixels cannot be halved "
                f"model.num_downs={num_downs} times and leave 2 pixels: set "
                f"data.image_size to a multiple of {factor}"
            )
    if num_patches(min(height, width), num_layers) < 1:
        raise UserError(
            f"images of {height} x {width} pixels are too small for the {num_layers} "
            "layers of model.d_channels: give fewer"
        )


def num_patches(side: int, num_layers: int) -> int:
    """How many logits `PatchDiscriminator` gives along this side of an image."""
    for _ in range(num_layers - 1):
        side = side // 2
    return side - 2
