import numpy as np
import pytest
from scipy.spatial.distance import cdist

from genjax.evaluation import code_metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def blobs(rng, num, *, spread=0.1, dim=2):
    """Three clusters a hundred spreads apart, and which is which."""
    labels = np.arange(num) % 3
    centers = 10 * np.eye(3, dim)
    noise = spread * rng.standard_normal((num, dim))
    return (centers[labels] + noise).astype(np.float32), labels


def test_pixels_are_scaled_by_the_top_level():
    images = np.array([0, 8, 16], np.uint8).reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(code_metrics.to_pixels(images, 17), [[0.0, 0.5, 1.0]])


def test_squared_error_is_a_sum_over_pixels():
    a = np.array([[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]], np.float32)
    b = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(code_metrics.squared_errors(a, b), [1.25, 0.0])


def test_components_of_a_plane_give_it_back(rng):
    plane = rng.standard_normal((2, 9)).astype(np.float32)
    pixels = rng.standard_normal((50, 2)).astype(np.float32) @ plane + np.float32(3)
    pca = code_metrics.principal_components(pixels, 3)
    kept = pca.decode(pca.encode(pixels, 2))
    np.testing.assert_allclose(kept, pixels, atol=1e-4)
    left_out = pixels - pca.decode(pca.encode(pixels, 1))
    # what one component leaves is the second eigenvalue of the covariance
    eigenvalues = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))
    assert np.square(left_out).sum(1).mean() == pytest.approx(eigenvalues[-2], rel=1e-3)


def test_pca_of_mnist_is_the_known_one(mnist):
    """13.866 at 30 components, as numpy's eigh of the float64 covariance gives it."""
    train, test = (
        code_metrics.to_pixels(mnist[name], 256) for name in ("train", "test")
    )
    pca = code_metrics.principal_components(train, 30)
    error = code_metrics.squared_errors(test, pca.decode(pca.encode(test, 30)))
    assert error.mean() == pytest.approx(13.866, abs=0.005)


def test_active_units_by_hand():
    high = np.array([1.0, 0.198, 0.202, 0.0])  # variances 0.25, 0.0098, 0.0102, 0
    codes = np.stack([high * 0, high]).astype(np.float32) + np.float32(5)
    assert code_metrics.active_units(codes) == 2


def test_separated_classes_are_known_from_the_code(rng):
    known = (*blobs(rng, 60), *blobs(rng, 30))
    assert code_metrics.nearest_neighbour_accuracy(*known) == 1.0
    assert code_metrics.linear_accuracy(*known) == 1.0


def test_neighbours_know_what_no_line_can_tell(rng):
    """XOR: two classes on opposite corners of a square, both with the mean 0."""
    corners = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]], np.float32)
    labels = np.array([0, 0, 1, 1]).repeat(25)
    train, test = (
        corners.repeat(25, 0) + 0.1 * rng.standard_normal((100, 2)).astype(np.float32)
        for _ in range(2)
    )
    known = (train, labels, test, labels)
    assert code_metrics.nearest_neighbour_accuracy(*known) == 1.0
    assert 0.2 < code_metrics.linear_accuracy(*known) < 0.8


def test_a_code_without_class_is_at_chance(rng):
    codes = rng.standard_normal((2, 2000, 5)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 2000))
    known = (codes[0], labels[0], codes[1], labels[1])
    assert code_metrics.nearest_neighbour_accuracy(*known) == pytest.approx(
        0.25, abs=0.05
    )
    assert code_metrics.linear_accuracy(*known) == pytest.approx(0.25, abs=0.05)


def test_purity_by_hand():
    clusters = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    labels = np.array([5, 5, 9, 9, 9, 9, 5, 5])
    assert code_metrics.purity(clusters, labels) == pytest.approx((2 + 3 + 1) / 8)


def test_purity_does_not_know_the_clusters_names():
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert code_metrics.purity((labels + 1) % 3, labels) == 1.0
    assert code_metrics.purity(np.zeros(6, int), labels) == pytest.approx(1 / 3)


@pytest.mark.parametrize("dim", [3, 80])  # full and diagonal covariances
def test_clustering_finds_blobs(rng, dim):
    metrics = code_metrics.cluster_metrics(*blobs(rng, 90, dim=dim), 3)
    assert set(metrics) == {
        "kmeans_purity",
        "kmeans_nmi",
        "mixture_purity",
        "mixture_nmi",
    }
    for name, value in metrics.items():
        assert value == pytest.approx(1.0), name


def test_a_mixture_finds_what_kmeans_cuts(rng):
    """A narrow cloud inside a wide one: nearest centres cut both in halves."""
    labels = np.arange(400) % 2
    codes = rng.standard_normal((400, 5)) * np.where(labels, 10.0, 0.1)[:, None]
    metrics = code_metrics.cluster_metrics(codes.astype(np.float32), labels, 2)
    assert metrics["mixture_nmi"] > 0.95 and metrics["kmeans_nmi"] < 0.5


def test_nearest_distances_are_those_of_scipy(rng):
    queries, real = (rng.random((n, 30)).astype(np.float32) for n in (40, 700))
    expected = cdist(queries.astype(float), real.astype(float)).min(axis=1)
    np.testing.assert_allclose(
        code_metrics.nearest_distances(queries, real), expected, rtol=1e-6
    )
    # no cancellation where the image itself is among the real ones
    assert code_metrics.nearest_distances(real[:5], real).max() < 1e-6


def test_the_chord_of_a_circle_is_as_far_off_it_as_geometry_says():
    """On the unit circle, halfway between two on the line: off by 1 - cos."""
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    for opening in (0.5, 1.0, 2.0):
        ends = np.array([[1.0, 0.0], [np.cos(opening), np.sin(opening)]])
        middle = ends.mean(axis=0, keepdims=True).astype(np.float32)
        (distance,) = code_metrics.nearest_distances(middle, circle)
        assert distance == pytest.approx(1 - np.cos(opening / 2), abs=1e-6)
