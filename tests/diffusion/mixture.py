"""A mixture of Gaussians in the plane, diffused by a path: still a mixture."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data.toy import gaussian_mixture

# two equally likely Gaussians on one place: weights 1/2, 1/4, 1/4
CENTERS = np.array([[1.0, 0.5], [1.0, 0.5], [-1.0, 0.0], [0.0, -1.5]], np.float32)
WEIGHTS = [0.5, 0.25, 0.25]
SIGMA = 0.25
DENSITY = gaussian_mixture(CENTERS, SIGMA)
MEAN = CENTERS.mean(0)
COVARIANCE = np.cov(CENTERS.T, bias=True) + SIGMA**2 * np.eye(2)


def exact_denoiser(path):
    """E[x0 | x_t]: each Gaussian's own, weighted by how likely it is given x_t."""

    def denoise(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        variance = alpha**2 * SIGMA**2 + sigma**2
        away = x[:, None] - alpha * CENTERS[None]  # (n, k, 2)
        weight = jax.nn.softmax(-0.5 * jnp.sum(away**2, -1) / variance, axis=-1)
        x0 = CENTERS[None] + alpha * SIGMA**2 / variance * away
        return jnp.sum(weight[..., None] * x0, axis=1)

    return denoise


def shares(x):
    """The part of the points that is nearest to each of the three places."""
    distance = np.linalg.norm(np.asarray(x)[:, None] - CENTERS[None, 1:], axis=-1)
    return np.bincount(distance.argmin(1), minlength=3) / len(x)
