import numpy as np
import pytest
import scipy.stats
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from genjax.evaluation.memorization import (
    authenticity,
    data_copying,
    duplicate_share,
    nearest_other_ratio,
    rank_sum_z,
)
from genjax.evaluation.neighbors import nearest


def normal(n, seed, dim=8):
    return np.random.default_rng(seed).normal(size=(n, dim))


def auth(samples, train):
    return authenticity(nearest(samples, train, 1), train)


def test_authenticity_equals_scikit_learns():
    samples, train = normal(150, 0), normal(300, 1)
    search = NearestNeighbors(n_neighbors=1).fit(train)
    distance, owner = search.kneighbors(samples)
    others = search.kneighbors()[0][owner[:, 0], 0]
    expected = 100 * np.mean(others < distance[:, 0])
    assert 5 < expected < 95
    assert auth(samples, train) == pytest.approx(expected)


def test_copies_are_not_authentic_and_far_samples_are():
    train = normal(100, 2)
    assert auth(train[:50], train) == 0.0
    assert auth(train[:50] + 1e-6 * normal(50, 3), train) == 0.0
    assert auth(train[:50] + 100.0, train) == 100.0


def test_a_training_row_that_occurs_twice_makes_its_copies_no_authentic_ones():
    train = np.repeat(normal(20, 4), 2, axis=0)
    assert auth(train[:20], train) == 0.0  # at 0 from both: no nearer other


def test_the_z_score_has_the_p_value_of_scipy():
    rng = np.random.default_rng(5)
    samples, test = rng.normal(-0.3, 1.0, 40), rng.normal(size=30)
    expected = scipy.stats.mannwhitneyu(
        samples, test, alternative="less", method="asymptotic"
    ).pvalue
    found = scipy.stats.norm.cdf(rank_sum_z(samples, test))
    assert found == pytest.approx(expected, rel=1e-9)


def test_copying_by_cells_equals_a_computation_by_other_libraries():
    train, test, samples = normal(600, 6), normal(300, 7), 0.9 * normal(400, 8)
    pca = PCA(3, random_state=0).fit(train)
    train, test, samples = (pca.transform(x) for x in (train, test, samples))
    kmeans = KMeans(5, n_init=1, random_state=0).fit(train.astype(np.float32))
    total = weights = 0.0
    for cell in range(5):
        own, held_out, drawn = (
            x[kmeans.predict(x.astype(np.float32)) == cell]
            for x in (train, test, samples)
        )
        search = NearestNeighbors(n_neighbors=1).fit(own)
        u = scipy.stats.mannwhitneyu(
            search.kneighbors(drawn)[0][:, 0], search.kneighbors(held_out)[0][:, 0]
        ).statistic
        n, m = len(held_out), len(drawn)
        z = (u - n * m / 2 + 0.5) / np.sqrt(n * m * (n + m + 1) / 12)
        total, weights = total + n * z, weights + n
    inputs = normal(400, 8) * 0.9, normal(300, 7), normal(600, 6)
    found = data_copying(*inputs, cells=5, dims=3)
    assert found == pytest.approx(total / weights, rel=1e-3)


def test_copying_is_far_below_zero_and_underfitting_far_above():
    train, test = normal(1000, 9), normal(500, 10)
    assert abs(data_copying(normal(500, 11), test, train, cells=4)) < 2.5
    assert data_copying(train[:500], test, train, cells=4) < -8
    assert data_copying(1.5 * normal(500, 12), test, train, cells=4) > 3


def test_too_few_samples_for_any_cell():
    assert np.isnan(data_copying(normal(9, 0), normal(9, 1), normal(50, 2), cells=2))


def test_duplicates_are_counted_byte_for_byte():
    rows = np.random.default_rng(13).integers(0, 256, (10, 2, 3)).astype(np.uint8)
    assert duplicate_share(rows) == 0.0
    rows[[4, 5]] = rows[3]
    rows[8] = rows[7]
    assert duplicate_share(rows) == 0.5
    assert duplicate_share(np.zeros((4, 3), np.float32)) == 1.0


def test_near_duplicates_are_near_to_each_other():
    reference = normal(2000, 14, dim=4)
    assert nearest_other_ratio(normal(500, 15, 4), reference) == pytest.approx(
        1.0, abs=0.1
    )
    few = np.repeat(normal(100, 16, 4), 5, axis=0) + 1e-3 * normal(500, 17, 4)
    assert nearest_other_ratio(few, reference) < 0.01
