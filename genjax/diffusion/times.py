"""Times at which a sampler stops: falling from noise to 0, which is the data.

`uniform` and `quadratic` lie on the grid i / num_timesteps on which a discrete-time
network was trained, as DDPM's and DDIM's do. `spaced` gives any spacing for any path:
times from 1 to `end`, near the data, and then 0.
"""

from typing import Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from genjax.diffusion.paths import GaussianPath
from genjax.typing import Array

ArrayT = TypeVar("ArrayT", Array, np.ndarray)

Spacing = Literal["uniform", "linear", "quadratic", "karras", "logsnr"]
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
# log-SNR to count from where that at t = 1 is -infinite: sigma / alpha = 80, EDM's
NOISE = -2.0 * float(np.log(80.0))


def spaced(
    spacing: Spacing,
    num_steps: int,
    *,
    path: GaussianPath,
    end: float = 1e-3,
    num_timesteps: int | None = None,
    rho: float = 7.0,
) -> np.ndarray:
    """num_steps + 1 falling times: 1, ..., end, 0. float32.

    uniform: equal strides in t. linear: likewise, but from 1 down to 0 itself, so that
    the last time above 0 is 1 / num_steps. quadratic: in sqrt(t).
    karras: in (sigma / alpha)^(1/rho), the grid of EDM (Karras et al. 2022,
        arXiv:2206.00364, eq. 5). logsnr: in log(alpha / sigma), that of DPM-Solver.
        Both count from sigma / alpha = 80 where alpha(1) is 0, but begin at 1 all the
        same.
    num_timesteps: the times lie on the grid i / num_timesteps, for a network that was
        trained there, end is 1 / num_timesteps, and `uniform` and `quadratic` are the
        functions of this name.
    Raises ValueError for a spacing that does not exist, num_steps < 1, end not between
    0 and 1, or more steps than timesteps.
    """
    if num_timesteps is not None:
        _check(num_steps, num_timesteps)
        if spacing in ("uniform", "linear"):
            return uniform(num_steps, num_timesteps=num_timesteps)
        if spacing == "quadratic":
            return quadratic(num_steps, num_timesteps=num_timesteps)
        end = 1.0 / num_timesteps
    if num_steps < 1 or not 0.0 < end < 1.0:
        raise ValueError(
            f"num_steps must be 1 or more and end in (0, 1), not {num_steps} and {end}"
        )
    if spacing == "linear":
        return np.linspace(1.0, 0.0, num_steps + 1).astype(np.float32)
    with jax.ensure_compile_time_eval():  # the grid is known, also within a jit
        times = _between(spacing, np.linspace(0.0, 1.0, num_steps), path, end, rho)
    times[0] = 1.0
    if num_timesteps is not None:
        # those that fall on one index are spread, between num_timesteps and 1
        i = np.arange(num_steps)
        apart = np.rint(times * num_timesteps) + i
        apart = np.clip(apart, num_steps, num_timesteps)
        index = np.maximum.accumulate(apart[::-1])[::-1] - i
        times = index / num_timesteps
    return np.append(times, 0.0).astype(np.float32)


def _between(
    spacing: Spacing, place: np.ndarray, path: GaussianPath, end: float, rho: float
) -> np.ndarray:
    """Times from 1 (place 0) to end (place 1)."""
    low, high = np.asarray(path.logsnr(jnp.array([1.0, end])), np.float64)
    low = max(low, NOISE) if np.isneginf(low) else low
    match spacing:
        case "uniform":
            return 1.0 + place * (end - 1.0)
        case "quadratic":
            return (1.0 + place * (np.sqrt(end) - 1.0)) ** 2
        case "karras":
            root = np.exp(-0.5 * np.array([low, high]) / rho)  # of sigma / alpha
            logsnr = -2.0 * rho * np.log(root[0] + place * (root[1] - root[0]))
        case "logsnr":
            logsnr = low + place * (high - low)
        case _:
            raise ValueError(
                f"unknown spacing {spacing!r}; one of {', '.join(SPACINGS)}"
            )
    return np.array(path.time(jnp.asarray(logsnr, jnp.float32)), np.float64)


def shifted(t: ArrayT, shift: float) -> ArrayT:
    """The odds t / (1 - t) times shift: t becomes shift t / (1 + (shift - 1) t).

    Esser et al. 2024 (arXiv:2403.03206, eq. 23), whose sqrt(m / n) is shift: larger
    images need more noise to hide as much.
    """
    return shift * t / (1.0 + (shift - 1.0) * t)


def uniform(num_steps: int, *, num_timesteps: int) -> np.ndarray:
    """num_steps + 1 times from 1 to 0 in equal strides, rounded to the grid. float32.

    Starts at the last timestep, unlike DDIM's code, which starts num_timesteps /
    num_steps - 1 before it ("trailing", not "leading": Lin et al. 2024,
    arXiv:2305.08891). Raises ValueError if num_steps is not in 1 ... num_timesteps.
    """
    _check(num_steps, num_timesteps)
    index = np.rint(np.linspace(num_timesteps, 0, num_steps + 1))
    return (index / num_timesteps).astype(np.float32)


def quadratic(num_steps: int, *, num_timesteps: int) -> np.ndarray:
    """num_steps + 1 times, denser near the data, as DDIM takes on CIFAR-10. float32.

    Squares of equal strides from 0 to sqrt(0.8 num_timesteps), as in the released code
    of Song et al. 2021 (arXiv:2010.02502, appendix D.2): the first time is 0.8, where
    DDPM's path is noise already (alpha^2 = 0.002). Squares that fall on one index are
    spread apart. Raises ValueError if num_steps is not in 1 ... num_timesteps.
    """
    _check(num_steps, num_timesteps)
    squares = np.linspace(0.0, np.sqrt(0.8 * num_timesteps), num_steps) ** 2
    # their index 0 ... T-1 is our 1 ... T
    index = np.maximum(squares.astype(np.int64), np.arange(num_steps)) + 1
    if num_steps == 1:
        index = np.array([num_timesteps])
    return (np.append(index[::-1], 0) / num_timesteps).astype(np.float32)


def _check(num_steps: int, num_timesteps: int) -> None:
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(
            f"num_steps must be in 1 ... {num_timesteps}, the number of timesteps, "
            f"not {num_steps}"
        )
