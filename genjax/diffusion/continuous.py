"""The variational bound in continuous time (VDM: Kingma et al. 2021, arXiv:2107.00630).

For a path of which even t = 0 has a little noise, finite log-SNR l(t) from l(0) down to
l(1), -log p(x0) is bounded by the sum of

  (1) prior      KL(q(x_1 | x0) || N(0, I))                          (section 3.5)
  (2) diffusion  1/2 int_0^1 -l'(t) E |eps - eps_hat(x_t, t)|^2 dt     (section 5)
  (3) decoder    -log p(x0 | x_{t=0})                                (section 3.5)

where |eps - eps_hat|^2 = exp(l) |x0 - x0_hat|^2. By the substitution of l for t, (2)
depends on l(0) and l(1) alone (section 5.1): the schedule between them only changes the
variance of an estimate from random t. Drawn uniformly in l itself, (2) becomes

  (4) 1/2 (l(0) - l(1)) E |eps - eps_hat|^2

`logsnr_bound` is (1), (4) and (3) on a path with infinite log-SNR at its ends, between
two levels of noise where it is finite.

(3) for pixels: p(x0 | x) proportional to q(x | x0) over the levels (section 3.3); for
points: the density N(x / alpha, (sigma / alpha)^2 I).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.axes import per_example, sum_over_dims
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.vlb import Bound
from genjax.distributions import normal_kl, normal_log_prob
from genjax.typing import Array, Key, Net

LOGSNR_MIN = -12.0  # x0 moves the mean of x_t by 1/400 of the noise


def continuous_bound(
    denoise: Denoise,
    x0: Float[Array, " b *d"],
    t: Float[Array, " b"],
    *,
    path: GaussianPath,
    num_levels: int,
    key: Key,
) -> Bound:
    """The terms (1), (2), (3) for each example, in nats summed over dimensions.

    x0: in [-1, 1] on num_levels values, or any points where num_levels is 0.
    t: one time in [0, 1] an example: (2) is without bias if t is uniform. One
        evaluation of denoise.
    """
    eps_key, decoder_key = jax.random.split(key)
    xt = path.diffuse(x0, jax.random.normal(eps_key, x0.shape, x0.dtype), t)
    logsnr, logsnr_dot = jax.jvp(path.logsnr, (t,), (jnp.ones_like(t),))
    error = sum_over_dims(jnp.square(x0 - denoise(xt, t)))
    return Bound(
        prior=_prior(x0, path),
        diffusion=-0.5 * logsnr_dot * jnp.exp(logsnr) * error,
        decoder=_decoder(x0, jnp.zeros(()), path, num_levels, decoder_key),
    )


def logsnr_bound(
    denoise: Denoise,
    x0: Float[Array, " b *d"],
    *,
    path: GaussianPath,
    num_levels: int,
    key: Key,
    draws: int,
    logsnr: float,
) -> Bound:
    """The terms (1), (4), (3) for each example, in nats summed over dimensions.

    The chain runs from log-SNR `logsnr`, where (3) reads x0, down to that at t = 1, but
    not below LOGSNR_MIN, and the prior there is N(0, sigma^2 I), from which samplers
    start on paths with alpha(1) > 0 too. A bound for any `logsnr`.

    x0, num_levels: as in `continuous_bound`. draws: evaluations of denoise, each at one
        log-SNR an example, in as many strata of equal width.
    """
    level_key, eps_key, decoder_key = jax.random.split(key, 3)
    low = jnp.maximum(path.logsnr(jnp.ones(())), LOGSNR_MIN)
    offset = jax.random.uniform(level_key, (draws, len(x0)))
    place = (jnp.arange(draws)[:, None] + offset) / draws

    def add(total: Array, draw: tuple[Array, Key]) -> tuple[Array, None]:
        t = path.time(low + draw[0] * (logsnr - low))
        eps = jax.random.normal(draw[1], x0.shape, x0.dtype)
        error = sum_over_dims(jnp.square(x0 - denoise(path.diffuse(x0, eps, t), t)))
        return total + jnp.exp(path.logsnr(t)) * error, None

    keys = jax.random.split(eps_key, draws)
    total, _ = jax.lax.scan(add, jnp.zeros(len(x0)), (place, keys))
    start = path.time(jnp.asarray(logsnr, x0.dtype))
    return Bound(
        prior=0.5 * jnp.exp(low) * sum_over_dims(jnp.square(x0)),
        diffusion=0.5 * (logsnr - low) * total / draws,
        decoder=_decoder(x0, start, path, num_levels, decoder_key),
    )


def antithetic_times(key: Key, num: int) -> Float[Array, " n"]:
    """Uniform times in equal strides: (u + i / num) mod 1, with one u for all.

    Each is uniform on [0, 1); together they cover it, so a mean over a batch varies
    less: the low-discrepancy sampler of the paper's appendix.
    """
    return (jax.random.uniform(key) + jnp.arange(num) / num) % 1.0


def weighted_times(
    key: Key,
    num: int,
    *,
    path: GaussianPath,
    start: float,
    weighting: Literal["simple", "likelihood"],
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """(times from start to 1, the weight that E |eps - eps_hat|^2 then has).

    simple: t in equal strides from a random place, weight 1. likelihood: likewise the
    log-SNR l; then l(start) - l(1), over 2, makes the mean over draws (4) between them
    (Song et al. 2021, arXiv:2101.09258, section 4.3).
    """
    place = antithetic_times(key, num)
    if weighting == "simple":
        return start + (1.0 - start) * place, jnp.ones(())
    low, high = path.logsnr(jnp.ones(())), path.logsnr(jnp.asarray(start))
    return path.time(low + place * (high - low)), 0.5 * (high - low)


def levels_of(num_levels: int) -> Float[Array, " v"]:
    """The values of a pixel, evenly from -1 to 1."""
    return jnp.linspace(-1.0, 1.0, num_levels)


def level_logits(
    x: Float[Array, " b *d"],
    t: Float[Array, " b"] | Float[Array, ""],
    *,
    path: GaussianPath,
    num_levels: int,
) -> Float[Array, " b *d v"]:
    """The log of q(x_t | x0) for each level that a pixel may have, up to a constant."""
    scale = per_example(1.0 / path.sigma(t), x)
    shrunk = jnp.multiply.outer(path.alpha(t) / path.sigma(t), levels_of(num_levels))
    if shrunk.ndim > 1:  # (B, v) as (B, 1, ..., 1, v)
        shrunk = shrunk.reshape(len(x), *(1 for _ in x.shape[1:]), num_levels)
    else:
        shrunk = shrunk.reshape(*(1 for _ in x.shape), num_levels)
    return -0.5 * jnp.square((scale * x)[..., None] - shrunk)


def level_denoiser(net: Net, path: GaussianPath, num_levels: int) -> Denoise:
    """denoise(x, t) of pixels, from net(x, t) -> logits of each level, (..., C levels).

    Bayes' rule adds to the logits what the pixel's own noisy value says:
    p(x0 = v | x_t) is proportional to exp(logits_v) q(x_t | x0 = v).
    """

    def denoise(x: Array, t: Array) -> Array:
        logits = net(x, t).reshape(*x.shape, num_levels)
        own = level_logits(x, t, path=path, num_levels=num_levels)
        return jax.nn.softmax(logits + own) @ levels_of(num_levels)

    return denoise


def _prior(x0: Array, path: GaussianPath) -> Array:
    """(1)."""
    one = jnp.ones(())
    alpha, sigma = path.alpha(one), path.sigma(one)
    return sum_over_dims(normal_kl(alpha * x0, jnp.square(sigma), jnp.zeros(()), one))


def _decoder(
    x0: Array, t: Array, path: GaussianPath, num_levels: int, key: Key
) -> Array:
    """(3), at the time t of the least noise."""
    x = path.diffuse(x0, jax.random.normal(key, x0.shape, x0.dtype), t)
    if num_levels == 0:
        alpha, sigma = path.alpha(t), path.sigma(t)
        return -sum_over_dims(normal_log_prob(x0, x / alpha, sigma / alpha))
    logits = level_logits(x, t, path=path, num_levels=num_levels)
    level = jnp.round((x0 + 1.0) / 2.0 * (num_levels - 1)).astype(jnp.int32)
    log_probs = jax.nn.log_softmax(logits)
    return -sum_over_dims(
        jnp.take_along_axis(log_probs, level[..., None], axis=-1)[..., 0]
    )
