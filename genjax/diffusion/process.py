"""What there is to see of a diffusion model: its two ways, as data at every time."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.axes import per_example
from genjax.diffusion import ode
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.experiment import Process, StateT
from genjax.typing import Array, Batch, Key

INVERSION_STEPS = 100  # at least, each way


def make_process(
    *,
    solve: Callable[..., Array],
    denoiser: Callable[[StateT, Array | None], Denoise],
    path: Callable[[StateT], GaussianPath],
    times: Float[Array | np.ndarray, " f"],
    to_model: Callable[[Array], Array],
    to_data: Callable[[Array], Array],
    is_image: bool,
    num_classes: int = 0,
    end: float = 1e-3,
) -> Process[StateT]:
    """The process of a model that samples by `solve`.

    solve: (state, key, num, label, along) -> x at times[-1] as the model sees it or,
        with along, at all the times (see `solvers.sample_with`).
    denoiser: of a state and labels (B,), None for a model without classes. The flow of
        `invert` and `velocity` is its own, without guidance.
    times: of sampling, falling from 1 to 0.
    to_model, to_data: of examples; for points to_data must be linear.
    num_classes: 0 for a model without labels. `invert` gives the examples' own labels,
        `velocity` num_classes, which is to mean none.
    end: `invert` takes data to lie at this time, or at the last of the times above 0 if
        that is less. Images get as much noise as the path has there.
    """
    at = np.asarray(times, np.float32)
    grid, stride = inversion_times(at, end)

    def shown(x: Array, t: Float[Array, " f"], path: GaussianPath) -> Array:
        scale = jax.vmap(lambda t: _scale(path, t))(t)
        scale = jnp.where(t == at[-1], 1.0, scale)  # samples are what `sample` says
        return to_data(x / per_example(scale, x))

    def forward(state: StateT, batch: Batch, key: Key) -> Array:
        x0, way, t = to_model(batch["image"]), path(state), jnp.asarray(at)
        # the steps that follow the noise are dead code, which is not run
        noise = solve(state, key, len(x0), None, True)[0]
        eps = noise / _scale(way, t[0])
        x = jax.vmap(lambda t: way.diffuse(x0, eps, t))(t)
        return shown(x, t, way)

    def reverse(state: StateT, key: Key, num: int, label: Array | None = None) -> Array:
        x = solve(state, key, num, label, True)
        return shown(x, jnp.asarray(at), path(state))

    def invert(state: StateT, batch: Batch, key: Key) -> tuple[Array, Array]:
        denoise = denoiser(state, batch["label"] if num_classes else None)
        x, way, t = to_model(batch["image"]), path(state), jnp.asarray(at)
        if is_image:
            # A blank pixel is the same in all images: with no noise at all it would
            # lead to the very middle of the noise, which no sample begins with.
            x = way.diffuse(x, jax.random.normal(key, x.shape), jnp.asarray(grid[-1]))
        up = ode.invert(denoise, x, grid, path=way, along=True)[::-1]
        down = ode.heun(denoise, up[0], grid, path=way, along=True)
        up, down = (shown(x[::stride], t, way) for x in (up, down))
        return up.at[-1].set(batch["image"]), down

    def velocity(state: StateT, x: Array, t: Array) -> Array:
        null = jnp.full(len(x), num_classes) if num_classes else None
        way = path(state)
        scale, slope = jax.jvp(lambda t: _scale(way, t), (t,), (jnp.ones_like(t),))
        xt = scale * to_model(x)
        dx_dt = ode.velocity(denoiser(state, null), way)(xt, t)
        return to_data(dx_dt / scale - xt * (slope / jnp.square(scale)))

    return Process(
        times=tuple(at.tolist()),
        forward=forward,
        reverse=reverse,
        invert=invert,
        velocity=None if is_image else velocity,
    )


def inversion_times(
    times: Float[np.ndarray, " f"], end: float
) -> tuple[Float[np.ndarray, " n"], int]:
    """The times with INVERSION_STEPS or more between, and steps from one to the next.

    The last, 0, becomes `end`, or the time before it if that is less; the steps that
    lead to it shorten in proportion, since a flow may turn fast near the data.
    """
    num = len(times) - 1
    stride = math.ceil(INVERSION_STEPS / num)
    parts = [
        np.linspace(t, s, stride, endpoint=False)
        for t, s in zip(times[:-2], times[1:-1], strict=True)
    ]
    low = min(float(times[-2]), end)
    parts.append(np.geomspace(times[-2], low, stride + 1))
    return np.concatenate(parts).astype(np.float32), stride


def _scale(path: GaussianPath, t: Array) -> Array:
    """The standard deviation of x_t for data of variance 1, where it is above 1."""
    deviation = jnp.sqrt(jnp.square(path.alpha(t)) + jnp.square(path.sigma(t)))
    return jnp.where(deviation > 1.001, deviation, 1.0)  # rounding must not show
