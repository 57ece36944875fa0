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
CLASS = np.array([0, 0, 1, 1])  # of each Gaussian: the right half, and the others
COVARIANCE = np.cov(CENTERS.T, bias=True) + SIGMA**2 * np.eye(2)


def exact_denoiser(path, label=None):
    """E[x0 | x_t]: each Gaussian's own, weighted by how likely it is given x_t.

    label: E[x0 | x_t, y] of that class: its Gaussians only.
    """

    def denoise(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        variance = alpha**2 * SIGMA**2 + sigma**2
        away = x[:, None] - alpha * CENTERS[None]  # (n, k, 2)
        weight = jax.nn.softmax(_logits(path, x, t, label), axis=-1)
        x0 = CENTERS[None] + alpha * SIGMA**2 / variance * away
        return jnp.sum(weight[..., None] * x0, axis=1)

    return denoise


def class_log_prob(path, label):
    """(x_t, t) -> log p_t(y = label | x_t), by Bayes' rule over the Gaussians."""

    def log_prob(x, t):
        of_class = jax.nn.logsumexp(_logits(path, x, t, label), axis=-1)
        return of_class - jax.nn.logsumexp(_logits(path, x, t), axis=-1)

    return log_prob


def _logits(path, x, t, label=None):
    """Log p_t(x_t | Gaussian), (n, k), but for a constant; -inf for other classes."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    variance = alpha**2 * SIGMA**2 + sigma**2
    away = x[:, None] - alpha * CENTERS[None]
    logits = -0.5 * jnp.sum(away**2, -1) / variance
    return logits if label is None else jnp.where(CLASS == label, logits, -jnp.inf)


def shares(x):
    """The part of the points that is nearest to each of the three places."""
    distance = np.linalg.norm(np.asarray(x)[:, None] - CENTERS[None, 1:], axis=-1)
    return np.bincount(distance.argmin(1), minlength=3) / len(x)
