import numpy as np
import pytest
import scipy.stats

from genjax.evaluation.wasserstein import wasserstein2


def test_a_shift_is_its_length():
    x = np.random.default_rng(0).normal(size=(50, 2))
    order = np.random.default_rng(1).permutation(50)
    assert wasserstein2(x, x[order] + np.array([3.0, -4.0])) == pytest.approx(5.0)


def test_in_one_dimension_the_order_matches():
    x, y = np.random.default_rng(2).normal(size=(2, 40))
    expected = np.sqrt(np.mean((np.sort(x) - np.sort(2 * y + 1)) ** 2))
    assert wasserstein2(x[:, None], 2 * y[:, None] + 1) == pytest.approx(expected)


def test_gaussians_are_as_far_as_the_closed_form_says():
    """|m1 - m2|^2 + |S1^1/2 - S2^1/2|^2 for diagonal covariances."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 2)) * [1.0, 2.0]
    y = rng.normal(size=(600, 2)) * [3.0, 1.0] + [5.0, 0.0]
    assert wasserstein2(x, y) == pytest.approx(np.sqrt(25 + 4 + 1), rel=0.04)


def test_never_less_than_the_distance_on_an_axis():
    x, y = np.random.default_rng(4).normal(size=(2, 100, 2))
    first = scipy.stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert wasserstein2(x, y) >= first


def test_sets_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="not 3 and 2"):
        wasserstein2(np.zeros((3, 2)), np.zeros((2, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_points_that_are_not_finite_have_no_distance(bad):
    x = np.zeros((3, 2))
    assert np.isnan(wasserstein2(np.array([[0, 0], [bad, 1], [1, 1.0]]), x))
