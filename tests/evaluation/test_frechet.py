import functools

import numpy as np
import pytest
import scipy.linalg

from genjax.evaluation.frechet import frechet_distance, merge, moments


def random_cov(rng, dim, rank=None):
    factor = rng.normal(size=(dim, rank or 2 * dim))
    return factor @ factor.T / factor.shape[1]


def scipy_distance(mean1, cov1, mean2, cov2):
    """The other form, tr (cov1 cov2)^1/2 by a Schur decomposition."""
    root = np.real(scipy.linalg.sqrtm(cov1 @ cov2))
    return np.sum((mean1 - mean2) ** 2) + np.trace(cov1 + cov2 - 2 * root)


@pytest.mark.parametrize("dim", [1, 3, 40])
def test_equals_the_form_with_scipy_sqrtm(dim):
    rng = np.random.default_rng(dim)
    gaussians = [rng.normal(size=dim), random_cov(rng, dim)] + [
        rng.normal(size=dim),
        random_cov(rng, dim),
    ]
    expected = scipy_distance(*gaussians)
    assert frechet_distance(*gaussians) == pytest.approx(expected, rel=1e-6)


def test_commuting_covariances_have_a_closed_form():
    # Both diagonal in one basis: |dmu|^2 + sum (sqrt a - sqrt b)^2.
    rng = np.random.default_rng(0)
    basis = scipy.linalg.qr(rng.normal(size=(3, 3)))[0]
    cov1 = basis @ np.diag([1.0, 4.0, 9.0]) @ basis.T
    cov2 = basis @ np.diag([4.0, 4.0, 1.0]) @ basis.T
    mean1, mean2 = np.zeros(3), np.array([1.0, 2.0, 2.0])
    expected = 9.0 + (1.0 + 0.0 + 4.0)
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected)


def test_singular_covariances_in_closed_form():
    # Rank one against rank one, orthogonal: the roots share nothing.
    zero = np.zeros(2)
    distance = frechet_distance(zero, np.diag([4.0, 0.0]), zero, np.diag([0.0, 9.0]))
    assert distance == pytest.approx(13.0)


def test_rotation_and_exchange_change_nothing():
    rng = np.random.default_rng(1)
    mean1, mean2 = rng.normal(size=(2, 6))
    cov1, cov2 = random_cov(rng, 6), random_cov(rng, 6)
    turn = scipy.linalg.qr(rng.normal(size=(6, 6)))[0]
    distance = frechet_distance(mean1, cov1, mean2, cov2)
    turned = frechet_distance(
        turn @ mean1, turn @ cov1 @ turn.T, turn @ mean2, turn @ cov2 @ turn.T
    )
    assert turned == pytest.approx(distance, rel=1e-10)
    exchanged = frechet_distance(mean2, cov2, mean1, cov1)
    assert exchanged == pytest.approx(distance, rel=1e-10)


def test_fewer_rows_than_dimensions():
    # scipy's sqrtm is ill-conditioned here, so the reference is the nuclear norm:
    # tr (cov1 cov2)^1/2 = |A B^T|_* / sqrt((n - 1)(m - 1)) for centred rows A, B.
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(10, 50)), 2.0 + rng.normal(size=(12, 50))
    centred = [x - x.mean(axis=0) for x in (a, b)]
    nuclear = np.linalg.norm(centred[0] @ centred[1].T, "nuc") / np.sqrt(9 * 11)
    expected = (
        np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
        + a.var(axis=0, ddof=1).sum()
        + b.var(axis=0, ddof=1).sum()
        - 2 * nuclear
    )
    m1, m2 = moments(a), moments(b)
    distance = frechet_distance(m1.mean, m1.cov, m2.mean, m2.cov)
    assert distance == pytest.approx(expected, rel=1e-6)


def test_equal_gaussians_are_at_distance_zero():
    rng = np.random.default_rng(3)
    mean, cov = rng.normal(size=30), random_cov(rng, 30, rank=5)
    assert frechet_distance(mean, cov, mean, cov) == pytest.approx(0.0, abs=1e-9)


def test_what_is_not_finite_stays_so():
    assert np.isnan(
        frechet_distance(np.zeros(2), np.eye(2), np.array([0, np.nan]), np.eye(2))
    )


def test_moments_are_those_of_numpy():
    rows = np.random.default_rng(4).normal(3.0, 2.0, size=(50, 2, 3))
    result = moments(rows)
    flat = rows.reshape(50, 6)
    assert result.count == 50
    np.testing.assert_allclose(result.mean, flat.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(result.cov, np.cov(flat.T), rtol=1e-12)


@pytest.mark.parametrize("cuts", [[1], [49], [10, 11, 30], list(range(1, 50))])
def test_merging_in_any_chunks_is_one_pass(cuts):
    # A mean of 1e8 on a deviation of 1: raw sums of squares would lose every digit.
    rows = 1e8 + np.random.default_rng(5).normal(size=(50, 3))
    result = functools.reduce(merge, map(moments, np.split(rows, cuts)))
    assert result.count == 50
    np.testing.assert_allclose(result.mean, rows.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(result.cov, np.cov(rows.T), rtol=1e-6, atol=1e-7)


def test_one_row_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        moments(np.zeros((1, 3))).cov  # noqa: B018


def test_mnist_train_against_test_in_raw_pixels(mnist):
    # Computed from the original files with numpy alone, pixels in [0, 1]: 0.332.
    parts = [
        functools.reduce(merge, map(moments, np.array_split(mnist[s] / 255, 20)))
        for s in ("train", "test")
    ]
    distance = frechet_distance(
        parts[0].mean, parts[0].cov, parts[1].mean, parts[1].cov
    )
    assert distance == pytest.approx(0.332, abs=5e-4)


@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("num_rows", [1000, 40])
def test_columns_of_very_different_scales(ratio, num_rows):
    rows = np.random.default_rng(3).normal(size=(num_rows, 64))
    rows[:, 0] *= ratio
    same = moments(rows)
    distance = frechet_distance(same.mean, same.cov, same.mean, same.cov)
    assert abs(distance) <= 1e-6 * np.trace(same.cov) and abs(distance) < 0.05


def test_a_collapse_is_seen_beside_a_large_column():
    """63 columns of variance 1 lost: 63, however large the other column is."""
    rows = np.random.default_rng(3).normal(size=(1000, 64))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0, ddof=1)
    rows[:, 0] *= 1e4
    collapsed = rows * (np.arange(64) == 0)
    x, y = moments(rows), moments(collapsed)
    # what the large column tells of the others by chance is left: below 64 / 1000
    got = frechet_distance(x.mean, x.cov, y.mean, y.cov)
    assert got == pytest.approx(63.0, abs=0.1)
    assert abs(frechet_distance(x.mean, x.cov, x.mean, x.cov)) < 1e-4


def test_a_covariance_of_zero():
    zero = np.zeros(3)
    got = frechet_distance(zero, np.zeros((3, 3)), zero, np.diag([1.0, 2.0, 3.0]))
    assert got == pytest.approx(6.0)
