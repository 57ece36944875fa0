import numpy as np
import pytest
import scipy.stats

from genjax.evaluation.energy import BLOCK, energy_distance, mean_distance


def test_in_one_dimension_it_is_the_square_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=2 * BLOCK + 5), 0.5 + rng.normal(size=300)
    expected = scipy.stats.energy_distance(x, y) ** 2
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(expected, rel=1e-9)


def test_two_single_points_are_twice_their_distance_apart():
    x, y = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])
    assert energy_distance(x, y) == 10.0


def test_equal_sets_in_any_order_are_at_zero():
    x = np.random.default_rng(1).normal(size=(70, 2))
    assert energy_distance(x, x[::-1]) == pytest.approx(0.0, abs=1e-12)


def test_mean_distance_of_a_square_by_hand():
    square = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    expected = (4 * 0 + 8 * 1 + 4 * np.sqrt(2)) / 16
    assert mean_distance(square, square) == pytest.approx(expected)
