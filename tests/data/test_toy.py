"""Each density integrates to one, and its score and samples belong to it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.data import toy

# A spacing below sigma, where the trapezoid rule is exact to rounding for Gaussians;
# the checkerboard's edges lie half-way between the points.
GRID = np.arange(-7.0, 7.0, 0.04) + 0.02


LINE = [name for name in toy.NAMES if toy.density(name).dim == 1]
PLANE = [name for name in toy.NAMES if toy.density(name).dim == 2]


@pytest.fixture(scope="module", params=PLANE)
def named(request):
    return request.param, toy.density(request.param)


def _log_prob_on(p, axis):
    """log p at all pairs of the axis, row by row: no big temporary."""
    one_row = jax.jit(
        lambda y: p.log_prob(jnp.stack([axis, jnp.full_like(axis, y)], 1))
    )
    return np.asarray(jax.lax.map(one_row, jnp.asarray(axis, jnp.float32)), np.float64)


def test_integrates_to_one(named):
    _, p = named
    total = np.exp(_log_prob_on(p, jnp.asarray(GRID, jnp.float32))).sum() * 0.04**2
    assert total == pytest.approx(1.0, abs=1e-3)


def test_score_is_the_finite_difference_of_log_prob(named):
    name, p = named
    x = p.sample(jax.random.key(0), 64)
    h = 1e-3
    steps = h * np.eye(2, dtype=np.float32)
    log_prob = jax.jit(p.log_prob)
    slope = [(log_prob(x + e) - log_prob(x - e)) / (2 * h) for e in steps[:, None]]
    score = np.asarray(jax.jit(p.score)(x))
    if name == "checkerboard":
        np.testing.assert_array_equal(score, 0.0)
    else:
        # float32 log p of size 10 loses 1e-6, which h makes 1e-3; scores reach 1/sigma
        np.testing.assert_allclose(score, np.stack(slope, 1), rtol=1e-2, atol=2e-2)


def test_score_of_one_gaussian_is_linear():
    center = np.array([[1.0, -2.0]], np.float32)
    p = toy.gaussian_mixture(center, 0.5)
    x = jax.random.normal(jax.random.key(0), (16, 2))
    np.testing.assert_allclose(p.score(x), (center - x) / 0.25, rtol=1e-5)
    expected = stats.multivariate_normal(center[0], 0.25 * np.eye(2)).logpdf(x)
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-5)


def test_samples_fill_cells_as_the_density_says(named):
    """Chi-square of a histogram against the density integrated over its cells."""
    _, p = named
    num, cell, fine = 40_000, 0.5, 10  # `fine` points a side and cell: spacing 0.05
    edges = np.arange(-6.0, 6.01, cell)
    inner = np.arange(-6.0, 6.0, cell / fine) + cell / fine / 2
    mass = np.exp(_log_prob_on(p, jnp.asarray(inner, jnp.float32)))
    mass = mass.reshape(24, fine, 24, fine).sum((1, 3)) * (cell / fine) ** 2
    x = p.sample(jax.random.key(1), num)
    seen = np.histogram2d(x[:, 1], x[:, 0], (edges, edges))[0]
    wanted = num * mass
    full = wanted > 5
    chi2 = ((seen - wanted)[full] ** 2 / wanted[full]).sum()
    chi2 += (seen[~full].sum() - wanted[~full].sum()) ** 2 / max(wanted[~full].sum(), 1)
    assert stats.chi2.sf(chi2, full.sum()) > 1e-4
    assert np.isfinite(np.asarray(jax.jit(p.log_prob)(x))).all()


# By hand. Ring: radius^2/2 + sigma^2 on each axis. Grid: the mean of {16, 4, 0, 4, 16},
# plus sigma^2. Checkerboard: uniform on [-4, 4] along each axis, and the centers of the
# squares, (-3, -3), (1, 1), (-3, 1), ..., have a mean product of one.
MOMENTS = {
    "gaussians8": [[2.01, 0.0], [0.0, 2.01]],
    "gaussians25": [[8.0025, 0.0], [0.0, 8.0025]],
    "checkerboard": [[16 / 3, 1.0], [1.0, 16 / 3]],
}


@pytest.mark.parametrize("name", MOMENTS)
def test_mean_and_covariance(name):
    num = 100_000
    x = np.asarray(toy.density(name).sample(jax.random.key(2), num))
    within = 5 * math.sqrt(16 / num)  # five standard errors of the widest product
    np.testing.assert_allclose(x.mean(0), 0.0, atol=within)
    np.testing.assert_allclose(np.cov(x.T), MOMENTS[name], atol=2 * within)


def test_moons_follow_scikit_learn():
    """Noise-free make_moons points lie on the ridge: at most 2 sigma from a center."""
    from sklearn.datasets import make_moons

    x, label = make_moons(200, noise=None)
    p = toy.density("moons")
    # in the middle of a chain of Gaussians spaced h, p = 1/(K h sqrt(2 pi) sigma)
    ridge = 1 / (64 * (math.pi / 32) * math.sqrt(2 * math.pi) * 0.1)
    log_prob = np.asarray(p.log_prob(jnp.asarray(x, jnp.float32)))
    assert (log_prob > math.log(ridge) - 1.0).all()  # the arcs' ends have half of it
    assert np.median(log_prob) == pytest.approx(math.log(ridge), abs=0.05)
    drawn, mode = p.sample_with_mode(jax.random.key(0), 2000)
    upper = np.asarray(drawn)[np.asarray(mode) == 0]
    radius = np.linalg.norm(upper, axis=1)
    assert radius.mean() == pytest.approx(math.sqrt(1 + 0.1**2), abs=0.02)


def test_modes_are_equally_likely_and_all_there(named):
    _, p = named
    _, mode = p.sample_with_mode(jax.random.key(3), 20_000)
    counts = np.bincount(np.asarray(mode), minlength=p.num_modes)
    assert len(counts) == p.num_modes
    assert stats.chisquare(counts).pvalue > 1e-4


def test_mode_is_the_nearest_center():
    p = toy.density("gaussians25")
    x, mode = p.sample_with_mode(jax.random.key(4), 500)
    assert p.centers is not None
    distance = np.linalg.norm(np.asarray(x)[:, None] - p.centers[None], axis=-1)
    np.testing.assert_array_equal(distance.argmin(1), mode)
    assert (distance.min(1) < 6 * 0.05).all()


# --- on the line ----------------------------------------------------------------------

LAWS = {
    "gaussian1d": [stats.norm(3.0, 0.5)],
    "mixture1d": [stats.norm(-2.0, 0.5), stats.norm(2.0, 0.5)],
}


@pytest.mark.parametrize("name", LINE)
def test_densities_of_the_line_are_scipys(name):
    p, laws = toy.density(name), LAWS[name]
    x = np.linspace(-5.0, 6.0, 200)
    assert p.cdf is not None
    pdf, cdf = (
        np.mean([getattr(law, what)(x) for law in laws], axis=0)
        for what in ("pdf", "cdf")
    )
    np.testing.assert_allclose(p.cdf(x), cdf, rtol=1e-12)
    found = np.exp(p.log_prob(jnp.asarray(x[:, None], jnp.float32)))
    np.testing.assert_allclose(found, pdf, rtol=2e-4, atol=1e-12)


@pytest.mark.parametrize("name", LINE)
def test_samples_of_the_line_are_of_the_density(name):
    p = toy.density(name)
    x, mode = p.sample_with_mode(jax.random.key(5), 5000)
    assert x.shape == (5000, 1) and x.dtype == jnp.float32
    assert stats.kstest(np.asarray(x)[:, 0], p.cdf).pvalue > 1e-4
    assert p.centers is not None
    np.testing.assert_allclose(x - p.centers[np.asarray(mode)], 0.0, atol=6 * 0.5)
    assert set(np.asarray(mode).tolist()) == set(range(p.num_modes))


def test_the_score_of_the_line_is_linear():
    x = jnp.linspace(1.0, 5.0, 9)[:, None]
    found = toy.density("gaussian1d").score(x)
    np.testing.assert_allclose(found, (3.0 - x) / 0.25, rtol=1e-5, atol=1e-5)
