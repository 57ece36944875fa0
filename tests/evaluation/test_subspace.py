import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles

from genjax.evaluation.subspace import largest_principal_angle

angle_of = jax.jit(largest_principal_angle)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("degrees", [0.001, 0.5, 30.0, 89.0, 90.0])
def test_a_plane_that_is_turned(degrees):
    """e1, e2 against e1 and e2 turned towards e3."""
    angle = np.deg2rad(degrees)
    turned = np.zeros((5, 2), np.float32)
    turned[0, 0], turned[1:3, 1] = 1.0, (np.cos(angle), np.sin(angle))
    got = angle_of(jnp.eye(5)[:, :2], jnp.asarray(turned))
    np.testing.assert_allclose(got, degrees, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("noise", [1e-3, 0.1, 10.0])
def test_it_is_scipys(noise):
    a = random(50, 6)
    b = a + noise * random(50, 6, seed=1)
    expected = np.rad2deg(subspace_angles(a, b)).max()
    np.testing.assert_allclose(angle_of(a, b), expected, rtol=1e-3)


def test_another_basis_of_the_same_space():
    a = random(50, 6)
    assert angle_of(a, a @ random(6, 6, seed=1)) < 1e-2
