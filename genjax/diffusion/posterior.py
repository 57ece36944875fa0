"""One step back: the Gaussian q(x_s | x_t, x_0) for s < t, and a model's variances.

With the step's own factor and noise (DDPM's sqrt(1 - beta) and beta when s is one
timestep before t)

  (1) alpha_ts = alpha_t / alpha_s,    beta_ts = sigma_t^2 - alpha_ts^2 sigma_s^2

Bayes' rule gives (Ho et al. 2020, arXiv:2006.11239, eqs. 6-7; Kingma et al. 2021,
arXiv:2107.00630, appendix A, for any path)

  (2) mean = (alpha_ts sigma_s^2 / sigma_t^2) x_t + (alpha_s beta_ts / sigma_t^2) x_0
  (3) variance = beta_ts sigma_s^2 / sigma_t^2.

The model's p(x_s | x_t) has the mean (2) with an estimate of x_0, and the variance (3),
or beta_ts, or what a network learned: between the two in logarithms,

  (4) variance = exp(v log beta_ts + (1 - v) log(beta_ts sigma_s^2 / sigma_t^2))

for v, of each dimension, from the network that gives x_0 (Nichol & Dhariwal 2021,
arXiv:2102.09672, eq. 15). v means the same between any two times, so respaced chains
use it as it is.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.typing import Array

Variance = Literal["fixed_small", "fixed_large", "learned"]

DenoiseAndSpread = Callable[[Array, Array], tuple[Array, Array | None]]
"""(x_t, t) -> (E[x0 | x_t], v of (4)), both of x_t's shape, from one evaluation.

None for v: no variance was learned.
"""


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


def model_variance(
    posterior: Posterior, variance: Variance, v: Array | None = None
) -> Array:
    """The variance of p(x_s | x_t): one of DDPM's two (section 3.2 there), or (4).

    v: for "learned", of a shape to which the posterior's broadcasts. 0 is fixed_small,
    1 fixed_large; the paper sets no limits to v, and neither does this.
    Raises ValueError for a variance that does not exist, or learned without v.
    """
    match variance:
        case "fixed_small":
            return posterior.small
        case "fixed_large":
            return posterior.large
        case "learned":
            if v is None:
                raise ValueError(
                    "the variance 'learned' needs a denoiser that gives (x0, v), not "
                    "x0 alone; or choose fixed_small or fixed_large"
                )
            return between(posterior.small, posterior.large, v)
    raise ValueError(
        f"unknown variance {variance!r}; one of fixed_small, fixed_large, learned"
    )


def between(small: Array, large: Array, v: Array) -> Array:
    """(4): from small, where v = 0, to large, where v = 1. 0 where small is 0."""
    ratio = large / jnp.where(small > 0.0, small, large)
    return small * ratio**v


def estimate(
    denoise: Denoise | DenoiseAndSpread, x: Array, t: Array
) -> tuple[Array, Array | None]:
    """(x0, v), whichever kind the denoiser is."""
    value = denoise(x, t)
    return value if isinstance(value, tuple) else (value, None)


def mean_of(denoise: Denoise | DenoiseAndSpread) -> Denoise:
    """`denoise` without its v, if it gives one."""
    return lambda x, t: estimate(denoise, x, t)[0]


def with_spread(
    denoise: DenoiseAndSpread, wrap: Callable[[Denoise], Denoise]
) -> DenoiseAndSpread:
    """`denoise` with a wrapper of denoisers (guidance, clipping) round its x0; v stays.

    wrap: must evaluate what it wraps where it is evaluated itself.
    """

    def wrapped(x: Array, t: Array) -> tuple[Array, Array | None]:
        x0, v = denoise(x, t)
        return wrap(lambda *_: x0)(x, t), v

    return wrapped
