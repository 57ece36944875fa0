import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from genjax.evaluation.kid import kernel_distance, squared_mmd


def sets(dtype=np.float64, shift=0.5):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 16)), shift + rng.normal(size=(250, 16))
    return x.astype(dtype), y.astype(dtype)


@pytest.mark.parametrize(
    "dtype, mean, std, rel",
    [
        (np.float64, 1.1233478048199677, 0.10887411797278213, 1e-9),
        (np.float32, 1.1233477592468262, 0.10887414112746599, 1e-4),
    ],
)
def test_equals_torch_fidelity(dtype, mean, std, rel):
    # torch_fidelity 0.4.0, metric_kid.kid_features_to_metric(x, y, kid_subsets=7,
    # kid_subset_size=100) on these arrays; its draws and its kernel are numpy's.
    found = kernel_distance(*sets(dtype), subsets=7, size=100)
    assert (found.mean, found.std) == pytest.approx((mean, std), rel=rel)
    assert (found.subsets, found.size) == (7, 100)


def test_is_the_mean_over_pairs_of_scikit_learns_kernel():
    x, y = (rows[:60] for rows in sets())
    kernels = [polynomial_kernel(a, b, degree=3) for a, b in ((x, x), (y, y), (x, y))]
    others = ~np.eye(60, dtype=bool)
    expected = kernels[0][others].mean() + kernels[1][others].mean()
    expected -= 2 * kernels[2].mean()
    assert squared_mmd(x, y) == pytest.approx(expected, rel=1e-9)


def test_bytes_are_pixels_by_the_kernels_gamma():
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, 256, (50, 9)).astype(np.uint8) for _ in range(2))
    expected = squared_mmd(x / 255, y / 255)
    assert squared_mmd(x, y, 1 / (9 * 255**2)) == pytest.approx(expected, rel=1e-4)


def test_equal_laws_are_at_zero_on_average():
    rng = np.random.default_rng(2)
    found = [squared_mmd(*rng.normal(size=(2, 30, 4))) for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20
    assert min(found) < 0


def test_one_subset_of_all_rows_knows_no_order():
    x, y = (rows[:100] for rows in sets())
    mixed = np.random.default_rng(3).permutation(x)
    a, b = (kernel_distance(rows, y) for rows in (x, mixed))
    assert a.mean == pytest.approx(b.mean, rel=1e-12)
    assert (a.size, a.subsets, a.std) == (100, 1, None)


def test_a_single_row_is_refused():
    with pytest.raises(ValueError, match="50 subsets of 1 rows"):
        kernel_distance(np.zeros((1, 3)), np.zeros((9, 3)))
