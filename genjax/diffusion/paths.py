"""Gaussian paths from data (t = 0) to noise (t = 1).

  (1) x_t = alpha(t) x_0 + sigma(t) eps,    eps ~ N(0, I),    t in [0, 1].

Everything else about a forward process follows from alpha and sigma. A path says
nothing about how a network is trained or sampled.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.axes import per_example
from genjax.typing import Array

Schedule = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class GaussianPath:
    """Equation (1). alpha falls from alpha(0) = 1, sigma rises from sigma(0) = 0.

    Both take t of any shape and must be differentiable in it.

    inverse: the t of a log-SNR, in closed form; None where there is none. It may leave
        [0, 1] where no t has that log-SNR.
    steps_in_sigma: `ode.euler`, `midpoint` and `heun` step in sigma instead of t. For
        alpha = 1 throughout, where dx/dsigma = eps hardly changes along a trajectory.
    """

    alpha: Schedule
    sigma: Schedule
    inverse: Schedule | None = None
    steps_in_sigma: bool = False

    def logsnr(self, t: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """log(alpha^2 / sigma^2): infinite at t = 0, falling."""
        return 2.0 * (jnp.log(self.alpha(t)) - jnp.log(self.sigma(t)))

    def time(self, logsnr: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """The t in [0, 1] that has this log-SNR, to rounding.

        1 where the log-SNR at t = 1 is larger still. Without an `inverse` by bisection.
        """
        if self.inverse is not None:
            return jnp.clip(self.inverse(logsnr), 0.0, 1.0)

        def halve(_, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds
            middle = 0.5 * (low + high)
            above = self.logsnr(middle) > logsnr  # less noise than asked for
            return jnp.where(above, middle, low), jnp.where(above, high, middle)

        # relative precision near 0 takes more halvings than the digits of a float
        start = jnp.zeros_like(logsnr), jnp.ones_like(logsnr)
        return jax.lax.fori_loop(0, 80, halve, start)[1]

    def alpha_dot(self, t: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """The derivative of alpha with respect to t."""
        return jax.jvp(self.alpha, (t,), (jnp.ones_like(t),))[1]

    def sigma_dot(self, t: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """The derivative of sigma with respect to t; for VP paths infinite at t = 0."""
        return jax.jvp(self.sigma, (t,), (jnp.ones_like(t),))[1]

    def diffuse(
        self,
        x0: Float[Array, " b *d"],
        eps: Float[Array, " b *d"],
        t: Float[Array, " b"] | Float[Array, ""],
    ) -> Float[Array, " b *d"]:
        """x_t of (1); t is one time for all examples or one for each."""
        return (
            per_example(self.alpha(t), x0) * x0 + per_example(self.sigma(t), x0) * eps
        )


def ddpm_linear(
    num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> GaussianPath:
    """DDPM's path: its step i is our t = i / num_timesteps, i = 0 being the data.

    beta_i rises linearly from i = 1 to num_timesteps; alpha_bar_i is the product of
    (1 - beta), and alpha(t)^2 = alpha_bar (arXiv:2006.11239, section 2, eq. 4, and
    section 4). Between the steps log alpha_bar is linear in t.
    """
    betas = np.linspace(beta_start, beta_end, num_timesteps, dtype=np.float64)
    return discrete(np.cumprod(1.0 - betas))


def ddpm_cosine(num_timesteps: int = 1000, offset: float = 0.008) -> GaussianPath:
    """The path of improved DDPM; its step i is our t = i / num_timesteps.

    alpha_bar_i = f(i / T) / f(0), f(t) = cos^2(pi/2 (t + s) / (1 + s)), s the offset
    (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17), but no beta is more than 0.999,
    so that alpha_bar ends above 0. `cosine` is the limit without an offset.
    """
    place = np.arange(num_timesteps + 1, dtype=np.float64) / num_timesteps
    level = np.cos(0.5 * math.pi * (place + offset) / (1.0 + offset)) ** 2
    betas = np.minimum(1.0 - level[1:] / level[:-1], 0.999)
    return discrete(np.cumprod(1.0 - betas))


def discrete(alpha_bar: np.ndarray) -> GaussianPath:
    """A variance-preserving path through alpha(i/T)^2 = alpha_bar[i-1], i = 1 ... T.

    Raises ValueError unless 1 > alpha_bar[0] > alpha_bar[1] > ... > 0.
    """
    levels = np.concatenate([[1.0], alpha_bar])
    if levels[-1] <= 0 or np.any(np.diff(levels) >= 0):
        raise ValueError("alpha_bar must fall strictly, between 1 and 0, both excluded")
    num_timesteps = len(alpha_bar)
    table = np.log(levels).astype(np.float32)  # (T + 1,)

    def log_alpha_bar(t: Array) -> Array:
        place = t * num_timesteps
        low = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, num_timesteps - 1)
        left, right = jnp.asarray(table)[low], jnp.asarray(table)[low + 1]
        return left + (place - low) * (right - left)

    return GaussianPath(
        alpha=lambda t: jnp.exp(0.5 * log_alpha_bar(t)),
        # expm1: 1 - alpha_bar would lose half the digits near the data
        sigma=lambda t: jnp.sqrt(-jnp.expm1(log_alpha_bar(t))),
        inverse=lambda logsnr: jnp.interp(
            jax.nn.softplus(-logsnr),  # -log alpha_bar
            jnp.asarray(-table),
            jnp.arange(num_timesteps + 1) / num_timesteps,
        ),
    )


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> GaussianPath:
    """The variance-preserving SDE (Song et al. 2021, arXiv:2011.13456, eq. 33).

    The limit of DDPM's path: log alpha^2 = -beta_min t - (beta_max - beta_min) t^2 / 2.
    """

    def log_alpha_bar(t: Array) -> Array:
        return -(beta_min * t + 0.5 * (beta_max - beta_min) * jnp.square(t))

    return GaussianPath(
        alpha=lambda t: jnp.exp(0.5 * log_alpha_bar(t)),
        sigma=lambda t: jnp.sqrt(-jnp.expm1(log_alpha_bar(t))),
        inverse=lambda logsnr: _vp_time(jax.nn.softplus(-logsnr), beta_min, beta_max),
    )


def _vp_time(decay: Array, beta_min: float, beta_max: float) -> Array:
    """The t at which -log alpha^2 of `vp` is `decay`; 1 where it is larger still."""
    growth = beta_max - beta_min
    decay = jnp.minimum(decay, beta_min + 0.5 * growth)  # infinite at pure noise
    # the root of the quadratic in the form that keeps its digits near 0
    root = jnp.sqrt(beta_min**2 + 2.0 * growth * decay)
    return 2.0 * decay / (beta_min + root)


def subvp(beta_min: float = 0.1, beta_max: float = 20.0) -> GaussianPath:
    """The sub-VP SDE (Song et al. 2021, arXiv:2011.13456, eq. 29): sigma = 1 - alpha^2.

    alpha is that of `vp`; the variance is that of `vp` squared, so never larger.
    """
    alpha_bar = vp(beta_min, beta_max)

    def inverse(logsnr: Array) -> Array:
        # snr sigma^2 + sigma - 1 = 0, as alpha^2 = 1 - sigma; in logs, against overflow
        log_sigma = math.log(2.0) - jax.nn.softplus(
            0.5 * jax.nn.softplus(logsnr + math.log(4.0))
        )
        # -log alpha^2 = -log(1 - sigma), and near the noise -log(snr sigma^2)
        decay = jnp.where(
            logsnr > 0.0,
            -jnp.log1p(-jnp.exp(log_sigma)),
            -(logsnr + 2.0 * log_sigma),
        )
        return _vp_time(decay, beta_min, beta_max)

    return GaussianPath(
        alpha=alpha_bar.alpha,
        sigma=lambda t: jnp.square(alpha_bar.sigma(t)),
        inverse=inverse,
    )


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> GaussianPath:
    """The variance-exploding SDE (Song et al. 2021, arXiv:2011.13456, eqs. 9 and 30).

    sigma(t)^2 = sigma_min^2 ((sigma_max / sigma_min)^(2t) - 1), which is the SDE's own
    variance from the data on. The paper and its code leave out the -1 and so have a
    jump of sigma_min at t = 0. Noise at t = 1 has the standard deviation sigma(1), not
    1: start samplers there. A step in t would multiply sigma, so solvers step in sigma.
    """
    growth = 2.0 * math.log(sigma_max / sigma_min)
    return GaussianPath(
        alpha=jnp.ones_like,
        sigma=lambda t: sigma_min * jnp.sqrt(jnp.expm1(growth * t)),
        inverse=lambda logsnr: jnp.log1p(jnp.exp(-logsnr) / sigma_min**2) / growth,
        steps_in_sigma=True,
    )


def edm(sigma_max: float = 80.0) -> GaussianPath:
    """EDM's path: alpha = 1, sigma = sigma_max t, so a step in t is one in sigma.

    Karras et al. 2022 (arXiv:2206.00364, eq. 4). Noise at t = 1 has the standard
    deviation sigma_max: start samplers there.
    """
    return GaussianPath(
        alpha=jnp.ones_like,
        sigma=lambda t: sigma_max * t,
        inverse=lambda logsnr: jnp.exp(-0.5 * logsnr) / sigma_max,
    )


def cosine() -> GaussianPath:
    """A quarter turn, alpha = cos(pi t / 2), sigma = sin(pi t / 2): all noise at t = 1.

    Nichol & Dhariwal 2021 (arXiv:2102.09672, eq. 17) without their offset s = 0.008, as
    Salimans & Ho 2022 (arXiv:2202.00512) use it.
    """
    return GaussianPath(
        # not cos(pi t / 2), which rounding makes negative at t = 1
        alpha=lambda t: jnp.sin(0.5 * math.pi * (1.0 - t)),
        sigma=lambda t: jnp.sin(0.5 * math.pi * t),
        inverse=lambda logsnr: jnp.arctan(jnp.exp(-0.5 * logsnr)) / (0.5 * math.pi),
    )


def rectified_flow() -> GaussianPath:
    """Straight lines, alpha = 1 - t, sigma = t: all noise at t = 1.

    Liu et al. 2023 (arXiv:2209.03003), Lipman et al. 2023 (arXiv:2210.02747); both let
    t run from noise to data, the other way round.
    """
    return GaussianPath(
        alpha=lambda t: 1.0 - t,
        sigma=lambda t: 1.0 * t,
        inverse=lambda logsnr: jax.nn.sigmoid(-0.5 * logsnr),
    )


def of_logsnr(logsnr: Schedule, inverse: Schedule | None = None) -> GaussianPath:
    """The variance-preserving path with this log-SNR, alpha^2 = sigmoid(logsnr(t)).

    Kingma et al. 2021 (arXiv:2107.00630, section 3.2), whose gamma is -logsnr. Where
    logsnr(0) is finite, sigma(0) is not quite 0.

    inverse: of logsnr; None if it is not known, say of a learned one.
    """
    return GaussianPath(
        alpha=lambda t: jnp.sqrt(jax.nn.sigmoid(logsnr(t))),
        sigma=lambda t: jnp.sqrt(jax.nn.sigmoid(-logsnr(t))),
        inverse=inverse,
    )


def linear_logsnr(high: float | Array, low: float | Array) -> GaussianPath:
    """`of_logsnr` with a log-SNR that falls linearly from high at t = 0 to low."""
    return of_logsnr(
        lambda t: high + (low - high) * t, lambda logsnr: (high - logsnr) / (high - low)
    )
