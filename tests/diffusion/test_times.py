import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from genjax.diffusion import paths, times
from tests.diffusion.test_paths import PATHS


def test_uniform():
    got = times.uniform(4, num_timesteps=1000)
    np.testing.assert_array_equal(got, [1.0, 0.75, 0.5, 0.25, 0.0])
    whole = times.uniform(1000, num_timesteps=1000)
    np.testing.assert_allclose(whole, np.arange(1000, -1, -1) / 1000, rtol=1e-7)
    # off the grid: 10 / 3 and 20 / 3 are rounded
    thirds = times.uniform(3, num_timesteps=10)
    np.testing.assert_allclose(thirds, [1.0, 0.7, 0.3, 0.0], rtol=1e-6)


def test_quadratic_is_that_of_ddim():
    """Their indices for 10 of 1000 steps, k^2 800/81 rounded down; ours are 1 more."""
    theirs = [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]
    want = [(i + 1) / 1000 for i in reversed(theirs)] + [0.0]
    got = times.quadratic(10, num_timesteps=1000)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("spacing", [times.uniform, times.quadratic])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 20])
def test_times_fall_to_the_data(spacing, num_steps):
    got = spacing(num_steps, num_timesteps=20)
    assert got.dtype == np.float32 and len(got) == num_steps + 1
    assert (np.diff(got) < 0).all() and got[-1] == 0.0 and got[0] <= 1.0


@pytest.mark.parametrize("num_steps", [0, 21])
def test_too_many_or_none(num_steps):
    with pytest.raises(ValueError, match=f"in 1 ... 20.* not {num_steps}"):
        times.uniform(num_steps, num_timesteps=20)


@pytest.mark.parametrize("spacing", times.SPACINGS)
@pytest.mark.parametrize("name", ["vp", "rectified_flow", "ve"])
def test_spaced_times_go_from_1_to_the_end_and_0(spacing, name):
    got = times.spaced(spacing, 12, path=PATHS[name], end=0.01)
    assert got.dtype == np.float32 and len(got) == 13
    assert (np.diff(got) < 0).all() and got[0] == 1.0 and got[-1] == 0.0
    last = 1 / 12 if spacing == "linear" else 0.01  # linear goes to 0 itself
    np.testing.assert_allclose(got[-2], last, rtol=1e-3)
    np.testing.assert_array_equal(
        times.spaced(spacing, 1, path=PATHS[name]), [1.0, 0.0]
    )


def test_karras_is_edms_table():
    """EDM's sigmas for 5 steps between 80 and 0.002, rho = 7: eq. 5 by hand."""
    roots = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 5)
    got = times.spaced("karras", 5, path=paths.edm(80.0), end=0.002 / 80)
    np.testing.assert_allclose(80 * got[:-1], roots**7, rtol=1e-4)
    # the middle of 1.8701 and 0.4116 to the seventh power
    np.testing.assert_allclose(80 * got[2], 1.14085**7, rtol=1e-3)


def test_even_spacings_are_even():
    path = PATHS["vp"]
    got = times.spaced("logsnr", 9, path=path, end=0.01)[:-1]
    strides = np.diff(path.logsnr(jnp.asarray(got)))
    np.testing.assert_allclose(strides, strides[0], rtol=1e-3)
    got = times.spaced("quadratic", 9, path=path, end=0.01)[:-1]
    np.testing.assert_allclose(np.diff(np.sqrt(got)), -0.9 / 8, rtol=1e-4)


@pytest.mark.parametrize("spacing", times.SPACINGS)
@pytest.mark.parametrize("num_steps", [1, 5, 20])
def test_spaced_times_on_the_grid_of_a_discrete_network(spacing, num_steps):
    path = paths.ddpm_linear(20, 0.005, 0.5)
    got = times.spaced(spacing, num_steps, path=path, num_timesteps=20)
    np.testing.assert_allclose(got * 20, np.rint(got * 20), atol=1e-5)
    assert (np.diff(got) < 0).all() and got[-1] == 0.0 and got[0] <= 1.0
    assert len(got) == num_steps + 1


@pytest.mark.parametrize(
    ("spacing", "num_steps", "end", "message"),
    [
        ("uniform", 0, 0.1, "not 0 and 0.1"),
        ("uniform", 3, 0.0, "not 3 and 0.0"),
        ("even", 3, 0.1, "'even'"),
    ],
)
def test_spacings_that_do_not_exist(spacing, num_steps, end, message):
    with pytest.raises((ValueError, TypeCheckError), match=message):
        times.spaced(spacing, num_steps, path=PATHS["vp"], end=end)
