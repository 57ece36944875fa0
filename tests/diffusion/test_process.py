"""The two directions of a process, on Gaussian data whose flow is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion.model import DiffusionModel
from genjax.diffusion.process import (
    INVERSION_END,
    INVERSION_STEPS,
    Process,
    inversion_times,
)
from genjax.diffusion.sampler import Sampler
from genjax.scale import Scale
from genjax.state import TrainState
from tests.diffusion import gaussian
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(5)
UNIT = 2.0  # of the data's axes
STATE = TrainState({}, {}, None, None, (), jnp.zeros((), jnp.int32))


def gaussian_process(name, num_steps=20, **options):
    """(process, model) of points of `gaussian`, twice as large as the model sees."""
    path = PATHS[name]
    denoise = gaussian.exact_denoiser(path)
    model = DiffusionModel(
        denoiser=lambda params, label: denoise,
        path=lambda params: path,
        scale=Scale(0, UNIT),
        shape=(2,),
        sampler=Sampler(name="heun", num_steps=num_steps, spacing="karras"),
        end=1e-5 if name == "edm" else 1e-3,
    )
    model = dataclasses.replace(model, **options)
    return Process(model), model


def data(num=50):
    z = jax.random.normal(jax.random.key(9), (num, 2))
    return {"image": UNIT * (gaussian.MEAN + gaussian.STD * z)}


@pytest.mark.parametrize("name", ["vp", "edm", "rectified_flow"])
def test_the_directions_meet_in_noise_and_end_in_data(name):
    process, model = gaussian_process(name)
    batch = data()
    forward = jax.jit(process.forward)(STATE, batch, KEY)
    reverse = jax.jit(process.reverse, static_argnums=2)(STATE, KEY, 50)
    times = process.times(STATE)
    assert forward.shape == reverse.shape == (len(times), 50, 2)
    assert times[0] == 1.0 and times[-1] == 0.0 and (np.diff(times) < 0).all()
    np.testing.assert_allclose(forward[-1], batch["image"], rtol=1e-6)
    sample = jax.jit(model.solve, static_argnums=2)(STATE, KEY, 50).x
    np.testing.assert_array_equal(reverse[-1], UNIT * sample)
    # one noise, but for what is left of the data: alpha / sigma is 1 / 80 on EDM's path
    left = np.abs(batch["image"]).max() / 80.0 + 1e-3
    np.testing.assert_allclose(forward[0], reverse[0], atol=left)
    np.testing.assert_allclose(reverse[0].std(0), UNIT, rtol=0.3)


@pytest.mark.parametrize("name", ["vp", "edm", "rectified_flow"])
def test_the_inversion_is_the_exact_flow_and_returns(name):
    process, _ = gaussian_process(name, num_steps=8)
    batch = data()
    up, down = jax.jit(process.invert)(STATE, batch, KEY)
    assert up.shape == down.shape == (9, 50, 2)
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
        got = process.velocity(STATE, shown(t), jnp.asarray(t, jnp.float64))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


def test_the_times_of_inversion():
    grid, stride = inversion_times(np.array([1.0, 0.5, 0.1, 0.0], np.float32), 1e-3)
    assert len(grid) == 3 * stride + 1 and 3 * stride >= INVERSION_STEPS
    np.testing.assert_allclose(grid[::stride], [1.0, 0.5, 0.1, 1e-3], rtol=1e-5)
    assert (np.diff(grid) < 0).all()
    grid, stride = inversion_times(np.array([1.0, 1e-4, 0.0], np.float32), 1e-3)
    np.testing.assert_allclose(grid[-stride:], 1e-4, rtol=1e-6)  # nothing below


def test_images_are_noised_from_themselves_and_have_no_velocity():
    """Pixels of 17 levels, as many bright as dark once they are noise."""
    process, model = gaussian_process(
        "vp", scale=Scale(17), shape=(8, 8, 1), denoiser=lambda p, label: lambda x, t: x
    )
    assert process.velocity is None
    pixels = jax.random.randint(KEY, (8, 8, 8, 1), 0, 17).astype(jnp.uint8)
    up = jax.jit(process.forward)(STATE, {"image": pixels}, KEY)
    np.testing.assert_array_equal(up[-1], pixels)
    assert up.dtype == jnp.uint8 and up.shape == (21, 8, 8, 8, 1)
    assert abs(float(np.mean(np.asarray(up[0]) >= 8.5)) - 0.5) < 0.1


@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_flow_gets_the_labels_that_it_says(num_classes):
    """Inversion the examples' own; the velocity none, which is num_classes."""
    seen = []

    def denoiser(params, label):
        seen.append(label)
        return gaussian.exact_denoiser(PATHS["vp"])

    process, _ = gaussian_process("vp", 2, denoiser=denoiser, num_classes=num_classes)
    batch = data(4) | {"label": jnp.array([2, 0, 1, 2])}
    process.invert(STATE, batch, KEY)
    process.velocity(STATE, batch["image"], jnp.array(0.5))
    if num_classes:
        np.testing.assert_array_equal(seen[0], batch["label"])
        np.testing.assert_array_equal(seen[1], [3, 3, 3, 3])
    else:
        assert seen == [None, None]


def test_a_learned_path_is_that_of_the_averaged_weights():
    """Its params are the log-SNR of the data: frames halfway have the noise of that."""
    from genjax.diffusion import paths

    process, _ = gaussian_process(
        "vp",
        path=lambda params: paths.of_logsnr(lambda t: params["max"] - 20.0 * t),
        denoiser=lambda params, label: lambda x, t: params["max"] * 0.0 * x,
        sampler=Sampler(name="ddim", num_steps=2, spacing="linear"),
    )
    state = STATE._replace(params={"max": 1.0}, ema_params={"max": jnp.array(15.0)})
    up = jax.jit(process.forward)(state, data(20), KEY)
    alpha = float(jax.nn.sigmoid(5.0)) ** 0.5  # halfway log-SNR is 5
    left = up[1] - alpha * data(20)["image"]
    np.testing.assert_allclose(left.std(), UNIT * (1 - alpha**2) ** 0.5, rtol=0.4)


def test_data_are_not_taken_to_lie_where_there_is_no_noise_at_all():
    process, model = gaussian_process("rectified_flow", 2, end=1e-5)
    assert model.end < INVERSION_END
    grid, _ = inversion_times(process.times(STATE), INVERSION_END)
    assert grid[-1] <= INVERSION_END
