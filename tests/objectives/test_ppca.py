import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from genjax.objectives import ppca


def random_model(dims=6, d=2):
    """Any W, not one with orthogonal columns as a fit gives."""
    rng = np.random.default_rng(0)
    return ppca.PPCA(
        mean=jnp.asarray(rng.normal(size=dims), jnp.float32),
        weight=jnp.asarray(rng.normal(size=(dims, d)), jnp.float32),
        sigma2=jnp.float32(0.3),
    )


def covariance(model):
    weight = np.asarray(model.weight, np.float64)
    return weight @ weight.T + float(model.sigma2) * np.eye(len(weight))


def points(num, dims, seed=1):
    return np.random.default_rng(seed).normal(size=(num, dims)).astype(np.float32)


def digits():
    return load_digits().data[:1000] / 16.0


def moments(rows, ddof):
    mean, cov = rows.mean(axis=0), np.cov(rows.T, ddof=ddof)
    return jnp.asarray(mean, jnp.float32), jnp.asarray(cov, jnp.float32)


def test_log_density_is_that_of_scipys_normal():
    model, x = random_model(), points(50, 6)
    expected = multivariate_normal(np.asarray(model.mean), covariance(model)).logpdf(x)
    got = ppca.log_density(model, jnp.asarray(x))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("d", [1, 10, 40])
def test_fit_is_scikit_learns(d):
    """PCA.score_samples is the exact log density; it takes covariances with ddof 1."""
    rows = digits()
    theirs = PCA(n_components=d, svd_solver="full").fit(rows)
    model = ppca.fit(*moments(rows, ddof=1), d)
    np.testing.assert_allclose(model.sigma2, theirs.noise_variance_, rtol=1e-4)
    np.testing.assert_allclose(
        ppca.log_density(model, jnp.asarray(rows, jnp.float32)),
        theirs.score_samples(rows),
        rtol=1e-4,
        atol=1e-2,
    )


def test_components_are_scikit_learns():
    rows = digits()
    theirs = PCA(n_components=5, svd_solver="full").fit(rows)
    ours = ppca.principal_components(moments(rows, ddof=1)[1], 5)
    np.testing.assert_allclose(ours.axes.T, theirs.components_, atol=1e-3)
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(ours.rest, theirs.noise_variance_, rtol=1e-4)


def test_nothing_near_the_fit_is_more_likely():
    """The gradient of the log-likelihood vanishes in every parameter."""
    rows = points(500, 6) * np.array([3.0, 2.0, 1.0, 0.5, 0.5, 0.3], np.float32)
    model = ppca.fit(*moments(rows, ddof=0), 2)

    def mean_log_density(model):
        return ppca.log_density(model, jnp.asarray(rows)).mean()

    for slope in jax.tree.leaves(jax.grad(mean_log_density)(model)):
        np.testing.assert_allclose(slope, np.zeros(slope.shape), atol=1e-4)
    wrong = model._replace(sigma2=model.sigma2 * 1.1)
    assert np.abs(jax.grad(mean_log_density)(wrong).sigma2) > 1e-2


def test_posterior_is_the_joint_gaussians_conditional():
    model, x = random_model(), points(5, 6)
    weight = np.asarray(model.weight, np.float64)
    gain = weight.T @ np.linalg.inv(covariance(model))  # cov(z, x) cov(x)^-1
    mean, cov = ppca.posterior(model, jnp.asarray(x))
    np.testing.assert_allclose(mean, (x - model.mean[None]) @ gain.T, atol=1e-5)
    np.testing.assert_allclose(cov, np.eye(2) - gain @ weight, atol=1e-5)


def test_expected_log_density_over_noise():
    """Noise of +-s in each dimension: all 2^6 cases with scipy, not a draw."""
    model, x, s = random_model(), points(4, 6), 0.7
    normal = multivariate_normal(np.asarray(model.mean), covariance(model))
    cases = [x + s * np.array(signs) for signs in itertools.product((-1, 1), repeat=6)]
    expected = np.mean([normal.logpdf(case) for case in cases], axis=0)
    got = ppca.expected_log_density(model, jnp.asarray(x), s**2)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_mean_log_density_follows_from_moments():
    model, x = random_model(), points(50, 6) * 2.0 + 1.0
    got = ppca.mean_log_density(model, *moments(x, ddof=0))
    expected = ppca.log_density(model, jnp.asarray(x)).mean()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_singular_covariance_has_a_density():
    cov = jnp.diag(jnp.array([4.0, 1.0, 0.0, 0.0]))
    model = ppca.fit(jnp.zeros(4), cov, 2)
    assert 0 < model.sigma2 < 1e-5
    assert np.isfinite(ppca.log_density(model, jnp.zeros((1, 4)))).all()


@pytest.mark.parametrize("d", [0, 4])
def test_components_that_leave_nothing(d):
    with pytest.raises(ValueError, match=f"1 ... 3, below D=4, not {d}"):
        ppca.principal_components(jnp.eye(4), d)
