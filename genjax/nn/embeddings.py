"""Embeddings of the time and of other conditions: numbers to vectors."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.linear import default_embed_init
from jaxtyping import Float, Int

from genjax.typing import Array

Label = Int[Array, " b"] | Float[Array, "b k"]  # classes, or vectors

# DDPM numbers its steps 1 ... 1000; its networks see 0 ... 999 (released code). Step i
# is our t = i / 1000, for which they see i - 1: weights trained there want offset=1,
# and 32 groups in every GroupNorm: below 128 channels `norms.num_groups` takes fewer.
TIME_SCALE = 1000.0


def sinusoidal_embedding(
    t: Float[Array, " b"],
    dim: int,
    *,
    max_period: float = 10_000.0,
    offset: float = 0.0,
) -> Float[Array, "b {dim}"]:
    """Sines, then cosines, of 1000 t - offset at dim/2 frequencies, 1 to 1/max_period.

    As DDPM's released code (Ho et al. 2020, arXiv:2006.11239; get_timestep_embedding):
    the last frequency is exactly 1/max_period. Raises ValueError if dim is odd or
    under 4.
    """
    if dim % 2 or dim < 4:
        raise ValueError(f"an embedding needs an even dim of 4 or more, not {dim}")
    half = dim // 2
    frequencies = jnp.exp(-math.log(max_period) * jnp.arange(half) / (half - 1))
    steps = TIME_SCALE * t[:, None].astype(jnp.float32)
    angles = (steps - offset if offset else steps) * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


# EDM's Fourier features have frequencies of standard deviation 16 for log(sigma) / 4
# (Karras et al. 2022), which experiments/edm.py makes 4 t - 2.
FOURIER_SCALE = 4 * 16.0


def fourier_embedding(
    t: Float[Array, " b"], dim: int, *, scale: float = FOURIER_SCALE
) -> Float[Array, "b {dim}"]:
    """Sines, then cosines, of 2 pi f t at dim/2 frequencies f drawn from N(0, scale^2).

    Gaussian Fourier features (Tancik et al. 2020, arXiv:2006.10739), as Song et al.
    2021 (arXiv:2011.13456, appendix H) give them the logarithm of the noise: so t
    should be linear in that. The frequencies are drawn once and for all, and are not
    parameters. Raises ValueError if dim is odd.
    """
    if dim % 2:
        raise ValueError(f"an embedding needs an even dim, not {dim}")
    # NumPy promises that this old generator's numbers never change: checkpoints last
    draws = np.random.RandomState(0).normal(size=dim // 2).astype(np.float32)
    angles = 2.0 * math.pi * scale * t[:, None].astype(jnp.float32) * draws[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def embed_label(
    label: Label | None,
    *,
    num_classes: int,
    num_features: int,
    width: int,
    dtype: jnp.dtype,
    class_init: jax.nn.initializers.Initializer = default_embed_init,
) -> Float[Array, "b {width}"] | None:
    """The embedding of a class or of a vector, or None where a network takes neither.

    For the body of a compact module: makes its layer "label". Classes are 0 ...
    num_classes - 1, and num_classes itself is "no class". Vectors have num_features
    numbers and meet a matrix without a bias, so that zeros tell nothing. Raises
    ValueError if the label is not what the network was made for.
    """
    if num_classes and num_features:
        raise ValueError(
            f"num_classes={num_classes} and num_features={num_features} do not go "
            "together: a label is a class or a vector"
        )
    field = "num_features" if num_features else "num_classes"
    wanted = num_features or num_classes
    check_label(label, wanted, field)
    if label is None:
        return None
    if num_features:
        if label.ndim != 2 or label.shape[-1] != num_features:
            raise ValueError(
                f"num_features={num_features} takes vectors of shape (B, "
                f"{num_features}), not {label.shape}"
            )
        return nn.Dense(width, use_bias=False, dtype=dtype, name="label")(label)
    if label.ndim != 1:
        raise ValueError(
            f"num_classes={num_classes} takes classes of shape (B,), not "
            f"{label.shape}: for vectors there is num_features"
        )
    table = nn.Embed(
        num_classes + 1, width, dtype=dtype, embedding_init=class_init, name="label"
    )
    return table(label)


def check_label(label: Label | None, wanted: int, field: str = "num_classes") -> None:
    """Raises ValueError for a label where wanted = 0, and for none where it is not.

    field: what `wanted` is called in the network.
    """
    if (label is None) != (wanted == 0):
        raise ValueError(
            f"{field}={wanted} and {'no label' if label is None else 'a label'} "
            "do not go together"
        )


def embed_augmentation(
    augment: Float[Array, "b a"] | None,
    *,
    num_augment: int,
    batch: int,
    width: int,
    dtype: jnp.dtype,
) -> Float[Array, "b {width}"] | None:
    """The embedding of how examples were augmented; None in a network without it.

    For the body of a compact module: makes its layer "augment", which has no bias. No
    vector is the vector of zeros, "as it was": add nothing. Raises ValueError if there
    is a vector and num_augment is 0, or has another length.
    """
    if augment is not None and augment.shape[-1] != num_augment:
        raise ValueError(
            f"num_augment={num_augment} does not go with vectors of shape "
            f"{augment.shape}"
        )
    if not num_augment:
        return None
    if augment is None:
        augment = jnp.zeros((batch, num_augment))
    return nn.Dense(width, use_bias=False, dtype=dtype, name="augment")(augment)


def with_fourier(
    x: Float[Array, "*s c"], powers: tuple[int, ...]
) -> Float[Array, "*s c2"]:
    """x, and sin and cos of 2^n pi x for each n of powers, as more channels.

    Kingma et al. 2021 (arXiv:2107.00630, section 3.4). n = 7 and 8 for 256 levels:
    neighbouring levels are half a turn and a whole turn apart.
    """
    angles = [2.0**n * math.pi * x for n in powers]
    waves = [wave(angle) for angle in angles for wave in (jnp.sin, jnp.cos)]
    return jnp.concatenate([x, *waves], axis=-1)
