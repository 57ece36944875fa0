"""Every sampler by its name, for a config to choose from, and what each one costs."""

from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.diffusion import multistep, ode, samplers
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.posterior import DenoiseAndSpread, Variance, mean_of
from genjax.typing import Array, Key

Name = Literal[
    "ancestral",
    "ddim",
    "euler",
    "midpoint",
    "heun",
    "dpmpp_2m",
    "dpmpp_3m",
    "sde_dpmpp_2m",
    "unipc_2",
    "unipc_3",
    "predictor_corrector",
    "adaptive",
]
NAMES: tuple[Name, ...] = get_args(Name)


def sample_with(
    name: Name,
    denoise: Denoise | DenoiseAndSpread,
    x: Float[Array, " b *d"],
    times: Float[Array | np.ndarray, " n"],
    *,
    path: GaussianPath,
    key: Key,
    eta: float = 0.0,
    variance: Variance = "fixed_large",
    churn: float = 0.0,
    snr: float = 0.16,
    corrector_steps: int = 1,
    tolerance: float = 1e-4,
    end: float = 1e-3,
) -> Float[Array, " b *d"]:
    """The x at times[-1], from x at times[0], by the sampler called `name`.

    Each takes of the options those that it knows: eta ddim; variance ancestral; churn
    heun; snr and corrector_steps predictor_corrector; tolerance and end adaptive, which
    of the times takes only the first, and denoises at end. Only ancestral has a use
    for the v of a denoiser of (x0, v).
    """
    if name == "ancestral":
        return samplers.ancestral(
            denoise, x, times, path=path, key=key, variance=variance
        )
    denoise = mean_of(denoise)
    match name:
        case "ddim":
            return samplers.ddim(denoise, x, times, path=path, key=key, eta=eta)
        case "euler":
            return ode.euler(denoise, x, times, path=path)
        case "midpoint":
            return ode.midpoint(denoise, x, times, path=path)
        case "heun":
            return ode.heun(denoise, x, times, path=path, key=key, churn=churn)
        case "dpmpp_2m":
            return multistep.dpmpp(denoise, x, times, path=path, order=2)
        case "dpmpp_3m":
            return multistep.dpmpp(denoise, x, times, path=path, order=3)
        case "sde_dpmpp_2m":
            return multistep.sde_dpmpp(denoise, x, times, path=path, key=key)
        case "unipc_2":
            return multistep.unipc(denoise, x, times, path=path, order=2)
        case "unipc_3":
            return multistep.unipc(denoise, x, times, path=path, order=3)
        case "predictor_corrector":
            return samplers.predictor_corrector(
                denoise,
                x,
                times,
                path=path,
                key=key,
                snr=snr,
                corrector_steps=corrector_steps,
            )
        case "adaptive":
            start = jnp.asarray(times)[0]
            return ode.adaptive(
                denoise, x, path=path, start=start, end=end, tolerance=tolerance
            )[0]
    raise ValueError(f"unknown sampler {name!r}; one of {', '.join(NAMES)}")


def evaluations(name: Name, num_steps: int, *, corrector_steps: int = 1) -> int | None:
    """How often `sample_with` evaluates denoise in num_steps steps that end at t = 0.

    None for adaptive, which finds out when it runs; `ode.adaptive` returns the number.
    """
    match name:
        case "midpoint" | "heun":  # the last step denoises
            return 2 * num_steps - 1
        case "predictor_corrector":
            return num_steps + (num_steps - 1) * corrector_steps
        case "adaptive":
            return None
        case _:
            return num_steps
