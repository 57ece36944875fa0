import numpy as np
import pytest
from scipy.spatial.distance import cdist

from genjax.evaluation import neighbors
from genjax.evaluation.neighbors import blocks, nearest


def sorted_distances(x, y, own=False):
    distance = cdist(x.astype(np.float64), y.astype(np.float64))
    if own:
        np.fill_diagonal(distance, np.inf)
    return np.sort(distance, axis=1)


@pytest.fixture(params=["normal", "far away", "bytes", "ties"])
def rows(request):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(150, 12)), rng.normal(size=(200, 12))
    return {
        "normal": (x.astype(np.float32), y.astype(np.float32)),
        "far away": (x + 1e6, y + 1e6),
        "bytes": tuple(rng.integers(0, 256, (n, 12)).astype(np.uint8) for n in (9, 70)),
        "ties": tuple(rng.integers(0, 2, (n, 5)).astype(np.uint8) for n in (90, 80)),
    }[request.param]


@pytest.mark.parametrize("small", [False, True])
def test_equal_those_of_scipy(rows, small, monkeypatch):
    if small:  # many blocks, the last ones not full
        monkeypatch.setattr(neighbors, "ROWS", 32)
        monkeypatch.setattr(neighbors, "COLUMNS", 13)
    x, y = rows
    found = nearest(x, y, 4)
    expected = sorted_distances(x, y)[:, :4]
    np.testing.assert_allclose(found.distance, expected, rtol=1e-12, atol=1e-12)
    named = np.linalg.norm(
        x[:, None].astype(np.float64) - y[found.index].astype(np.float64), axis=2
    )
    np.testing.assert_allclose(found.distance, named, rtol=1e-12)
    own = nearest(y, y, 4, own=np.arange(len(y)))
    assert not (own.index == np.arange(len(y))[:, None]).any()
    expected = sorted_distances(y, y, own=True)[:, :4]
    np.testing.assert_allclose(own.distance, expected, rtol=1e-12, atol=1e-12)


def test_a_copy_is_at_distance_zero_among_rows_that_nearly_agree():
    # In float32 all of these are one row: 3e-4 apart at a distance of 1000.
    rng = np.random.default_rng(1)
    y = np.vstack([rng.normal(size=(50, 30)) * 1e-4, np.full((50, 30), 1000.0)])
    x = y[[7, 49]]
    np.testing.assert_array_equal(nearest(x, y, 1).index[:, 0], [7, 49])
    np.testing.assert_array_equal(nearest(x, y, 1).distance, 0.0)
    expected = sorted_distances(x, y)[:, :5]
    np.testing.assert_allclose(nearest(x, y, 5).distance, expected, rtol=1e-9)


@pytest.mark.parametrize("strict", [False, True])
def test_the_edge_of_a_ball_is_told_from_its_inside(strict):
    rng = np.random.default_rng(2)
    x, y = (rng.integers(0, 3, (40, 6)).astype(np.uint8) for _ in range(2))
    exact = cdist(x.astype(int), y.astype(int), "sqeuclidean")
    (block,) = blocks(x, y)
    for radius in (0.0, 4.0, 9.0):
        inside = block.closer(np.full((1, 1), radius), strict=strict)
        expected = exact < radius if strict else exact <= radius
        np.testing.assert_array_equal(inside, expected)


def test_as_many_neighbours_as_there_are_rows():
    y = np.eye(3)
    assert nearest(y, y, 2, own=np.arange(3)).index.shape == (3, 2)
    for k, own in ((4, None), (3, np.arange(3)), (0, None)):
        with pytest.raises(ValueError, match=f"no {k} neighbours among 3 rows"):
            nearest(y, y, k, own=own)
