"""Frames of a diffusion model: data become noise, and noise becomes data.

Frames are examples like batch["image"]. Where a path lets the noise grow, x_t is
divided by the standard deviation that data of variance 1 have there (`unit_scale`).
"""

import dataclasses
import math

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


@dataclasses.dataclass(frozen=True)
class Process:
    """From data to noise, and the learned return. Pure functions of a state.

    Frame f of F lies at times(state)[f]. `forward` and `reverse` are those of the
    model's sampler; the flow of `invert` and `velocity` is without guidance.
    """

    model: DiffusionModel

    def times(self, state: TrainState) -> Float[np.ndarray, " f"]:
        """The sampler's times, falling from 1 (noise) to 0 (data)."""
        return np.asarray(self.model.times(self._path(state)), np.float32)

    def forward(self, state: TrainState, batch: Batch, key: Key) -> Array:
        """(F, B, *shape): the examples, noised with the noise of `reverse`."""
        x0 = self.model.scale.to_model(batch["image"])
        path, t = self._path(state), self.times(state)
        # the steps that follow the noise are dead code, which is not run
        noise = self.model.solve(state, key, len(x0), along=True).x[0]
        eps = noise / unit_scale(path, jnp.asarray(t[0]))
        x = jax.vmap(lambda t: path.diffuse(x0, eps, t))(jnp.asarray(t))
        return self._frames(x, t, path)

    def reverse(
        self, state: TrainState, key: Key, num: int, label: Array | None = None
    ) -> Array:
        """(F, num, *shape); the last are what `sample` gives."""
        x = self.model.solve(state, key, num, label, along=True).x
        return self._frames(x, self.times(state), self._path(state))

    def invert(self, state: TrainState, batch: Batch, key: Key) -> tuple[Array, Array]:
        """(F, B, *shape), twice: up the probability flow to noise, and down again.

        In finer steps than the sampler's. The last frame of the first is the data, and
        of the second their reconstruction. The network is given the examples' labels.
        Images get as much noise as the path has at INVERSION_END before: a blank pixel
        is the same in all images, so with no noise at all it would lead to the very
        middle of the noise, which no sample begins with.
        """
        label = labels.of_batch(batch, self.model.num_classes)
        denoise = self.model.denoise(state.averaged[0], label)
        x, path = self.model.scale.to_model(batch["image"]), self._path(state)
        t = self.times(state)
        grid, stride = inversion_times(t, max(self.model.end, INVERSION_END))
        if self.model.scale.is_image:
            x = path.diffuse(x, jax.random.normal(key, x.shape), jnp.asarray(grid[-1]))
        up = ode.invert(denoise, x, grid, path=path, along=True)[::-1]
        down = ode.heun(denoise, up[0], grid, path=path, along=True)
        up, down = (self._frames(x[::stride], t, path) for x in (up, down))
        return up.at[-1].set(batch["image"]), down

    def velocity(self, state: TrainState, x: Array, t: Array) -> Array:
        """dx/dt of points as in a frame, (B, dim), at t, given no label."""
        num_classes = self.model.num_classes
        null = jnp.full(len(x), num_classes) if num_classes else None
        denoise = self.model.denoise(state.averaged[0], null)
        path, scale = self._path(state), self.model.scale
        unit, slope = jax.jvp(lambda t: unit_scale(path, t), (t,), (jnp.ones_like(t),))
        xt = unit * scale.to_model(x)
        dx_dt = ode.velocity(denoise, path)(xt, t)
        return scale.to_data(dx_dt / unit - xt * (slope / jnp.square(unit)))

    def _path(self, state: TrainState) -> GaussianPath:
        return self.model.path(state.averaged[0])

    def _frames(
        self, x: Array, t: Float[np.ndarray, " f"], path: GaussianPath
    ) -> Array:
        unit = jax.vmap(lambda t: unit_scale(path, t))(jnp.asarray(t))
        unit = unit.at[-1].set(1.0)  # samples are as `sample` gives them
        return self.model.scale.to_data(x / per_example(unit, x))


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
