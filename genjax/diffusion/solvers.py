"""Every sampler by its name, for a config to choose from, and what each one costs."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.diffusion import multistep, ode, samplers
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.posterior import DenoiseAndSpread, Variance, mean_of
from genjax.diffusion.steps import States
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

_listener: ContextVar[Callable[[Array], None] | None] = ContextVar(
    "listener", default=None
)


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
    churn_range: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
    snr: float = 0.16,
    corrector_steps: int = 1,
    tolerance: float = 1e-4,
    end: float = 1e-3,
    along: bool = False,
) -> States:
    """The x at times[-1], from x at times[0], by the sampler called `name`.

    Each takes of the options those that it knows: eta ddim; variance ancestral; churn,
    churn_range and churn_noise heun; snr and corrector_steps predictor_corrector;
    tolerance and end adaptive, which of the times takes only the first, and denoises at
    end. Only ancestral has a use for the v of a denoiser of (x0, v).

    along: the x at all the times, (n, B, ...). adaptive does not stop there: what is
    shown is ddim instead, which follows the same flow.
    """
    if along and name == "adaptive":
        name = "ddim"
    if name == "ancestral":
        return samplers.ancestral(
            denoise, x, times, path=path, key=key, variance=variance, along=along
        )
    denoise = mean_of(denoise)
    match name:
        case "ddim":
            return samplers.ddim(
                denoise, x, times, path=path, key=key, eta=eta, along=along
            )
        case "euler":
            return ode.euler(denoise, x, times, path=path, along=along)
        case "midpoint":
            return ode.midpoint(denoise, x, times, path=path, along=along)
        case "heun":
            return ode.heun(
                denoise,
                x,
                times,
                path=path,
                key=key,
                churn=churn,
                churn_range=churn_range,
                churn_noise=churn_noise,
                along=along,
            )
        case "dpmpp_2m":
            return multistep.dpmpp(denoise, x, times, path=path, order=2, along=along)
        case "dpmpp_3m":
            return multistep.dpmpp(denoise, x, times, path=path, order=3, along=along)
        case "sde_dpmpp_2m":
            return multistep.sde_dpmpp(
                denoise, x, times, path=path, key=key, along=along
            )
        case "unipc_2":
            return multistep.unipc(denoise, x, times, path=path, order=2, along=along)
        case "unipc_3":
            return multistep.unipc(denoise, x, times, path=path, order=3, along=along)
        case "predictor_corrector":
            return samplers.predictor_corrector(
                denoise,
                x,
                times,
                path=path,
                key=key,
                snr=snr,
                corrector_steps=corrector_steps,
                along=along,
            )
        case "adaptive":
            start = jnp.asarray(times)[0]
            x, used = ode.adaptive(
                denoise, x, path=path, start=start, end=end, tolerance=tolerance
            )
            if (listener := _listener.get()) is not None:
                jax.debug.callback(listener, used)
            return x
    raise ValueError(f"unknown sampler {name!r}; one of {', '.join(NAMES)}")


def evaluations(name: Name, num_steps: int, *, corrector_steps: int = 1) -> int | None:
    """How often `sample_with` evaluates denoise in num_steps steps that end at t = 0.

    None for adaptive, which finds out when it runs; `ode.adaptive` returns the number,
    and `hear_evaluations` tells it.
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


@contextlib.contextmanager
def hear_evaluations(listener: Callable[[Array], None]) -> Iterator[None]:
    """`adaptive`, if traced within, tells listener its evaluations at each run.

    They are known only when it runs, and an experiment's sampler returns nothing but
    samples. It is told late: wait for `jax.effects_barrier`.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
