"""Log densities and divergences, elementwise, in nats."""

import jax.numpy as jnp
from jax.nn import log_sigmoid, softplus
from jax.scipy.special import log_ndtr
from jax.scipy.stats import norm

from genjax.typing import Array


def normal_log_prob(x: Array, mean: Array, std: Array) -> Array:
    """The log density of N(mean, std^2) at x."""
    return norm.logpdf(x, mean, std)


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


def standard_normal_kl(mean: Array, logvar: Array) -> Array:
    """KL(N(mean, exp(logvar)) || N(0, 1)).

    Kingma & Welling 2014 (arXiv:1312.6114), appendix B.
    """
    return 0.5 * (jnp.exp(logvar) + jnp.square(mean) - 1.0 - logvar)


def bernoulli_log_prob(x: Array, logits: Array) -> Array:
    """The log mass of x in {0, 1} where P(1) = sigmoid(logits).

    For x between 0 and 1 it is minus the cross-entropy: the mean of the log mass over a
    random binary pixel that is 1 with probability x.
    """
    return x * logits - softplus(logits)


def discretized_logistic_log_prob(
    x: Array, mean: Array, log_scale: Array, *, num_levels: int
) -> Array:
    """The log of the mass of a logistic distribution in the bin of x.

    x: one of num_levels values spaced evenly over [-1, 1], each the middle of its bin;
    the two at the edges own all that lies beyond (Kingma et al. 2016, arXiv:1606.04934,
    eq. 15; the edges as in PixelCNN++, arXiv:1701.05517). The masses sum to 1.
    """
    half = 1.0 / (num_levels - 1)
    inverse_scale = jnp.exp(-log_scale)
    low, high = (x - half - mean) * inverse_scale, (x + half - mean) * inverse_scale
    # sigmoid(high) - sigmoid(low) as a product, which keeps its digits in the tails:
    # sigmoid(high) sigmoid(-low) (1 - exp(-(high - low)))
    width = 2.0 * half * inverse_scale
    inside = (
        log_sigmoid(high)
        + log_sigmoid(-low)
        + jnp.log(jnp.maximum(-jnp.expm1(-width), jnp.finfo(jnp.float32).tiny))
    )
    is_first, is_last = x < -1.0 + half, x > 1.0 - half
    edge = jnp.where(is_first, log_sigmoid(high), log_sigmoid(-low))
    return jnp.where(is_first | is_last, edge, inside)
