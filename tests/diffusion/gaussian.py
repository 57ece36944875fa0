"""Data whose every quantity is known: independent Gaussians, diffused by a path."""

import jax.numpy as jnp
import numpy as np

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
