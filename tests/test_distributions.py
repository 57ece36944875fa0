import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from genjax.distributions import (
    bernoulli_log_prob,
    discretized_logistic_log_prob,
    discretized_normal_log_prob,
    normal_kl,
    normal_log_prob,
    standard_normal_kl,
)


def test_log_density_against_scipy():
    got = normal_log_prob(jnp.array(0.3), jnp.array(-1.0), jnp.array(0.7))
    np.testing.assert_allclose(got, stats.norm(-1.0, 0.7).logpdf(0.3), rtol=1e-6)


def test_divergence_against_its_integral():
    p, q = stats.norm(0.3, 0.5), stats.norm(-0.2, 1.1)
    want, _ = integrate.quad(
        lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -8, 8, epsabs=1e-9
    )
    got = normal_kl(*(jnp.array(v) for v in (0.3, 0.5**2, -0.2, 1.1**2)))
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize("mean", [-1.5, -0.2, 0.999, 3.0])
@pytest.mark.parametrize("std", [0.005, 0.1, 2.0])
def test_masses_of_the_levels_sum_to_1_and_are_scipys(num_levels, mean, std):
    levels = jnp.linspace(-1.0, 1.0, num_levels)
    got = discretized_normal_log_prob(
        levels, jnp.array(mean), jnp.array(std), num_levels=num_levels
    )
    np.testing.assert_allclose(jnp.exp(got).sum(), 1.0, rtol=2e-4)

    edges = np.linspace(-1.0, 1.0, num_levels)[:-1] + 1 / (num_levels - 1)
    normal = stats.norm(mean, std)
    mass = np.diff(np.concatenate([[0.0], normal.cdf(edges), [1.0]]))
    tangible = mass > 1e-6
    np.testing.assert_allclose(np.exp(got)[tangible], mass[tangible], rtol=5e-3)


def test_far_tail_is_not_cut():
    """100 sigma away: -5000 nats and some, where log 1e-12 is -27.6."""
    got = discretized_normal_log_prob(
        jnp.array([0.0]), jnp.array([1.01]), jnp.array([0.01]), num_levels=101
    )
    want = stats.norm.logcdf((0.01 - 1.01) / 0.01)  # the near edge decides
    np.testing.assert_allclose(got, [want], rtol=1e-4)


def test_divergence_from_the_standard_normal_is_the_general_one():
    mean, logvar = jnp.array([0.0, -1.3, 2.0]), jnp.array([0.0, -3.0, 1.2])
    got = standard_normal_kl(mean, logvar)
    p = stats.norm(-1.3, np.exp(-1.5))
    want, _ = integrate.quad(
        lambda x: p.pdf(x) * (p.logpdf(x) - stats.norm.logpdf(x)), -8, 8, epsabs=1e-9
    )
    np.testing.assert_allclose(got[:2], [0.0, want], rtol=1e-5)
    one = jnp.ones(3)
    np.testing.assert_allclose(
        got, normal_kl(mean, jnp.exp(logvar), 0 * one, one), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("logit", [-40.0, -2.0, 0.0, 0.3, 60.0])
def test_bernoulli_against_scipy(logit):
    x = jnp.array([0.0, 1.0])
    got = bernoulli_log_prob(x, jnp.full(2, logit))
    want = [stats.logistic.logsf(logit), stats.logistic.logcdf(logit)]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    grey = bernoulli_log_prob(jnp.array(0.25), jnp.array(logit))
    np.testing.assert_allclose(grey, 0.75 * got[0] + 0.25 * got[1], rtol=1e-5)


@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize("mean", [-1.5, -0.2, 0.999, 3.0])
@pytest.mark.parametrize("log_scale", [-7.0, -2.0, 1.0])
def test_logistic_masses_sum_to_1_and_are_scipys(num_levels, mean, log_scale):
    levels = jnp.linspace(-1.0, 1.0, num_levels)
    got = discretized_logistic_log_prob(
        levels, jnp.array(mean), jnp.array(log_scale), num_levels=num_levels
    )
    np.testing.assert_allclose(jnp.exp(got).sum(), 1.0, rtol=1e-4)

    edges = np.linspace(-1.0, 1.0, num_levels)[:-1] + 1 / (num_levels - 1)
    logistic = stats.logistic(mean, np.exp(log_scale))
    mass = np.diff(np.concatenate([[0.0], logistic.cdf(edges), [1.0]]))
    tangible = mass > 1e-6
    np.testing.assert_allclose(np.exp(got)[tangible], mass[tangible], rtol=5e-3)
