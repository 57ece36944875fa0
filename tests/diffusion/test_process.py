"""The two ways of a process, on Gaussian data whose flow is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import ode, times
from genjax.diffusion.process import INVERSION_STEPS, inversion_times, make_process
from tests.diffusion import gaussian
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(5)
UNIT = 2.0  # of the data's axes


def gaussian_process(name, num_steps=20):
    """Points of `gaussian`, twice as large as the model sees them."""
    path = PATHS[name]
    denoise = gaussian.exact_denoiser(path)
    end = 1e-5 if name == "edm" else 1e-3
    some = times.spaced("karras", num_steps, path=path, end=end)

    def solve(state, key, num, label, along=False):
        noise = path.sigma(jnp.ones(())) * jax.random.normal(key, (num, 2))
        return ode.heun(denoise, noise, some, path=path, along=along)

    process = make_process(
        solve=solve,
        denoiser=lambda state, label: denoise,
        path=lambda state: path,
        times=some,
        to_model=lambda data: data / UNIT,
        to_data=lambda x: x * UNIT,
        is_image=False,
        end=end,
    )
    return process, solve


def data(num=50):
    z = jax.random.normal(jax.random.key(9), (num, 2))
    return {"image": UNIT * (gaussian.MEAN + gaussian.STD * z)}


@pytest.mark.parametrize("name", ["vp", "edm", "rectified_flow"])
def test_the_ways_meet_in_noise_and_end_in_data(name):
    process, solve = gaussian_process(name)
    batch = data()
    forward = jax.jit(process.forward)(None, batch, KEY)
    reverse = jax.jit(process.reverse, static_argnums=2)(None, KEY, 50)
    assert forward.shape == reverse.shape == (len(process.times), 50, 2)
    assert process.times[0] == 1.0 and process.times[-1] == 0.0
    np.testing.assert_allclose(forward[-1], batch["image"], rtol=1e-6)
    sample = jax.jit(solve, static_argnums=2)(None, KEY, 50, None)
    np.testing.assert_array_equal(reverse[-1], UNIT * sample)
    # one noise, but for what is left of the data: alpha / sigma is 1 / 80 on EDM's path
    left = np.abs(batch["image"]).max() / 80.0 + 1e-3
    np.testing.assert_allclose(forward[0], reverse[0], atol=left)
    np.testing.assert_allclose(reverse[0].std(0), UNIT, rtol=0.3)


@pytest.mark.parametrize("name", ["vp", "edm", "rectified_flow"])
def test_the_inversion_is_the_exact_flow_and_returns(name):
    process, _ = gaussian_process(name, num_steps=8)
    batch = data()
    up, down = jax.jit(process.invert)(None, batch, KEY)
    assert up.shape == down.shape == (len(process.times), 50, 2)
    np.testing.assert_allclose(up[-1], batch["image"], rtol=1e-6)
    np.testing.assert_array_equal(up[0], down[0])
    np.testing.assert_allclose(down[-1], up[-1], atol=0.02)
    # the flow of a Gaussian keeps (x - mean_t) / std_t
    path, one = PATHS[name], jnp.ones((1, 1))
    z = (batch["image"] / UNIT - gaussian.MEAN) / gaussian.STD
    mean, std = gaussian.marginal(path, one)
    shown = (mean + std * z) / max(1.0, float(path.sigma(one)[0, 0]))
    np.testing.assert_allclose(up[0], UNIT * shown, atol=0.05)


@pytest.mark.parametrize("name", ["vp", "edm", "rectified_flow"])
@pytest.mark.parametrize("t", [0.01, 0.3, 1.0])
def test_velocity_is_the_derivative_of_what_is_shown(name, t):
    """Of the exact flow through each point, by a central difference in float64."""
    process, _ = gaussian_process(name)
    path, z = PATHS[name], data(20)["image"]
    with jax.enable_x64(True):

        def shown(t):
            t = jnp.asarray(t, jnp.float64)
            mean, std = gaussian.marginal(path, t)
            scale = jnp.sqrt(path.alpha(t) ** 2 + path.sigma(t) ** 2)
            return UNIT * (mean + std * z) / jnp.where(scale > 1.001, scale, 1.0)

        step = 1e-6
        want = (shown(t + step) - shown(t - step)) / (2 * step)
        got = process.velocity(None, shown(t), jnp.asarray(t, jnp.float64))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


def test_the_times_of_inversion():
    grid, stride = inversion_times(np.array([1.0, 0.5, 0.1, 0.0], np.float32), 1e-3)
    assert len(grid) == 3 * stride + 1 and 3 * stride >= INVERSION_STEPS
    np.testing.assert_allclose(grid[::stride], [1.0, 0.5, 0.1, 1e-3], rtol=1e-5)
    assert (np.diff(grid) < 0).all()
    grid, stride = inversion_times(np.array([1.0, 1e-4, 0.0], np.float32), 1e-3)
    np.testing.assert_allclose(grid[-stride:], 1e-4, rtol=1e-6)  # nothing below
