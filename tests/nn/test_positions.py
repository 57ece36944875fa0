import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.positions import grid, rotate_2d, sincos_2d


def test_grid_goes_row_by_row():
    want = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    np.testing.assert_array_equal(grid(2, 3), want)


def test_sines_and_cosines_by_hand():
    """Frequencies 1 and 1/100: sin, cos of row 2, then of column 3."""
    got = sincos_2d(jnp.array([[2.0, 3.0]]), 8)
    want = [
        0.909297,
        0.019999,
        -0.416147,
        0.9998,
        0.14112,
        0.029996,
        -0.989992,
        0.99955,
    ]
    np.testing.assert_allclose(got[0], want, atol=1e-5)


def heads(seed):
    """One query or key a token, the same at each of 12 places. (1, 12, 2, 8)."""
    one = jax.random.normal(jax.random.key(seed), (1, 1, 2, 8))
    return jnp.broadcast_to(one, (1, 12, 2, 8))


def test_scores_depend_on_the_difference_of_places_only():
    places = grid(3, 4)
    q, k = rotate_2d(heads(0), places), rotate_2d(heads(1), places)
    scores = jnp.einsum("bqnd,bknd->nqk", q, k)
    difference = np.asarray(places[:, None] - places[None, :]).reshape(-1, 2)
    for head in scores.reshape(2, -1):
        seen = {}
        for place, score in zip(map(tuple, difference), np.asarray(head), strict=True):
            np.testing.assert_allclose(score, seen.setdefault(place, score), atol=1e-4)
        assert len(seen) == 5 * 7
        # and they do depend on it: no two of these differences agree
        assert np.diff(np.sort(list(seen.values()))).max() > 0.01


def test_turning_keeps_lengths_and_does_nothing_at_the_origin():
    x = jax.random.normal(jax.random.key(2), (2, 6, 3, 8))
    turned = rotate_2d(x, grid(2, 3))
    np.testing.assert_allclose(
        jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5
    )
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])
    assert rotate_2d(x.astype(jnp.bfloat16), grid(2, 3)).dtype == jnp.bfloat16


def test_a_quarter_of_the_numbers_must_be_whole():
    with pytest.raises(ValueError, match="dim that 4 divides, not 6"):
        rotate_2d(jnp.zeros((1, 1, 1, 6)), jnp.zeros((1, 2)))
