import numpy as np
import pytest

from genjax.diffusion import times


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
