import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from genjax.diffusion import stochastic, times
from genjax.diffusion.posterior import model_variance, posterior
from tests.diffusion import gaussian
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(3)
NOISE = jax.random.normal(jax.random.key(4), (20_000, 2))
ALL = times.uniform(1000, num_timesteps=1000)


def test_posterior_of_ddpm_at_its_second_step():
    """Eqs. 6-7 of the paper by hand: beta_2 = 1.1991992e-4, alpha_bar_1 = 0.9999,
    alpha_bar_2 = 0.9999 (1 - beta_2) = 0.9997800921."""
    q = posterior(PATHS["ddpm"], jnp.array(0.002), jnp.array(0.001))
    np.testing.assert_allclose(q.large, 1.1991992e-4, rtol=1e-4)
    np.testing.assert_allclose(q.small, 5.453175e-5, rtol=1e-4)
    np.testing.assert_allclose(q.from_x0, 0.545290, rtol=1e-4)
    np.testing.assert_allclose(q.from_xt, 0.454710, rtol=1e-4)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_posterior_carries_the_marginal_at_t_to_that_at_s(path):
    """The mean of x_s given x0 and the variance, over x_t, add up to q(x_s | x0)."""
    t, s = jnp.array([0.2, 0.5, 0.9]), jnp.array([0.1, 0.4, 0.3])
    q = posterior(path, t, s)
    mean = q.from_xt * path.alpha(t) + q.from_x0
    variance = q.small + q.from_xt**2 * path.sigma(t) ** 2
    np.testing.assert_allclose(mean, path.alpha(s), rtol=1e-4)
    np.testing.assert_allclose(variance, path.sigma(s) ** 2, rtol=1e-4)


@pytest.mark.parametrize(
    "sampler",
    [
        lambda *a, **k: stochastic.ancestral(*a, **k, variance="fixed_small"),
        lambda *a, **k: stochastic.ancestral(*a, **k, variance="fixed_large"),
        lambda *a, **k: stochastic.ddim(*a, **k),
        lambda *a, **k: stochastic.ddim(*a, **k, eta=0.5),
    ],
    ids=["fixed_small", "fixed_large", "ddim", "ddim_eta"],
)
def test_a_gaussian_gets_its_mean_and_covariance(sampler):
    path = PATHS["ddpm"]
    x = jax.jit(
        lambda x, key: sampler(
            gaussian.exact_denoiser(path), x, ALL, path=path, key=key
        )
    )(NOISE, KEY)
    # 20,000 draws: 0.02 is 2.8 standard errors of the wider variable's standard
    # deviation; 1000 steps are exact to 0.02 too
    np.testing.assert_allclose(x.mean(0), gaussian.MEAN[0], atol=0.04)
    np.testing.assert_allclose(x.std(0), gaussian.STD[0], rtol=0.03)
    assert abs(np.corrcoef(x.T)[0, 1]) < 0.03


def test_ddim_with_eta_1_is_ancestral():
    path, x = PATHS["ddpm"], NOISE[:100]
    denoise = gaussian.exact_denoiser(path)
    some = times.uniform(20, num_timesteps=1000)
    chain = stochastic.ancestral(
        denoise, x, some, path=path, key=KEY, variance="fixed_small"
    )
    ddim = stochastic.ddim(denoise, x, some, path=path, key=KEY, eta=1.0)
    np.testing.assert_allclose(ddim, chain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["vp", "rectified_flow"])
def test_ddim_is_a_first_order_method(name):
    """Against the exact flow of a Gaussian, which keeps (x - mean_t) / std_t."""
    path, x = PATHS[name], NOISE[:200]
    mean, std = gaussian.marginal(path, jnp.ones((1, 1)))
    exact = gaussian.MEAN + gaussian.STD * (x - mean) / std
    errors = []
    for num_steps in (40, 80, 160):
        some = times.uniform(num_steps, num_timesteps=1600)
        y = stochastic.ddim(gaussian.exact_denoiser(path), x, some, path=path)
        errors.append(float(jnp.abs(y - exact).mean()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.15)


def test_one_step_goes_to_the_denoised_point_without_noise():
    path, one_step = PATHS["ddpm"], np.array([1.0, 0.0], np.float32)
    x, denoise = NOISE[:5], gaussian.exact_denoiser(PATHS["ddpm"])
    want = denoise(x, jnp.array(1.0))
    chain = stochastic.ancestral(denoise, x, one_step, path=path, key=KEY)
    np.testing.assert_allclose(chain, want, rtol=1e-5)
    ddim = stochastic.ddim(denoise, x, one_step, path=path, key=KEY, eta=1.0)
    np.testing.assert_allclose(ddim, want, rtol=1e-5)


def test_a_choice_that_does_not_exist():
    q = posterior(PATHS["vp"], jnp.array(0.5), jnp.array(0.4))
    # a TypeCheckError where the shape checks of the tests see it first
    with pytest.raises((ValueError, TypeCheckError), match="'learnt'"):
        model_variance(q, "learnt")
    with pytest.raises(ValueError, match="eta=0.5 draws noise: give a key"):
        stochastic.ddim(lambda x, t: x, NOISE, ALL, path=PATHS["vp"], eta=0.5)
