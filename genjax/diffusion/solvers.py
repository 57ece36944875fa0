"""Every solver by its name, for a config to choose from: SOLVERS.

A solver leads x at times[0] to times[-1] by evaluations of a denoiser, and says how
many those were.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.diffusion import multistep, ode, stochastic
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.posterior import DenoiseAndSpread, mean_of
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


class Solution(NamedTuple):
    """The x at times[-1] or, with along, at all the times; evaluations of denoise."""

    x: States
    evaluations: int | Array  # an array where they are known only when it has run


class Solver(NamedTuple):
    """A function from noise to data, its options and its cost.

    run: (denoise, x, times, *, path, key, along, **options) -> x. Only "ancestral" has
        a use for the v of a denoiser of (x0, v); the others are given x0 alone.
    options: those fields of `genjax.diffusion.sampler.Sampler` that it takes.
    evaluations: (num_steps, options) -> evaluations of num_steps steps to t = 0.
        None: `run` gives (x, evaluations).
    """

    run: Callable[..., Any]
    options: tuple[str, ...] = ()
    evaluations: Callable[[int, Mapping[str, Any]], int] | None = lambda n, options: n


def solve(
    name: Name,
    denoise: Denoise | DenoiseAndSpread,
    x: Float[Array, " b *d"],
    times: Float[Array | np.ndarray, " n"],
    *,
    path: GaussianPath,
    key: Key,
    end: float = 1e-3,
    along: bool = False,
    **options: Any,
) -> Solution:
    """The x at times[-1], from x at times[0], by the solver called `name`.

    end: "adaptive" takes of the times only the first, and denoises at end.
    along: the x at all the times, (n, B, ...). adaptive does not stop there: ddim
        runs instead, which follows the same flow.
    options: those of the solver. Raises TypeError for others.
    """
    if name == "adaptive" and along:
        name, options = "ddim", {}
    solver = SOLVERS[name]
    if name == "adaptive":
        options["end"] = end
    if name != "ancestral":
        denoise = mean_of(denoise)
    run = solver.run(denoise, x, times, path=path, key=key, along=along, **options)
    if solver.evaluations is None:
        return Solution(*run)
    return Solution(run, solver.evaluations(len(times) - 1, options))


# --- the table ------------------------------------------------------------------------


def _without_key(run: Callable[..., States], **fixed: Any) -> Callable[..., States]:
    """A solver that draws no noise."""

    def deterministic(denoise, x, times, *, path, key, along) -> States:
        del key
        return run(denoise, x, times, path=path, along=along, **fixed)

    return deterministic


def _heun(
    denoise, x, times, *, churn=0.0, churn_min=0.0, churn_max=math.inf, **options
) -> States:
    between = churn_min, churn_max
    return ode.heun(denoise, x, times, churn=churn, churn_range=between, **options)


def _adaptive(
    denoise, x, times, *, path, key, along, end, tolerance=1e-4
) -> tuple[Array, Array]:
    del key, along
    start = jnp.asarray(times)[0]
    return ode.adaptive(
        denoise, x, path=path, start=start, end=end, tolerance=tolerance
    )


def _twice_but_last(num_steps: int, options: Mapping[str, Any]) -> int:
    return 2 * num_steps - 1  # the last step denoises


def _corrected(num_steps: int, options: Mapping[str, Any]) -> int:
    return num_steps + (num_steps - 1) * options.get("corrector_steps", 1)


SOLVERS: Mapping[Name, Solver] = {
    "ancestral": Solver(stochastic.ancestral, ("variance",)),
    "ddim": Solver(stochastic.ddim, ("eta",)),
    "euler": Solver(_without_key(ode.euler)),
    "midpoint": Solver(_without_key(ode.midpoint), evaluations=_twice_but_last),
    "heun": Solver(
        _heun, ("churn", "churn_min", "churn_max", "churn_noise"), _twice_but_last
    ),
    "dpmpp_2m": Solver(_without_key(multistep.dpmpp, order=2)),
    "dpmpp_3m": Solver(_without_key(multistep.dpmpp, order=3)),
    "sde_dpmpp_2m": Solver(multistep.sde_dpmpp),
    "unipc_2": Solver(_without_key(multistep.unipc, order=2)),
    "unipc_3": Solver(_without_key(multistep.unipc, order=3)),
    "predictor_corrector": Solver(
        stochastic.predictor_corrector, ("snr", "corrector_steps"), _corrected
    ),
    "adaptive": Solver(_adaptive, ("tolerance",), None),
}
