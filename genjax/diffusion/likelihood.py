"""log p of data by a model in continuous time, in one of two ways.

"ode": the density of the probability-flow ODE (`ode_likelihood`). Pixels are first
spread evenly over the width of their level (uniform dequantisation), which makes it a
bound (Theis et al. 2016, arXiv:1511.01844, section 3.1).

"bound": the variational bound of a chain that ends at some log-SNR
(`continuous.logsnr_bound`). Pixels stay what they are: a decoder tells their levels.
"""

import dataclasses
import math
from typing import Literal, cast, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.choices import one_of
from genjax.diffusion import ode_likelihood
from genjax.diffusion.continuous import logsnr_bound
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.ode_likelihood import Trace
from genjax.diffusion.paths import GaussianPath
from genjax.typing import Array, Key, UserError

METHODS = ["none", "ode", "bound"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood:
    """How log p is taken. Raises UserError for a choice that does not exist.

    method: one of METHODS.
    trace, tolerance: of "ode" (`ode_likelihood.log_likelihood`).
    draws, logsnr: of "bound" (`continuous.logsnr_bound`).
    """

    method: str
    trace: str = "hutchinson"
    tolerance: float = 1e-4
    draws: int = 16
    logsnr: float = 13.2  # 256 levels lie 5.8 standard deviations of the noise apart

    def __post_init__(self) -> None:
        one_of("eval.likelihood", self.method, METHODS)
        one_of("eval.likelihood_trace", self.trace, get_args(Trace))
        for name, value in [("tolerance", self.tolerance), ("draws", self.draws)]:
            if not value > 0:
                raise UserError(
                    f"eval.likelihood_{name} must be more than 0, not {value}"
                )

    def log_prob(
        self,
        denoise: Denoise,
        x0: Float[Array, " b *d"],
        *,
        path: GaussianPath,
        num_levels: int,
        key: Key,
        point_scale: float = 1.0,
        end: float = 1e-5,
    ) -> Float[Array, " b"]:
        """Nats of each example, log p(x); never called where the method is "none".

        x0: in [-1, 1] on num_levels values, or where num_levels is 0 points that were
            divided by point_scale: then it is the density of the points before.
        end: of "ode": the time at which x0 is taken to lie.
        """
        size = x0[0].size
        if self.method == "bound":
            bound = logsnr_bound(
                denoise,
                x0,
                path=path,
                num_levels=num_levels,
                key=key,
                draws=self.draws,
                logsnr=self.logsnr,
            )
            unit = 1.0 if num_levels else 1.0 / point_scale
            return -bound.nats + size * math.log(unit)
        pixel_key, trace_key = jax.random.split(key)
        density, _ = ode_likelihood.log_likelihood(
            denoise,
            dequantize(x0, num_levels, pixel_key) if num_levels else x0,
            path=path,
            key=trace_key,
            trace=cast(Trace, self.trace),
            tolerance=self.tolerance,
            end=end,
        )
        unit = width_of(num_levels) if num_levels else 1.0 / point_scale
        return density + size * math.log(unit)

    def kind(self, num_levels: int) -> Literal["lower_bound", "estimate"] | None:
        """The ODE's density of points is an estimate: its integral is approximate."""
        if self.method == "none":
            return None
        return "estimate" if self.method == "ode" and not num_levels else "lower_bound"

    def note(self, num_levels: int, *, labels: bool) -> str:
        """How log_prob is taken, for the protocol of a metric."""
        if self.method == "none":
            return ""
        scale = f"D log(2 / {num_levels - 1})" if num_levels else "of point_scale"
        if self.method == "ode":
            parts = [
                "probability-flow ODE, Dormand-Prince 5(4), tolerance "
                f"{self.tolerance}",
                f"{self.trace} trace"
                + (", one probe" if self.trace == "hutchinson" else ""),
            ]
            parts += ["uniform dequantisation, one draw"] if num_levels else []
            parts += [f"log-det {scale}"]
        else:
            parts = [
                f"variational bound in continuous time from log-SNR {self.logsnr}, "
                f"{self.draws} draws an example, stratified in log-SNR",
                "decoder over the levels, no dequantisation"
                if num_levels
                else f"Gaussian decoder; log-det {scale}",
            ]
        parts.append("moving average of weights")
        parts += ["given the label"] if labels else []
        return "; ".join(parts)


def width_of(num_levels: int) -> float:
    """From one level of a pixel in [-1, 1] to the next."""
    return 2.0 / (num_levels - 1)


def dequantize(
    x0: Float[Array, " b *d"], num_levels: int, key: Key
) -> Float[Array, " b *d"]:
    """Pixels in [-1, 1], each moved by at most half a level, uniformly."""
    noise = jax.random.uniform(key, x0.shape, x0.dtype, minval=-0.5, maxval=0.5)
    return x0 + jnp.asarray(width_of(num_levels), x0.dtype) * noise
