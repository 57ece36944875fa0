"""EDM's preconditioning (Karras et al. 2022, arXiv:2206.00364, eq. 7 and table 1).

  (1) D(x; sigma) = c_skip x + c_out F(c_in x, c_noise)
  (2) c_skip = sigma_data^2 / s^2,    c_out = sigma sigma_data / s,
      c_in = 1 / s,    c_noise = log(sigma) / 4

with s^2 = sigma^2 + sigma_data^2, for x = x0 + sigma eps and data of the standard
deviation sigma_data. F then sees unit variance, and its target (x0 - c_skip x) / c_out
has unit variance.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from genjax.axes import per_example
from genjax.diffusion import weighting
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.fields import Positive
from genjax.typing import Array, Net


class Preconditioning(NamedTuple):
    """The coefficients of (2), each of the shape of sigma; `scale` is c_in."""

    skip: Array
    out: Array
    scale: Array
    noise: Array


def precondition(sigma: Float[Array, "*s"], sigma_data: float) -> Preconditioning:
    """(2), for sigma > 0."""
    total = jnp.sqrt(jnp.square(sigma) + sigma_data**2)
    return Preconditioning(
        skip=sigma_data**2 / jnp.square(total),
        out=sigma * sigma_data / total,
        scale=1.0 / total,
        noise=jnp.log(sigma) / 4.0,
    )


def preconditioned(net: Net, path: GaussianPath, sigma_data: float) -> Denoise:
    """denoise(x, t) by (1), from net(c_in x, c_noise) -> F; t a scalar or (B,)."""

    def denoise(x: Array, t: Array) -> Array:
        c = precondition(jnp.broadcast_to(path.sigma(t), x.shape[:1]), sigma_data)
        f = net(per_example(c.scale, x) * x, c.noise)
        return per_example(c.skip, x) * x + per_example(c.out, x) * f

    return denoise


@dataclasses.dataclass(frozen=True, kw_only=True)
class ErrorWeighting:
    """config.method.weighting: (error of F, sigma) -> the loss of each example.

    "edm" weighs D's error by 1 / c_out^2, that is F's by 1 (eq. 8). "learned" is EDM2's
    (Karras et al. 2024, arXiv:2312.02696). The others are those of D's error by
    `weighting.weight`, and D's error is c_out times that of F.
    """

    name: Literal["edm", "learned", "min_snr", "sigmoid"] = "edm"  # learned: EDM2's
    min_snr_gamma: Positive = 5.0  # of "min_snr"
    sigmoid_bias: float = 2.0  # of "sigmoid"

    def __call__(
        self,
        error: Float[Array, " b"],
        sigma: Float[Array, " b"],
        *,
        path: GaussianPath,
        sigma_data: float,
        uncertainty: Float[Array, " k"] | None = None,
    ) -> Float[Array, " b"]:
        """uncertainty: the weights of "learned" (`weighting.initial_uncertainty`)."""
        if self.name == "edm":
            return error
        if self.name == "learned":
            assert uncertainty is not None
            u = weighting.uncertainty(uncertainty, -2.0 * jnp.log(sigma))
            return weighting.uncertain(error, u)
        factor = weighting.weight(
            self.name,
            sigma / path.sigma(jnp.ones(())),
            path=path,
            prediction="x0",
            min_snr_gamma=self.min_snr_gamma,
            sigmoid_bias=self.sigmoid_bias,
        )
        return factor * jnp.square(precondition(sigma, sigma_data).out) * error
