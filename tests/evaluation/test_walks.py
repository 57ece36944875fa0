import numpy as np
import pytest
from scipy.stats import norm

from genjax.evaluation import walks

T = np.linspace(0.0, 1.0, 5)


def angle(a, b):
    return np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("walk", [walks.lerp, walks.slerp])
def test_a_walk_begins_and_ends_at_the_codes(rng, walk):
    a, b = rng.standard_normal((2, 7)).astype(np.float32)
    way = walk(a, b, T)
    assert way.dtype == np.float32
    np.testing.assert_allclose(way[[0, -1]], [a, b], atol=1e-6)


def test_a_line_is_halved():
    way = walks.lerp(np.array([0.0, 2.0]), np.array([4.0, 0.0]), np.array([0.5, 0.25]))
    np.testing.assert_allclose(way, [[2.0, 1.0], [1.0, 1.5]])


def test_an_arc_keeps_the_norm_and_halves_the_angle(rng):
    a, b = (x / np.linalg.norm(x) for x in rng.standard_normal((2, 10)))
    way = walks.slerp(a, b, T)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1.0, rtol=1e-12)
    for point, t in zip(way, T, strict=True):
        assert angle(a, b) * t == pytest.approx(np.arccos(a @ point), abs=1e-7)


def test_an_arc_between_axes_is_known():
    way = walks.slerp(np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.5]))
    np.testing.assert_allclose(way, [[np.sqrt(0.5), np.sqrt(0.5)]])


@pytest.mark.parametrize(
    "a, b", [([1.0], [-2.0]), ([1.0, 1.0], [2.0, 2.0]), ([0.0, 0.0], [1.0, 3.0])]
)
def test_where_there_is_no_arc_the_line_is_taken(a, b):
    a, b = np.array(a), np.array(b)
    np.testing.assert_allclose(walks.slerp(a, b, T), walks.lerp(a, b, T))


def test_the_widest_dimensions_come_first(rng):
    codes = rng.standard_normal((500, 4)) * [1.0, 5.0, 0.1, 3.0] + 100.0
    np.testing.assert_array_equal(walks.widest(codes, 3), [1, 3, 0])
    assert len(walks.widest(codes, 16)) == 4


def test_a_traversal_moves_one_dimension_by_three_deviations():
    codes = np.array([[0.0, 10.0, 1.0], [2.0, 20.0, 1.0]])  # deviations 1, 5, 0
    walk = walks.traversal(codes, np.array([1, 0]), steps=3)
    np.testing.assert_allclose(walk[0], [[1, 0, 1], [1, 15, 1], [1, 30, 1]])
    np.testing.assert_allclose(walk[1], [[-2, 15, 1], [1, 15, 1], [4, 15, 1]])


def test_the_manifold_is_a_picture_of_the_plane():
    grid = walks.manifold_grid(20).reshape(20, 20, 2)
    assert (np.diff(grid[0, :, 0]) > 0).all()  # x to the right
    assert (np.diff(grid[:, 0, 1]) < 0).all()  # y upwards
    # equal shares of N(0, 1) between neighbours
    np.testing.assert_allclose(np.diff(norm.cdf(grid[0, :, 0])), 0.05, atol=1e-6)
    np.testing.assert_allclose(grid, -grid[::-1, ::-1], atol=1e-6)


def test_the_manifold_of_codes_covers_as_many_of_them_in_each_cell(rng):
    codes = rng.exponential(size=(10_000, 2)) * [1.0, 50.0]
    grid = walks.manifold_grid(10, codes).reshape(10, 10, 2)
    for axis, levels in enumerate((grid[0, :, 0], grid[::-1, 0, 1])):
        counts, _ = np.histogram(codes[:, axis], levels)
        np.testing.assert_allclose(counts, 1000, atol=5)


def test_a_fitted_gaussian_has_the_moments_of_the_codes(rng):
    spread = np.array([[2.0, 0.0, 0.0], [1.5, 0.5, 0.0]])
    codes = rng.uniform(-1, 1, (300, 2)) @ spread + [3.0, -2.0, 7.0]
    drawn = walks.draw_gaussian(codes, 50_000, rng)
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T, bias=True), atol=0.03)
    np.testing.assert_allclose(drawn[:, 2], 7.0)  # a dead unit stays dead


def test_pairs_are_of_different_rows(rng):
    pairs = walks.random_pairs(3, 3000, rng)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    assert len(counts) == 6 and counts.min() > 400  # all ordered pairs, 500 each
    with pytest.raises(ValueError, match="there are 1"):
        walks.random_pairs(1, 5, rng)
