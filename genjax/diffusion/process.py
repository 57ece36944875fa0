"""What there is to see of a diffusion model: data become noise, and noise data.

Frames are examples like batch["image"]. Where a path lets the noise grow, x_t is
divided by the standard deviation that data of variance 1 have there (`unit_scale`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax import labels
from genjax.axes import per_example
from genjax.diffusion import ode
from genjax.diffusion.model import DiffusionModel
from genjax.diffusion.paths import GaussianPath
from genjax.state import TrainState
from genjax.typing import Array, Batch, Key

INVERSION_STEPS = 100  # at least, in each direction
INVERSION_END = 1e-3  # time of the data in `invert`, if the network knows it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """From data to noise, and the learned return. Pure functions of a state.

    Frame f of F lies at times(state)[f].
    """

    times: Callable[[TrainState], Float[np.ndarray, " f"]]
    """The sampler's, from 1, the noise, falling to 0, the data."""

    forward: Callable[[TrainState, Batch, Key], Array]
    """(state, batch, key) -> (F, B, *shape): noised with the noise of `reverse`."""

    reverse: Callable[..., Array]
    """(state, key, num, label=None) -> (F, num, *shape); the last are sample's."""

    invert: Callable[[TrainState, Batch, Key], tuple[Array, Array]]
    """(state, batch, key) -> (F, B, *shape), twice: up the probability flow to noise,
    and down again from there, in finer steps than the sampler's. The last frame of the
    first is the data, and of the second their reconstruction."""

    velocity: Callable[[TrainState, Array, Array], Array] | None = None
    """(state, points as in a frame (B, dim), t) -> dx/dt of them; None for images."""


def make_process(model: DiffusionModel) -> Process:
    """The process of a model.

    `forward` and `reverse` are those of its sampler. The flow of `invert` and
    `velocity` is without guidance; `invert` gives the network the examples' own labels,
    `velocity` none. Images get as much noise as the path has at INVERSION_END before
    they are inverted.
    """
    scale = model.scale

    def times(state: TrainState) -> Float[np.ndarray, " f"]:
        return np.asarray(model.times(_path(model, state)), np.float32)

    def frames(x: Array, state: TrainState) -> Array:
        path = _path(model, state)
        unit = jax.vmap(lambda t: unit_scale(path, t))(jnp.asarray(times(state)))
        unit = unit.at[-1].set(1.0)  # samples are as `sample` gives them
        return scale.to_data(x / per_example(unit, x))

    def forward(state: TrainState, batch: Batch, key: Key) -> Array:
        x0, path, t = scale.to_model(batch["image"]), _path(model, state), times(state)
        # the steps that follow the noise are dead code, which is not run
        noise = model.solve(state, key, len(x0), along=True).x[0]
        eps = noise / unit_scale(path, jnp.asarray(t[0]))
        x = jax.vmap(lambda t: path.diffuse(x0, eps, t))(jnp.asarray(t))
        return frames(x, state)

    def reverse(
        state: TrainState, key: Key, num: int, label: Array | None = None
    ) -> Array:
        return frames(model.solve(state, key, num, label, along=True).x, state)

    def invert(state: TrainState, batch: Batch, key: Key) -> tuple[Array, Array]:
        label = labels.of_batch(batch, model.num_classes)
        denoise = model.denoise(state.averaged[0], label)
        x, path = scale.to_model(batch["image"]), _path(model, state)
        grid, stride = inversion_times(times(state), max(model.end, INVERSION_END))
        if scale.is_image:
            # A blank pixel is the same in all images: with no noise at all it would
            # lead to the very middle of the noise, which no sample begins with.
            x = path.diffuse(x, jax.random.normal(key, x.shape), jnp.asarray(grid[-1]))
        up = ode.invert(denoise, x, grid, path=path, along=True)[::-1]
        down = ode.heun(denoise, up[0], grid, path=path, along=True)
        up, down = (frames(x[::stride], state) for x in (up, down))
        return up.at[-1].set(batch["image"]), down

    return Process(
        times=times,
        forward=forward,
        reverse=reverse,
        invert=invert,
        velocity=None if scale.is_image else functools.partial(_velocity, model),
    )


def _velocity(model: DiffusionModel, state: TrainState, x: Array, t: Array) -> Array:
    null = jnp.full(len(x), model.num_classes) if model.num_classes else None
    denoise, path = model.denoise(state.averaged[0], null), _path(model, state)
    unit, slope = jax.jvp(lambda t: unit_scale(path, t), (t,), (jnp.ones_like(t),))
    xt = unit * model.scale.to_model(x)
    dx_dt = ode.velocity(denoise, path)(xt, t)
    return model.scale.to_data(dx_dt / unit - xt * (slope / jnp.square(unit)))


def _path(model: DiffusionModel, state: TrainState) -> GaussianPath:
    return model.path(state.averaged[0])


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


def unit_scale(path: GaussianPath, t: Array) -> Array:
    """The standard deviation of x_t for data of variance 1, where it is above 1."""
    deviation = jnp.sqrt(jnp.square(path.alpha(t)) + jnp.square(path.sigma(t)))
    return jnp.where(deviation > 1.001, deviation, 1.0)  # rounding must not show
