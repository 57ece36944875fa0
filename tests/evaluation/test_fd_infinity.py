import numpy as np
import pytest

from genjax.evaluation.fd_infinity import fd_infinity, over_parts, sizes
from genjax.evaluation.frechet import frechet_from

DIM = 20
FROM_STANDARD = frechet_from(np.zeros(DIM), np.eye(DIM))


def rows(n, shift, seed):
    return shift + np.random.default_rng(seed).normal(size=(n, DIM))


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_bias_is_gone(shift):
    # N(shift, I) against N(0, I) is at 20 shift^2 exactly. Of N rows the mean alone
    # adds 20 / N, the covariance about 20 * 21 / 4 / N: 0.25 at N = 500.
    truth = DIM * shift**2
    plain, infinite = [], []
    for seed in range(10):
        drawn = rows(500, shift, seed)
        plain.append(FROM_STANDARD(drawn.mean(axis=0), np.cov(drawn.T)))
        infinite.append(fd_infinity(FROM_STANDARD, drawn, seed=seed))
    assert np.mean(plain) - truth == pytest.approx((DIM + DIM * 21 / 4) / 500, rel=0.1)
    assert np.mean(infinite) == pytest.approx(truth, abs=0.03)
    assert np.std(infinite) < 0.1


def test_parts_vary_as_sets_of_their_size_do():
    whole = [over_parts(FROM_STANDARD, rows(1000, 0.3, seed)) for seed in range(20)]
    alone = [
        FROM_STANDARD(drawn.mean(axis=0), np.cov(drawn.T))
        for drawn in (rows(200, 0.3, 100 + seed) for seed in range(100))
    ]
    assert np.mean([mean for mean, _ in whole]) == pytest.approx(
        np.mean(alone), rel=0.03
    )
    assert np.mean([std for _, std in whole]) == pytest.approx(np.std(alone), rel=0.2)


def test_sizes_are_those_of_the_paper_where_rows_suffice():
    # 5,000 to 50,000 in 2,048 dimensions is where they begin.
    assert list(sizes(50_000, 2048)[[0, 7, -1]]) == [5000, 27500, 50000]
    assert sizes(2000, 784)[0] == 1000 and sizes(2000, 300)[0] == 600
    with pytest.raises(ValueError, match="take 30 rows, got 29"):
        sizes(29, 2)


def test_rows_that_are_not_finite_have_no_distance():
    broken = rows(60, 0.0, 0)
    broken[3] = np.nan
    assert np.isnan(fd_infinity(FROM_STANDARD, broken))
