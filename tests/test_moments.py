import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.moments import standard_moments, update


def streamed(rows, sizes):
    moments, first = standard_moments(rows.shape[1]), 0
    step = jax.jit(update)
    for size in sizes:
        moments = step(moments, jnp.asarray(rows[first : first + size]))
        first += size
    assert first == len(rows) == moments.num_rows
    return moments


@pytest.mark.parametrize(
    "sizes", [[300], [100] * 3, [1, 2, 297], [297, 2, 1], [7] * 42 + [6], [1] * 300]
)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_batches_of_any_size_give_the_moments_of_all_rows(sizes, offset):
    """Far from 0 too, where raw squares would lose all their digits."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + offset).astype("f4")
    moments = streamed(rows, sizes)
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(moments.mean, wide.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        moments.cov, np.cov(wide.T, ddof=0), rtol=1e-3, atol=1e-3
    )


def test_more_epochs_change_nothing():
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
    one = streamed(rows, [20, 20])
    many = streamed(np.concatenate([rows, rows[::-1], rows]), [30] * 4)
    np.testing.assert_allclose(many.mean, one.mean, atol=1e-6)
    np.testing.assert_allclose(many.cov, one.cov, atol=1e-6)


def test_before_the_first_row_it_is_the_standard_normal():
    moments = standard_moments(3)
    np.testing.assert_array_equal(moments.mean, np.zeros(3))
    np.testing.assert_array_equal(moments.cov, np.eye(3))
