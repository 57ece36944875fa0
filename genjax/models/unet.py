"""DDPM's U-Net (Ho et al. 2020, arXiv:2006.11239, appendix B and the released code)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.nn.attention import SpatialAttention
from genjax.nn.conv import Conv
from genjax.nn.embeddings import sinusoidal_embedding
from genjax.nn.norms import GroupNorm
from genjax.typing import Array

# the released code's default_init, for every layer that does not start at zero
uniform_init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
zero_init = nn.initializers.zeros_init()


class ResBlock(nn.Module):
    """Two 3x3 convolutions round the time embedding, plus a 1x1 shortcut if needed."""

    channels: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], temb: Float[Array, "b e"], *, train: bool
    ) -> Float[Array, "b h w c2"]:
        """The second convolution starts at zero: the block starts as its shortcut."""
        h = GroupNorm(silu=True, name="norm1")(x)
        h = _conv(self.channels, self.dtype, "conv1")(h)
        shift = _dense(self.channels, self.dtype, "time")(nn.silu(temb))
        h = h + shift[:, None, None, :]
        h = GroupNorm(silu=True, name="norm2")(h)
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = _conv(self.channels, self.dtype, "conv2", init=zero_init)(h)
        if x.shape[-1] != self.channels:
            x = _dense(self.channels, self.dtype, "shortcut")(x)
        return x + h


class UNet(nn.Module):
    """A function of an image and a time, with the shape of the image.

    out_channels: channels of the result.
    channels: of the highest resolution; a multiple of 8 (GroupNorm: `num_groups`).
    channel_multipliers: one for each resolution; each next one is half as large.
    num_res_blocks: for each resolution going down; one more going up.
    attention_resolutions: heights of the feature maps that get self-attention. The
        middle always has it.
    num_classes: 0: unconditional. Else labels 0 ... num_classes - 1, whose embedding is
        added to the time's, and num_classes: the null label, "no class", for
        classifier-free guidance.
    dtype: of the arithmetic; parameters and group statistics are float32.
    """

    out_channels: int
    channels: int = 128
    channel_multipliers: Sequence[int] = (1, 2, 2, 2)
    num_res_blocks: int = 2
    attention_resolutions: Sequence[int] = (16,)
    num_heads: int = 1
    dropout: float = 0.1
    num_classes: int = 0
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Float[Array, " b"],
        label: Int[Array, " b"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b h w o"]:
        """float32 (B, H, W, out_channels) for t in [0, 1]; train: dropout is on.

        Needs the stream "dropout" when train. Raises ValueError if the image cannot be
        halved so often, or if labels and num_classes do not go together.
        """
        levels = len(self.channel_multipliers)
        if any(size % 2 ** (levels - 1) for size in x.shape[1:3]):
            raise ValueError(
                f"{levels} channel_multipliers halve the image {levels - 1} times, "
                f"and {x.shape[1]}x{x.shape[2]} does not divide by "
                f"{2 ** (levels - 1)}: give fewer"
            )
        temb = self._embed(t, label)

        def block(h: Array, multiplier: int, name: str) -> Array:
            width = self.channels * multiplier
            h = ResBlock(width, self.dropout, self.dtype, name=name)(
                h, temb, train=train
            )
            if h.shape[1] in self.attention_resolutions:
                h = self._attention(f"{name}_attention")(h)
            return h

        # down: every feature map is kept for the way up
        h = _conv(self.channels, self.dtype, "in")(x.astype(self.dtype))
        skips = [h]
        for level, multiplier in enumerate(self.channel_multipliers):
            for i in range(self.num_res_blocks):
                h = block(h, multiplier, f"down{level}_{i}")
                skips.append(h)
            if level < levels - 1:
                h = _conv(h.shape[-1], self.dtype, f"down{level}", stride=2)(h)
                skips.append(h)

        # middle
        width = h.shape[-1]
        h = ResBlock(width, self.dropout, self.dtype, name="middle_0")(
            h, temb, train=train
        )
        h = self._attention("middle_attention")(h)
        h = ResBlock(width, self.dropout, self.dtype, name="middle_1")(
            h, temb, train=train
        )

        # up
        for level, multiplier in reversed(list(enumerate(self.channel_multipliers))):
            for i in range(self.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, multiplier, f"up{level}_{i}")
            if level > 0:
                h = _conv(h.shape[-1], self.dtype, f"up{level}")(_double(h))
        assert not skips

        h = GroupNorm(silu=True, name="norm_out")(h)
        h = _conv(self.out_channels, self.dtype, "out", init=zero_init)(h)
        return h.astype(jnp.float32)

    def _embed(self, t: Array, label: Array | None) -> Array:
        """The embedding of time, and of the label if there is one. (B, 4 channels)."""
        width = 4 * self.channels
        temb = sinusoidal_embedding(t, self.channels).astype(self.dtype)
        temb = _dense(width, self.dtype, "time0")(temb)
        temb = _dense(width, self.dtype, "time1")(nn.silu(temb))
        if (label is None) != (self.num_classes == 0):
            raise ValueError(
                f"num_classes={self.num_classes} and "
                f"{'no label' if label is None else 'a label'} do not go together"
            )
        if label is None:
            return temb
        table = nn.Embed(self.num_classes + 1, width, dtype=self.dtype, name="label")
        return temb + table(label)

    def _attention(self, name: str) -> SpatialAttention:
        return SpatialAttention(
            self.num_heads, uniform_init, dtype=self.dtype, name=name
        )


def _conv(
    channels: int,
    dtype: jnp.dtype,
    name: str,
    *,
    stride: int = 1,
    init: jax.nn.initializers.Initializer = uniform_init,
) -> Conv:
    return Conv(
        channels,
        (3, 3),
        strides=(stride, stride),
        kernel_init=init,
        dtype=dtype,
        name=name,
    )


def _dense(channels: int, dtype: jnp.dtype, name: str) -> nn.Dense:
    return nn.Dense(channels, kernel_init=uniform_init, dtype=dtype, name=name)


def _double(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Twice the height and width, each value repeated."""
    b, h, w, c = x.shape
    shape = (b, h, 2, w, 2, c)
    return jnp.broadcast_to(x[:, :, None, :, None, :], shape).reshape(b, 2 * h, -1, c)
