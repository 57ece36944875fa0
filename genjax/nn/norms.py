"""Normalisation layers."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.typing import Array

# of the running statistics of GANs: what DCGAN's and SNGAN's released code take
BATCH_MOMENTUM = 0.9


def num_groups(channels: int, *, max_groups: int = 32, min_size: int = 4) -> int:
    """The number of groups for `channels`: DDPM's 32 where that leaves room.

    The largest divisor of `channels` that is at most max_groups and leaves min_size
    channels a group (EDM's rule, arXiv:2206.00364, made to divide): 32 for 128, 256 and
    384 channels, 8 for 32, 12 for 48; 1 below 8 channels.
    """
    most = max(1, min(max_groups, channels // min_size))
    return next(g for g in range(most, 0, -1) if channels % g == 0)


def group_norm(
    x: Float[Array, "b *space c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    *,
    groups: int,
    epsilon: float,
) -> Float[Array, "b *space c"]:
    """Group normalisation (Wu & He 2018, arXiv:1803.08494), in the dtype of x.

    Taken as sums over space for each channel, then one scale and shift for each
    channel: on XLA:CPU that is 2-4 times faster than a reshape to groups. Statistics
    are float32 whatever x is: bfloat16 sums over space lose the mean.
    """
    b, c = x.shape[0], x.shape[-1]
    space = tuple(range(1, x.ndim - 1))
    size = (x.size // (b * c)) * (c // groups)  # values in one group of one example

    def group_mean(per_channel: Array) -> Array:  # (B, C) -> (B, C), equal in a group
        mean = per_channel.reshape(b, groups, c // groups).sum(axis=-1) / size
        return jnp.repeat(mean, c // groups, axis=-1)

    wide = x.astype(jnp.float32)
    mean = group_mean(jnp.sum(wide, axis=space))
    variance = group_mean(jnp.sum(jnp.square(wide), axis=space)) - jnp.square(mean)
    # rounding may leave -1e-8 where a group is constant
    gain = scale[None] * jax.lax.rsqrt(jnp.maximum(variance, 0.0) + epsilon)
    shift = bias[None] - mean * gain
    per_channel = (b, *(1 for _ in space), c)
    return (wide * gain.reshape(per_channel) + shift.reshape(per_channel)).astype(
        x.dtype
    )


def instance_norm(
    x: Float[Array, "b *space c"], *, epsilon: float = 1e-5
) -> Float[Array, "b *space c"]:
    """Each channel of each example brought to mean 0 and variance 1, over space.

    Ulyanov et al. 2016 (arXiv:1607.08022), without a learned scale and shift. What is
    added to a whole channel before it is lost, so a convolution there needs no bias.
    """
    scale, bias = jnp.ones(x.shape[-1]), jnp.zeros(x.shape[-1])
    return group_norm(x, scale, bias, groups=x.shape[-1], epsilon=epsilon)


class GroupNorm(nn.Module):
    """Group normalisation over (B, ..., C), followed by SiLU if asked.

    groups: None: `num_groups(C)`.
    """

    groups: int | None = None
    epsilon: float = 1e-6
    silu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """The normalised features, in the dtype of x."""
        c = x.shape[-1]
        groups = num_groups(c) if self.groups is None else self.groups
        if c % groups:
            raise ValueError(f"{c} channels do not divide into {groups} groups")
        scale = self.param("scale", nn.initializers.ones_init(), (c,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (c,), jnp.float32)
        x = group_norm(x, scale, bias, groups=groups, epsilon=self.epsilon)
        return nn.silu(x) if self.silu else x


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation with a gain and a shift of its own for each class.

    Dumoulin et al. 2017 (arXiv:1610.07629, eq. 5), there for styles; Miyato & Koyama
    2018 (arXiv:1802.05637) for classes. num_classes = 0: the same for all, which is
    flax.linen.BatchNorm. The statistics are those of the whole batch, on however many
    devices it lies.
    """

    num_classes: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], label: Int[Array, " b"] | None, *, train: bool
    ) -> Float[Array, "b h w c"]:
        """train: by the statistics of this batch; else by the running ones."""
        plain = self.num_classes == 0
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=BATCH_MOMENTUM,
            use_scale=plain,
            use_bias=plain,
            name="norm",
        )(x)
        if plain:
            return x
        assert label is not None  # the networks have checked it
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        scale, bias = (
            nn.Embed(self.num_classes, x.shape[-1], embedding_init=init, name=name)
            for name, init in (("scale", ones), ("bias", zeros))
        )
        return x * scale(label)[:, None, None, :] + bias(label)[:, None, None, :]


def spectral(
    layer: nn.Module, *, train: bool, enabled: bool = True
) -> Callable[[Array], Array]:
    """The layer with its weights divided by their largest singular value.

    Spectral normalisation (Miyato et al. 2018, arXiv:1802.05957, algorithm 1): one
    power iteration a call, from the vector that "batch_stats" keeps where train. A
    convolution's kernel counts as the matrix (height * width * in, out). For the body
    of a compact module. Parameters stay where they are without it; enabled=False is
    the layer itself.
    """
    if not enabled:
        return layer
    return partial(
        nn.SpectralNorm(layer, name=f"{layer.name}_spectral"), update_stats=train
    )


def minibatch_std(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c1"]:
    """One more channel: the standard deviation over the batch, a single number.

    Of each feature at each place, then the mean of them all (Karras et al. 2018,
    arXiv:1710.10196, section 3): it tells a discriminator that samples are alike. Over
    the whole batch, as in the paper; the released code takes groups of 4.
    """
    # the gradient of a root ends at 0, where samples are equal
    deviation = jnp.sqrt(jnp.var(x, axis=0) + 1e-8)
    plane = jnp.broadcast_to(jnp.mean(deviation), (*x.shape[:-1], 1))
    return jnp.concatenate([x, plane], axis=-1)
