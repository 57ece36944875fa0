import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.objectives import pixels

KEY = jax.random.key(0)
LEVELS = 17
X = jnp.round(jax.random.uniform(KEY, (2, 3, 3, 1)) * (LEVELS - 1)) / (LEVELS - 1)


def test_bernoulli_sums_over_the_image():
    x = jnp.round(X)
    logits = jax.random.normal(KEY, (5, 2, 3, 3, 1))
    family = pixels.bernoulli()
    want = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(family.log_mass(x[None], logits), want, rtol=1e-4)
    np.testing.assert_allclose(family.log_prob(x[None], logits), want, rtol=1e-4)


def gaussian_out(mean, std, like=X):
    mean, log_std = jnp.full_like(like, mean), jnp.full_like(like, np.log(std))
    return jnp.concatenate([mean, log_std], axis=-1)


def test_gaussian_density_against_scipy():
    got = pixels.gaussian(LEVELS).log_prob(X, gaussian_out(0.4, 0.2))
    want = stats.norm(0.4, 0.2).logpdf(X).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("family", [pixels.gaussian, pixels.logistic])
def test_masses_of_all_levels_sum_to_one(family):
    levels = jnp.linspace(0.0, 1.0, LEVELS).reshape(LEVELS, 1, 1, 1)
    out = gaussian_out(0.3, 0.11, levels)
    masses = jnp.exp(family(LEVELS).log_mass(levels, out))
    np.testing.assert_allclose(masses.sum(), 1.0, rtol=1e-4)
    # the mean on the scale of the levels: N(.3, .11^2); logistic means are in [-1, 1]
    center = 0.3 if family is pixels.gaussian else (1.0 + 0.3) / 2.0
    np.testing.assert_allclose((masses * levels[:, 0, 0, 0]).sum(), center, atol=1e-2)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "logistic"])
def test_draws_have_the_mean_and_lie_in_the_range(name):
    if name == "bernoulli":
        family, out = pixels.bernoulli(), jnp.full_like(X, -0.4)
    else:
        family = getattr(pixels, name)(LEVELS)
        out = gaussian_out(0.1, 0.05)
    mean = family.mean(out)
    draws = jax.vmap(lambda key: family.draw(key, out))(jax.random.split(KEY, 4000))
    assert draws.min() >= 0.0 and draws.max() <= 1.0 and mean.shape == X.shape
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.04)


def test_means_are_cut_to_the_range():
    for family in (pixels.gaussian, pixels.logistic):
        assert family(LEVELS).mean(gaussian_out(5.0, 1.0)).max() == 1.0
        assert family(LEVELS).mean(gaussian_out(-5.0, 1.0)).min() == 0.0
