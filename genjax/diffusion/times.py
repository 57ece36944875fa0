"""Times at which a sampler stops: falling from noise to 0, which is the data.

All lie on the grid i / num_timesteps on which a discrete-time network was trained.
"""

import numpy as np


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
    moved apart. Raises ValueError if num_steps is not in 1 ... num_timesteps.
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
