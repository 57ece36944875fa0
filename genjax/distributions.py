"""Log densities and divergences, elementwise, in nats."""

import math

import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from genjax.typing import Array


def normal_log_prob(x: Array, mean: Array, std: Array) -> Array:
    """The log density of N(mean, std^2) at x."""
    return (
        -0.5 * jnp.square((x - mean) / std) - jnp.log(std) - math.log(2 * math.pi) / 2
    )


def normal_kl(mean: Array, variance: Array, mean2: Array, variance2: Array) -> Array:
    """KL(N(mean, variance) || N(mean2, variance2))."""
    ratio = variance / variance2
    difference = jnp.square(mean - mean2) / variance2
    return 0.5 * (ratio - 1.0 - jnp.log(ratio) + difference)


def discretized_normal_log_prob(
    x: Array, mean: Array, std: Array, *, num_levels: int
) -> Array:
    """The log of the mass of N(mean, std^2) in the bin of x.

    x: one of num_levels values spaced evenly over [-1, 1], each the middle of its bin;
    the two at the edges own all that lies beyond (Ho et al. 2020, arXiv:2006.11239, eq.
    13). The masses sum to 1 over the levels. Exact far into the tails, where the
    released code stops at log 1e-12.
    """
    half = 1.0 / (num_levels - 1)
    low, high = (x - half - mean) / std, (x + half - mean) / std
    # take both from the lower tail, where differences keep their digits
    mirror = low + high > 0.0
    log_high = log_ndtr(jnp.where(mirror, -low, high))
    log_low = log_ndtr(jnp.where(mirror, -high, low))
    # the smallest normal number, not 0: where std is huge both may round to the same
    inside = log_high + jnp.log(
        jnp.maximum(-jnp.expm1(log_low - log_high), jnp.finfo(jnp.float32).tiny)
    )
    is_first, is_last = x < -1.0 + half, x > 1.0 - half
    edge = jnp.where(is_first, log_ndtr(high), log_ndtr(-low))
    return jnp.where(is_first | is_last, edge, inside)
