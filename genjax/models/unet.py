"""DDPM's U-Net (Ho et al. 2020, arXiv:2006.11239, appendix B and the released code).

Its options lead to DDPM++ and NCSN++ (Song et al. 2021, arXiv:2011.13456, appendix H)
as EDM trains them (Karras et al. 2022, arXiv:2206.00364, appendix F.1). Both have

    resample="block", up_attention="last", scale_skips=True

and NCSN++ time_embedding="fourier", resample_taps=(1, 3, 3, 1) and
progressive_input=True as well. Left out: the label goes to the first layers of the time
embedding there, and the gains of their initial weights are other small numbers.
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.choices import near_multiples
from genjax.nn.attention import AttentionName, SpatialAttention
from genjax.nn.conv import Conv
from genjax.nn.embeddings import (
    Label,
    embed_augmentation,
    embed_label,
    fourier_embedding,
    sinusoidal_embedding,
)
from genjax.nn.norms import GroupNorm
from genjax.nn.resample import downsample, upsample
from genjax.typing import Array

# the released code's default_init, for every layer that does not start at zero
uniform_init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
zero_init = nn.initializers.zeros_init()

Resize = Callable[[Array], Array]
MakeBlock = Callable[..., Array]  # (h, channels, name, resize=None) -> h


class ResBlock(nn.Module):
    """Two 3x3 convolutions round the time embedding, plus a 1x1 shortcut if needed.

    resize: what to do to the image between the first norm and the first convolution,
        and on the shortcut (BigGAN: Brock et al. 2019, arXiv:1809.11096).
    adaptive_norm: the embedding scales and shifts what the second norm gives (Dhariwal
        & Nichol 2021, arXiv:2105.05233), instead of being added before it.
    skip_scale: of the sum.
    groups: of each norm; None: `num_groups`.
    """

    channels: int
    dropout: float
    dtype: jnp.dtype
    resize: Resize | None = None
    adaptive_norm: bool = False
    skip_scale: float = 1.0
    groups: int | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], temb: Float[Array, "b e"], train: bool
    ) -> Float[Array, "b h2 w2 c2"]:
        """The second convolution starts at zero: the block starts as its shortcut."""
        h = GroupNorm(self.groups, silu=True, name="norm1")(x)
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        h = _conv(self.channels, self.dtype, "conv1")(h)
        outputs = self.channels * (2 if self.adaptive_norm else 1)
        shift = _dense(outputs, self.dtype, "time")(nn.silu(temb))[:, None, None, :]
        if self.adaptive_norm:
            scale, shift = jnp.split(shift, 2, axis=-1)
            h = GroupNorm(self.groups, name="norm2")(h) * (1.0 + scale) + shift
            h = nn.silu(h)
        else:
            h = GroupNorm(self.groups, silu=True, name="norm2")(h + shift)
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = _conv(self.channels, self.dtype, "conv2", init=zero_init)(h)
        if x.shape[-1] != self.channels or self.resize is not None:
            x = _dense(self.channels, self.dtype, "shortcut")(x)
        return self.skip_scale * (x + h)


class UNet(nn.Module):
    """A function of an image and a time, with the shape of the image.

    out_channels: channels of the result.
    channels: of the highest resolution; a multiple of 8 (GroupNorm).
    channel_multipliers: one for each resolution; each next one is half as large.
    num_res_blocks: for each resolution going down; one more going up.
    attention_resolutions: heights of the feature maps that get self-attention. The
        middle always has it.
    num_heads: of each self-attention; they share its channels.
    dropout: share of each block's features that is set to 0 in training.
    num_classes: 0: unconditional. Else labels 0 ... num_classes - 1, whose embedding is
        added to the time's, and num_classes: the null label, "no class", for
        classifier-free guidance.
    dtype: of the arithmetic; parameters and group statistics are float32.
    remat: each block is computed again for the gradient instead of being kept: about a
        third more arithmetic, and much less memory. The parameters are the same.
    attention: "cudnn": the fused kernel of NVIDIA GPUs, in bfloat16; "xla": plain
        products; "auto": cuDNN's where it can be had.

    Where other papers differ from DDPM:

    num_features: instead of num_classes: labels are vectors of num_features numbers.
    num_augment: numbers that say how an example was augmented (EDM); 0: none.
    time_embedding: "positional", or "fourier": t should then be linear in log sigma.
    resample: "conv": a convolution of stride 2, and one after repeating each value; or
        "block": residual blocks that halve and double inside.
    resample_taps: of the filter, `genjax.nn.resample`, for "block" and
        progressive_input.
    up_attention: going up, after "each" block of a resolution or the "last".
    scale_skips: sums of two branches are divided by sqrt(2), to keep their variance.
    adaptive_norm: the embedding scales and shifts each block's second norm (ResBlock)
        instead of being added before it.
    progressive_input: the image itself, halved as often, is added at each resolution.

    For weights that were trained by other code:

    num_groups: of every GroupNorm; 0: as many as suit the channels.
    time_offset: the embedding is of 1000 t - time_offset. DDPM's released code counts
        its steps from 0, which is 1.
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
    remat: bool = False
    attention: AttentionName = "auto"
    num_features: int = 0
    num_augment: int = 0
    time_embedding: str = "positional"
    resample: str = "conv"
    resample_taps: Sequence[int] = (1, 1)
    up_attention: str = "each"
    scale_skips: bool = False
    adaptive_norm: bool = False
    progressive_input: bool = False
    num_groups: int = 0
    time_offset: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Float[Array, " b"],
        label: Label | None = None,
        *,
        augment: Float[Array, "b a"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b h w o"]:
        """float32 (B, H, W, out_channels) for t in [0, 1]; train: dropout is on.

        Needs the stream "dropout" when train. Raises ValueError if the image cannot be
        halved so often, if labels and num_classes (num_features) do not go together, or
        for an option that does not exist.
        """
        self._check(x)
        temb = self._embed(t, label, augment)
        res_block = nn.remat(ResBlock, static_argnums=3) if self.remat else ResBlock

        def block(h: Array, width: int, name: str, resize: Resize | None = None):
            layer = res_block(
                width,
                self.dropout,
                self.dtype,
                resize,
                self.adaptive_norm,
                self._skip_scale,
                self.num_groups or None,
                name=name,
            )
            return layer(h, temb, train)

        skips = self._down(x.astype(self.dtype), block)
        width = skips[-1].shape[-1]
        h = block(skips[-1], width, "middle_0")
        h = self._attention("middle_attention")(h)
        h = block(h, width, "middle_1")
        h = self._up(h, skips, block)
        h = GroupNorm(self.num_groups or None, silu=True, name="norm_out")(h)
        h = _conv(self.out_channels, self.dtype, "out", init=zero_init)(h)
        return h.astype(jnp.float32)

    def _down(self, x: Float[Array, "b h w c"], block: MakeBlock) -> list[Array]:
        """Every feature map from the image to the smallest, kept for the way up."""
        h = _conv(self.channels, self.dtype, "in")(x)
        skips = [h]
        for level, multiplier in enumerate(self.channel_multipliers):
            for i in range(self.num_res_blocks):
                name = f"down{level}_{i}"
                h = self._attended(block(h, self.channels * multiplier, name), name)
                skips.append(h)
            if level < len(self.channel_multipliers) - 1:
                h = self._halved(h, f"down{level}", block)
                if self.progressive_input:
                    x = _conv(h.shape[-1], self.dtype, f"input{level}")(x)
                    h = x = self._skip_scale * (downsample(x, self._taps) + h)
                skips.append(h)
        return skips

    def _up(
        self, h: Float[Array, "b h w c"], skips: list[Array], block: MakeBlock
    ) -> Float[Array, "b h2 w2 c2"]:
        """Back to the size of the image; takes up all skips, the last one first."""
        for level, multiplier in reversed(list(enumerate(self.channel_multipliers))):
            for i in range(self.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                name = f"up{level}_{i}"
                h = block(h, self.channels * multiplier, name)
                if self.up_attention == "each" or i == self.num_res_blocks:
                    h = self._attended(h, name)
            if level > 0:
                h = self._doubled(h, f"up{level}", block)
        assert not skips
        return h

    def _halved(self, h: Array, name: str, block: MakeBlock) -> Array:
        if self.resample == "conv":
            return _conv(h.shape[-1], self.dtype, name, stride=2)(h)
        return block(h, h.shape[-1], name, partial(downsample, taps=self._taps))

    def _doubled(self, h: Array, name: str, block: MakeBlock) -> Array:
        if self.resample == "conv":
            return _conv(h.shape[-1], self.dtype, name)(upsample(h))
        return block(h, h.shape[-1], name, partial(upsample, taps=self._taps))

    def _embed(
        self, t: Array, label: Label | None, augment: Array | None
    ) -> Float[Array, "b e"]:
        """The embedding of time and of what else there is. (B, 4 channels)."""
        width = 4 * self.channels
        if self.time_embedding == "fourier":
            temb = fourier_embedding(t, 2 * self.channels).astype(self.dtype)
        else:
            temb = sinusoidal_embedding(t, self.channels, offset=self.time_offset)
            temb = temb.astype(self.dtype)
        augmented = embed_augmentation(
            augment,
            num_augment=self.num_augment,
            batch=len(t),
            width=temb.shape[-1],
            dtype=self.dtype,
        )
        if augmented is not None:
            temb = temb + augmented
        temb = _dense(width, self.dtype, "time0")(temb)
        temb = _dense(width, self.dtype, "time1")(nn.silu(temb))
        labelled = embed_label(
            label,
            num_classes=self.num_classes,
            num_features=self.num_features,
            width=width,
            dtype=self.dtype,
        )
        return temb if labelled is None else temb + labelled

    def _attended(self, h: Array, name: str) -> Array:
        if h.shape[1] in self.attention_resolutions:
            h = self._attention(f"{name}_attention")(h)
        return h

    def _attention(self, name: str) -> nn.Module:
        layer = nn.remat(SpatialAttention) if self.remat else SpatialAttention
        return layer(
            self.num_heads,
            uniform_init,
            dtype=self.dtype,
            skip_scale=self._skip_scale,
            groups=self.num_groups or None,
            attention=self.attention,
            name=name,
        )

    @property
    def _skip_scale(self) -> float:
        return 0.5**0.5 if self.scale_skips else 1.0

    @property
    def _taps(self) -> tuple[int, ...]:
        return tuple(self.resample_taps)

    def _check(self, x: Array) -> None:
        """Raises ValueError for options that do not exist, and an image too small."""
        for field, known in [
            ("time_embedding", ("positional", "fourier")),
            ("resample", ("conv", "block")),
            ("up_attention", ("each", "last")),
        ]:
            value = getattr(self, field)
            if value not in known:
                raise ValueError(
                    f"{field}={value!r} does not exist; known: {', '.join(known)}"
                )
        halvings = len(self.channel_multipliers) - 1
        if any(size % 2**halvings for size in x.shape[1:3]):
            raise ValueError(
                f"{halvings + 1} channel_multipliers halve the image {halvings} times, "
                f"and {x.shape[1]}x{x.shape[2]} does not divide by {2**halvings}: give "
                "fewer, or set data.image_size to "
                f"{near_multiples(x.shape[1], 2**halvings)}"
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
