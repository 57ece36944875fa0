"""Exact laws of g(z): against closed forms and scipy's distributions."""

import math

import numpy as np
import pytest
from scipy import stats

from genjax.evaluation.pushforward import (
    discriminator_gap,
    jensen_shannon,
    masses,
    normal_grid,
    optimal_discriminator,
    pushforward_cdf,
    wasserstein1,
)

Z = normal_grid()
EDGES = np.linspace(-6.0, 8.0, 501)


@pytest.mark.parametrize("slope, shift", [(0.5, 1.0), (-1.3, 0.7), (1e-3, 0.1)])
def test_an_affine_map_makes_a_gaussian(slope, shift):
    found = pushforward_cdf(Z, slope * Z + shift, EDGES)
    exact = stats.norm(shift, abs(slope)).cdf(EDGES)
    # what lies beyond |z| = 6 is put at the ends
    np.testing.assert_allclose(found, exact, atol=2.1e-9)


@pytest.mark.parametrize("law", [stats.gumbel_r(), stats.uniform(-1, 3)])
def test_the_quantile_function_makes_its_law(law):
    found = pushforward_cdf(Z, law.ppf(stats.norm.cdf(Z)), EDGES)
    np.testing.assert_allclose(found, law.cdf(EDGES), atol=1e-5)


def test_a_square_makes_chi_squared():
    """A map that folds the line, with a density that is infinite at 0."""
    found = pushforward_cdf(Z, Z**2, EDGES)
    far = np.abs(EDGES) > 0.05  # P(Z^2 <= x) is steep at 0, where g is not linear
    np.testing.assert_allclose(found[far], stats.chi2(1).cdf(EDGES)[far], atol=1e-5)


def test_a_map_with_flat_pieces_puts_mass_on_points():
    """max(z, 0): half of the mass at 0, and half a Gaussian on its right."""
    at = np.array([-1.0, -1e-9, 0.0, 1.0])
    found = pushforward_cdf(Z, np.maximum(Z, 0.0), at)
    exact = [0.0, 0.0, 0.5, stats.norm.cdf(1.0)]
    np.testing.assert_allclose(found, exact, atol=1e-9)
    step = pushforward_cdf(Z, np.full_like(Z, 2.0), np.array([1.9, 2.0]))
    np.testing.assert_allclose(step, [0.0, 1.0], atol=1e-12)


def test_it_is_the_law_of_samples():
    """A map that turns often, against a million draws."""

    def g(z):
        return np.sin(3 * z) + 0.3 * z

    z = np.random.default_rng(0).normal(size=1_000_000)
    at = np.linspace(-1.5, 1.5, 31)
    share = (g(z)[:, None] <= at[None]).mean(axis=0)
    found = pushforward_cdf(Z, g(Z), at)
    np.testing.assert_allclose(found, share, atol=5 * 0.5 / 1000)


def test_masses_add_to_one():
    found = masses(stats.norm.cdf(EDGES))
    assert len(found) == len(EDGES) + 1
    assert found.sum() == pytest.approx(1.0, abs=1e-14) and (found >= 0).all()


# --- how far two laws are apart -------------------------------------------------------


def test_equal_laws_are_not_apart():
    """And the optimal discriminator knows nothing."""
    cdf = stats.norm(1.0, 0.5).cdf(EDGES)
    q_cdf = pushforward_cdf(Z, 0.5 * Z + 1.0, EDGES)
    p, q = masses(cdf), masses(q_cdf)
    assert jensen_shannon(p, q) == pytest.approx(0.0, abs=1e-8)
    assert wasserstein1(cdf, q_cdf, EDGES) == pytest.approx(0.0, abs=1e-7)
    half = np.full(len(p), 0.5)
    assert discriminator_gap(half, p, q) == pytest.approx(0.0, abs=1e-8)
    assert discriminator_gap(half + 0.2, p, q) == pytest.approx(0.2, abs=1e-8)


def test_laws_without_a_common_point_are_log_two_apart():
    p, q = np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.1, 0.9])
    assert jensen_shannon(p, q) == pytest.approx(math.log(2.0))
    np.testing.assert_array_equal(optimal_discriminator(p, q), [1, 1, 0, 0])
    assert discriminator_gap(np.array([1.0, 1.0, 0.0, 0.0]), p, q) == 0.0
    assert optimal_discriminator(np.zeros(1), np.zeros(1)) == 0.5


def test_jensen_shannon_is_scipys():
    from scipy.spatial.distance import jensenshannon

    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(50)), rng.dirichlet(np.ones(50))
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q) ** 2)


@pytest.mark.parametrize(
    "mean, std, exact",
    # a shift moves all mass by itself; another width the quantile z by |1 - std| |z|
    [(0.8, 1.0, 0.8), (0.0, 0.4, 0.6 * math.sqrt(2 / math.pi))],
)
def test_wasserstein1_of_gaussians(mean, std, exact):
    edges = np.linspace(-8, 8, 801)
    found = wasserstein1(
        stats.norm.cdf(edges), pushforward_cdf(Z, std * Z + mean, edges), edges
    )
    assert found == pytest.approx(exact, abs=2e-4)
