"""The variational bound of a discrete-time diffusion model (DDPM, arXiv:2006.11239).

For a path, T timesteps (t = i/T) and p(x_s | x_t) = N(mean of q(x_s | x_t, x0_hat),
variance I) with x0_hat = denoise(x_t, t), eq. 5 there bounds -log p(x0) by the sum of

  (1) prior      KL(q(x_1 | x0) || N(0, I)), at t = 1                         L_T
  (2) diffusion  sum over i = 2 ... T of KL(q(x_s | x_t, x0) || p(x_s | x_t)) L_{i-1}
  (3) decoder    -log p(x0 | x_{1/T})                                         L_0

each an expectation over q, taken with one draw. In (2) the means differ by
from_x0 (x0 - x0_hat) alone (eqs. 7, 8 and 10; `posterior` for the coefficients).

(3) has the mean x0_hat(x_{1/T}). Pixels: the mass of the pixel's bin (eq. 13), with the
variance of "fixed_small" at i = 2 whichever variance the other steps have, as in the
released code (at i = 1 the small one is 0). Points: a density, with the variance of
"fixed_large" at i = 1, right for data much wider than the first step's noise. Learned
variances lie between the former (v = 0) and the latter (v = 1) for both, as in the
released code of Nichol & Dhariwal 2021 (arXiv:2102.09672).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.axes import per_example, sum_over_dims
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.posterior import (
    DenoiseAndSpread,
    Posterior,
    Variance,
    between,
    estimate,
    model_variance,
    posterior,
)
from genjax.distributions import (
    discretized_normal_log_prob,
    normal_kl,
    normal_log_prob,
)
from genjax.typing import Array, Key


class Bound(NamedTuple):
    """The terms (1), (2), (3) for each example, in nats summed over dimensions."""

    prior: Array
    diffusion: Array
    decoder: Array

    @property
    def nats(self) -> Array:
        """Their sum, (B,): at least -log p(x0) in expectation."""
        return self.prior + self.diffusion + self.decoder


def variational_bound(
    denoise: Denoise | DenoiseAndSpread,
    x0: Float[Array, " b *d"],
    *,
    path: GaussianPath,
    num_timesteps: int,
    num_levels: int,
    variance: Variance,
    key: Key,
    draws: int | None = None,
) -> Bound:
    """The bound for each example; one example at one time in memory.

    x0: in [-1, 1] on num_levels values, or any points where num_levels is 0.
    draws: None: all T - 1 terms of (2). Else (2) is estimated without bias from
        `draws` of them for each example (`draw_timesteps`); (1) and (3) are always
        taken whole. The cost is draws + 1 evaluations of denoise.
    variance: "learned" takes a denoiser of (x0, v).
    Raises ValueError if num_timesteps < 2 or draws < 1.
    """
    if num_timesteps < 2:
        raise ValueError(f"the bound needs 2 timesteps or more, not {num_timesteps}")
    decoder_key, step_key, draw_key = jax.random.split(key, 3)

    def term(i: Array, key: Key) -> Array:  # (2) at one i, a scalar or (B,)
        t = i / num_timesteps
        xt = path.diffuse(x0, jax.random.normal(key, x0.shape, x0.dtype), t)
        q = _step_back(path, i, num_timesteps, like=x0)
        return _divergence(x0, *estimate(denoise, xt, t), q, variance)

    def add(total: Array, draw: tuple[Array, Array, Key]) -> tuple[Array, None]:
        i, weight, key = draw
        return total + weight * term(i, key), None

    if draws is None:
        i = jnp.arange(2, num_timesteps + 1)
        weights = jnp.ones(len(i))
    else:
        i, weights = draw_timesteps(
            path, draw_key, num_timesteps=num_timesteps, shape=(draws, len(x0))
        )
        weights = weights / draws
    keys = jax.random.split(step_key, len(i))
    diffusion, _ = jax.lax.scan(add, jnp.zeros(len(x0)), (i, weights, keys))
    return Bound(
        prior=_prior(x0, path),
        diffusion=diffusion,
        decoder=_decoder(
            denoise, x0, path, num_timesteps, num_levels, variance, decoder_key
        ),
    )


def learned_variance_loss(
    x0: Float[Array, " b *d"],
    x0_hat: Float[Array, " b *d"],
    v: Float[Array, " b *d"],
    i: Int[Array, " b"],
    *,
    path: GaussianPath,
    num_timesteps: int,
    num_levels: int,
) -> Float[Array, " b"]:
    """An estimate of the bound from one i in 1 ... T an example, in bits per dimension.

    L_vlb of Nichol & Dhariwal 2021 (arXiv:2102.09672, section 3.1, eq. 16): T times the
    term (2) at i, or (3) where i = 1, which for uniform i is the whole bound except
    (1), in expectation. Bits per dimension is the unit that the paper's lambda = 0.001
    is meant for, next to a squared error averaged over dimensions. The gradient goes
    to v alone, not to x0_hat.

    x0_hat, v: what a denoiser of (x0, v) says of x_t at t = i / T.
    """
    x0_hat = jax.lax.stop_gradient(x0_hat)
    # where i = 1 the place of (2) is held by its neighbour: its own variance is 0
    q = _step_back(path, jnp.maximum(i, 2), num_timesteps, like=x0)
    step = _divergence(x0, x0_hat, v, q, "learned")
    # elsewhere x0_hat may be so far off that the gradient of (3) is not a number
    mean = jnp.where(per_example(i.astype(x0.dtype), x0) > 1, x0, x0_hat)
    first = _reconstruction(x0, mean, v, path, num_timesteps, num_levels, "learned")
    nats = jnp.where(i > 1, step, first)
    return num_timesteps * nats / (math.log(2.0) * x0[0].size)


def draw_timesteps(
    path: GaussianPath, key: Key, *, num_timesteps: int, shape: tuple[int, int]
) -> tuple[Array, Array]:
    """Indices i in 2 ... T, shape (draws, B), and their weights 1 / p(i).

    The mean over draws of weight * f(i) estimates the sum of f over 2 ... T without
    bias: draw k falls in the k-th of `draws` strata of equal probability.

    p is half uniform, half proportional to SNR(i-1)/SNR(i) - 1, which is the size of
    term i when the error of eps is the same at all times. Far more of the sum sits near
    the data than a uniform draw would look at; the uniform half bounds the weights by
    2 (T - 1).
    """
    draws = shape[0]
    if draws < 1:
        raise ValueError(f"the estimate needs 1 draw or more, not {draws}")
    i = jnp.arange(2, num_timesteps + 1)
    logsnr = path.logsnr(jnp.arange(1, num_timesteps + 1) / num_timesteps)
    # at most 10: a path that ends in noise only (alpha = 0) has an infinite last ratio
    size = jnp.expm1(jnp.minimum(logsnr[:-1] - logsnr[1:], 10.0))
    probability = 0.5 / len(i) + 0.5 * size / jnp.sum(size)
    offset = jax.random.uniform(key, shape)
    u = (jnp.arange(draws)[:, None] + offset) / draws
    place = jnp.searchsorted(jnp.cumsum(probability), u)
    place = jnp.minimum(place, len(i) - 1)  # the sum may round to just under 1
    return i[place], 1.0 / probability[place]


def _prior(x0: Array, path: GaussianPath) -> Array:
    """(1)."""
    one = jnp.ones(())
    alpha, sigma = path.alpha(one), path.sigma(one)
    return sum_over_dims(normal_kl(alpha * x0, jnp.square(sigma), jnp.zeros(()), one))


def _step_back(
    path: GaussianPath, i: Array, num_timesteps: int, *, like: Array
) -> Posterior:
    """The posterior from timestep i to i - 1, shaped to multiply `like`."""
    q = posterior(path, i / num_timesteps, (i - 1) / num_timesteps)
    return Posterior(*(per_example(values, like) for values in q))


def _divergence(
    x0: Array, x0_hat: Array, v: Array | None, q: Posterior, variance: Variance
) -> Array:
    """(2) at one step."""
    spread = model_variance(q, variance, v)
    divergence = normal_kl(q.from_x0 * x0, q.small, q.from_x0 * x0_hat, spread)
    return sum_over_dims(jnp.broadcast_to(divergence, x0.shape))


def _decoder(
    denoise: Denoise | DenoiseAndSpread,
    x0: Array,
    path: GaussianPath,
    num_timesteps: int,
    num_levels: int,
    variance: Variance,
    key: Key,
) -> Array:
    """(3), with one draw."""
    first = jnp.asarray(1 / num_timesteps)
    x1 = path.diffuse(x0, jax.random.normal(key, x0.shape, x0.dtype), first)
    mean, v = estimate(denoise, x1, first)
    return _reconstruction(x0, mean, v, path, num_timesteps, num_levels, variance)


def _reconstruction(
    x0: Array,
    mean: Array,
    v: Array | None,
    path: GaussianPath,
    num_timesteps: int,
    num_levels: int,
    variance: Variance,
) -> Array:
    """(3), given what denoise says of x_{1/T}."""
    first, second = jnp.asarray(1 / num_timesteps), jnp.asarray(2 / num_timesteps)
    small = posterior(path, second, first).small
    large = posterior(path, first, jnp.zeros_like(first)).large
    spread = small if num_levels else large
    if variance == "learned" and v is not None:  # without v (2) has refused already
        spread = between(small, large, v)
    std = jnp.sqrt(spread)
    if num_levels == 0:
        return -sum_over_dims(normal_log_prob(x0, mean, std))
    return -sum_over_dims(
        discretized_normal_log_prob(x0, mean, std, num_levels=num_levels)
    )
