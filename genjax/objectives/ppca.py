"""Probabilistic PCA (Tipping & Bishop 1999, doi:10.1111/1467-9868.00196).

A linear decoder with the same noise on every dimension, and so a Gaussian:

  (1) z ~ N(0, I_d),    x | z ~ N(W z + mean, sigma2 I_D)
  (2) x ~ N(mean, C),   C = W W^T + sigma2 I_D
  (3) z | x ~ N(M^-1 W^T (x - mean), sigma2 M^-1),   M = W^T W + sigma2 I_d

The likelihood of data with eigenvalues lambda_1 >= ... >= lambda_D and eigenvectors
u_1, ... of their covariance is largest at the mean of the data and (their eqs. 7-8)

  (4) W = [sqrt(lambda_i - sigma2) u_i, i = 1 ... d]
      sigma2 = mean of lambda_{d+1} ... lambda_D

up to a turn of z. Nothing here inverts a D x D matrix: with z* the mean of (3),

  (5) (x - mean)^T C^-1 (x - mean) = |x - mean - W z*|^2 / sigma2 + |z*|^2
  (6) log |C| = (D - d) log sigma2 + log |M|
  (7) tr C^-1 = (D - d) / sigma2 + tr M^-1

(1)-(3) and (5)-(7) hold for any W, so the functions also tell the exact likelihood of a
trained linear decoder.
"""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Float

from genjax.typing import Array

# All products in full float32, which a GPU would round to TF32: what rounding leaves
# is divided by sigma2.
_matmul = functools.partial(jnp.matmul, precision="highest")


class PPCA(NamedTuple):
    """The parameters of (1)."""

    mean: Float[Array, " D"]
    weight: Float[Array, "D d"]  # W
    sigma2: Float[Array, ""]


class Components(NamedTuple):
    """Principal axes of a covariance, the largest variance first."""

    axes: Float[Array, "D d"]  # orthonormal columns
    variances: Float[Array, " d"]
    rest: Float[Array, ""]  # the mean variance along each of the other D - d axes


def principal_components(cov: Float[Array, "D D"], d: int) -> Components:
    """The first d of them. The largest entry of each axis is positive.

    Raises ValueError unless 0 < d < D: `rest` is the mean of what d leaves over.
    """
    dims = len(cov)
    if not 0 < d < dims:
        raise ValueError(f"d must lie in 1 ... {dims - 1}, below D={dims}, not {d}")
    values, vectors = jnp.linalg.eigh(cov)
    values, axes = values[::-1], vectors[:, ::-1][:, :d]
    largest = jnp.argmax(jnp.abs(axes), axis=0)
    signs = jnp.sign(axes[largest, jnp.arange(d)])
    return Components(axes * signs[None, :], values[:d], jnp.mean(values[d:]))


def fit(mean: Float[Array, " D"], cov: Float[Array, "D D"], d: int) -> PPCA:
    """The maximum likelihood (4) for data of this mean and covariance (ddof 0).

    sigma2 is no less than what rounding leaves of zero eigenvalues, so that a singular
    covariance has a density. Raises ValueError unless 0 < d < D.
    """
    axes, variances, rest = principal_components(cov, d)
    sigma2 = jnp.maximum(rest, jnp.finfo(cov.dtype).eps * variances[0])
    weight = axes * jnp.sqrt(jnp.maximum(variances - sigma2, 0.0))[None, :]
    return PPCA(mean, weight, sigma2)


def posterior(
    ppca: PPCA, x: Float[Array, "b D"]
) -> tuple[Float[Array, "b d"], Float[Array, "d d"]]:
    """Means and the common covariance of z given each x: (3)."""
    identity = jnp.eye(ppca.weight.shape[1])
    factor = cho_factor(_m(ppca))
    mean = cho_solve(factor, _matmul(ppca.weight.T, (x - ppca.mean[None, :]).T)).T
    return mean, ppca.sigma2 * cho_solve(factor, identity)


def log_density(ppca: PPCA, x: Float[Array, "b D"]) -> Float[Array, " b"]:
    """The log density of (2) in nats, exact: by (5) and (6)."""
    dims, d = ppca.weight.shape
    z, _ = posterior(ppca, x)
    left = x - ppca.mean[None, :] - _matmul(z, ppca.weight.T)
    distance = jnp.sum(left**2, axis=1) / ppca.sigma2 + jnp.sum(z**2, axis=1)
    log_det = (dims - d) * jnp.log(ppca.sigma2) + jnp.linalg.slogdet(_m(ppca))[1]
    return -0.5 * (distance + log_det + dims * math.log(2 * math.pi))


def expected_log_density(
    ppca: PPCA, x: Float[Array, "b D"], noise_variance: float
) -> Float[Array, " b"]:
    """E[log N(x + noise; mean, C)] in nats, without a draw.

    noise: of mean 0 and this variance, independent from dimension to dimension. It
    costs tr C^-1 noise_variance / 2 nats, with (7).
    """
    dims, d = ppca.weight.shape
    trace = (dims - d) / ppca.sigma2 + jnp.trace(jnp.linalg.inv(_m(ppca)))
    return log_density(ppca, x) - 0.5 * noise_variance * trace


def mean_log_density(
    ppca: PPCA, mean: Float[Array, " D"], cov: Float[Array, "D D"]
) -> Float[Array, ""]:
    """The mean of `log_density` over rows of this mean and covariance (ddof 0), exact.

    It is quadratic in x, so it takes no more of the rows than these moments: it is that
    of their mean, less tr(C^-1 cov) / 2, with C^-1 = (I - W M^-1 W^T) / sigma2.
    """
    projected = _matmul(ppca.weight.T, _matmul(cov, ppca.weight))
    explained = jnp.trace(cho_solve(cho_factor(_m(ppca)), projected))
    spread = (jnp.trace(cov) - explained) / ppca.sigma2
    return log_density(ppca, mean[None, :])[0] - 0.5 * spread


def _m(ppca: PPCA) -> Float[Array, "d d"]:
    """M of (3)."""
    d = ppca.weight.shape[1]
    return _matmul(ppca.weight.T, ppca.weight) + ppca.sigma2 * jnp.eye(d)
