import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import paths, posterior, solvers, stochastic
from genjax.diffusion.denoiser import clipped
from tests.diffusion import gaussian

KEY = jax.random.key(2)
PATH = paths.ddpm_linear()
FEW = np.array([1.0, 0.6, 0.3, 0.1, 0.02, 0.001, 0.0], np.float32)
NOISE = jax.random.normal(KEY, (20_000, 2))


def with_v(denoise, v):
    """A denoiser of (x0, v) with the same v everywhere."""
    return lambda x, t: (denoise(x, t), jnp.full_like(x, v))


def chain(denoise, variance, num=20_000):
    run = jax.jit(
        lambda x: stochastic.ancestral(
            denoise, x, FEW, path=PATH, key=KEY, variance=variance
        )
    )
    return run(NOISE[:num])


@pytest.mark.parametrize(("v", "fixed"), [(0.0, "fixed_small"), (1.0, "fixed_large")])
def test_the_ends_of_learned_variances_are_the_fixed_ones(v, fixed):
    """Also between times that are far apart, and with no noise in the last step."""
    denoise = gaussian.exact_denoiser(PATH)
    learned = chain(with_v(denoise, v), "learned", 100)
    np.testing.assert_allclose(learned, chain(denoise, fixed, 100), rtol=1e-5)


def test_half_way_is_the_geometric_mean():
    half = posterior.between(jnp.array(0.02), jnp.array(0.08), jnp.full((2, 3), 0.5))
    np.testing.assert_allclose(half, np.full((2, 3), 0.04), rtol=1e-6)
    assert posterior.between(jnp.array(0.0), jnp.array(0.08), jnp.array(0.5)) == 0.0


def test_few_steps_with_the_right_variances_keep_a_gaussian():
    """Six steps have no error at all; either fixed choice is wrong by a tenth or more.

    The chain ends with x0's mean given x at t = 0.001, which is nothing beside 0.3.
    """
    denoise = gaussian.exact_denoiser(PATH)
    best = chain(gaussian.exact_spread(PATH, FEW), "learned")
    np.testing.assert_allclose(best.mean(0), gaussian.MEAN[0], atol=0.04)
    np.testing.assert_allclose(best.std(0), gaussian.STD[0], rtol=0.02)
    for fixed in ("fixed_small", "fixed_large"):
        error = np.abs(chain(denoise, fixed).std(0) / gaussian.STD[0] - 1.0)
        assert error.max() > 0.1


def test_a_wrapper_changes_x0_and_keeps_v():
    denoise = posterior.with_spread(with_v(lambda x, t: x * t, 0.3), clipped)
    x0, v = denoise(jnp.array([[-3.0, 0.2]]), jnp.array(0.5))
    np.testing.assert_allclose(x0, [[-1.0, 0.1]])
    np.testing.assert_allclose(v, [[0.3, 0.3]])


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_other_samplers_have_no_use_for_v(name):
    denoise = gaussian.exact_denoiser(PATH)
    alone, both = (
        solvers.solve(name, d, NOISE[:5], FEW, path=PATH, key=KEY).x
        for d in (denoise, with_v(denoise, 0.3))
    )
    np.testing.assert_array_equal(alone, both)


def test_learned_variances_need_a_denoiser_that_gives_them():
    with pytest.raises(ValueError, match=r"denoiser that gives \(x0, v\)"):
        chain(gaussian.exact_denoiser(PATH), "learned", 5)
