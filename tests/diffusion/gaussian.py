"""Data whose every quantity is known: independent Gaussians, diffused by a path."""

import jax.numpy as jnp
import numpy as np

from genjax.diffusion.posterior import posterior

MEAN = jnp.array([[0.5, -1.0]])
STD = jnp.array([[0.3, 1.5]])


def marginal(path, t):
    """Mean and standard deviation of x_t."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    return alpha * MEAN, jnp.sqrt(alpha**2 * STD**2 + sigma**2)


def exact_denoiser(path):
    """E[x0 | x_t], by regression of x0 on x_t."""

    def denoise(x, t):
        t = jnp.reshape(t, (-1, 1))
        mean, std = marginal(path, t)
        return MEAN + path.alpha(t) * STD**2 / std**2 * (x - mean)

    return denoise


def log_prob(x):
    z = (x - MEAN) / STD
    return -jnp.sum(0.5 * z**2 + jnp.log(STD) + 0.5 * np.log(2 * np.pi), axis=-1)


def exact_spread(path, times):
    """A denoiser of (x0, v) whose p(x_s | x_t) is the true one, for falling times.

    The true variance is the posterior's, plus that of x0 given x_t through the mean. To
    the last time before 0 belongs the v of the bound's decoder, if that time is 1/T.
    """
    times = jnp.asarray(times)
    t, s = times[:-1, None], times[1:, None]
    _, std = marginal(path, t)
    of_x0 = (STD * path.sigma(t) / std) ** 2
    q = posterior(path, t, s)
    variance = q.small + q.from_x0**2 * of_x0
    before = posterior(path, times[-3], times[-2]).small  # from 2/T to 1/T
    small = jnp.where(s > 0, q.small, before)
    v = jnp.log(variance / small) / jnp.log(q.large / small)

    def denoise(x, now):
        place = jnp.argmin(
            jnp.abs(times[None, :-1] - jnp.reshape(now, (-1, 1))), axis=-1
        )
        return exact_denoiser(path)(x, now), jnp.broadcast_to(v[place], x.shape)

    return denoise
