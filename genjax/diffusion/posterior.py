"""One step back: the Gaussian q(x_s | x_t, x_0) for s < t, and DDPM's two variances.

With the step's own factor and noise (DDPM's sqrt(1 - beta) and beta when s is one
timestep before t)

  (1) alpha_ts = alpha_t / alpha_s,    beta_ts = sigma_t^2 - alpha_ts^2 sigma_s^2

Bayes' rule gives (Ho et al. 2020, arXiv:2006.11239, eqs. 6-7; Kingma et al. 2021,
arXiv:2107.00630, appendix A, for any path)

  (2) mean = (alpha_ts sigma_s^2 / sigma_t^2) x_t + (alpha_s beta_ts / sigma_t^2) x_0
  (3) variance = beta_ts sigma_s^2 / sigma_t^2.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from genjax.diffusion.paths import GaussianPath
from genjax.typing import Array

Variance = Literal["fixed_small", "fixed_large"]


class Posterior(NamedTuple):
    """Coefficients and variances of (1)-(3), each of the shape of t."""

    from_xt: Array
    from_x0: Array
    small: Array  # (3): right if the data were one point
    large: Array  # beta_ts of (1): right if the data were N(0, I)


def posterior(
    path: GaussianPath, t: Float[Array, "*s"], s: Float[Array, "*s"]
) -> Posterior:
    """q(x_s | x_t, x_0) for times 0 <= s < t <= 1. At s = 0 it is x_0 exactly."""
    variance_t, variance_s = jnp.square(path.sigma(t)), jnp.square(path.sigma(s))
    alpha_s = path.alpha(s)
    alpha_ts = path.alpha(t) / alpha_s
    beta_ts = variance_t - jnp.square(alpha_ts) * variance_s
    return Posterior(
        from_xt=alpha_ts * variance_s / variance_t,
        from_x0=alpha_s * beta_ts / variance_t,
        small=beta_ts * variance_s / variance_t,
        large=beta_ts,
    )


def model_variance(posterior: Posterior, variance: Variance) -> Array:
    """DDPM's choice for p(x_s | x_t), of the shape of t (section 3.2 there)."""
    match variance:
        case "fixed_small":
            return posterior.small
        case "fixed_large":
            return posterior.large
    raise ValueError(f"unknown variance {variance!r}; one of fixed_small, fixed_large")
