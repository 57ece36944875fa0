"""The pool of translations that CycleGAN's discriminators see."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.training.image_pool import empty_pool, query

KEY = jax.random.key(0)


def numbered(first, num):
    """Images that are their numbers."""
    numbers = jnp.arange(first, first + num, dtype=jnp.float32)
    return numbers[:, None, None, None]


def test_a_pool_that_is_not_full_keeps_and_shows_all():
    pool = empty_pool(5, (1, 1, 1))
    for first in (1, 3):
        pool, shown = query(pool, numbered(first, 2), KEY)
        np.testing.assert_array_equal(shown, numbered(first, 2))
    np.testing.assert_array_equal(pool.images.ravel(), [1, 2, 3, 4, 0])
    given = numbered(1, 3)
    _, shown = query(empty_pool(0, (1, 1, 1)), given, KEY)
    np.testing.assert_array_equal(shown, given)


def test_a_full_pool_shows_an_old_image_half_the_time():
    """And keeps the new one in the place of the old, and only then."""
    pool, _ = query(empty_pool(50, (1, 1, 1)), numbered(1, 50), KEY)

    def one(pool, i):
        image = jnp.full((1, 1, 1, 1), 51.0 + i)
        after, shown = query(pool, image, jax.random.fold_in(KEY, i))
        return after, (pool.images.ravel(), after.images.ravel(), shown.ravel()[0])

    _, (before, after, shown) = jax.jit(
        lambda pool: jax.lax.scan(one, pool, jnp.arange(4000))
    )(pool)
    given = 51.0 + np.arange(4000)
    old = np.asarray(shown) != given
    assert abs(old.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    changed = np.asarray(before) != np.asarray(after)
    np.testing.assert_array_equal(changed.sum(axis=1), old)
    places = changed[old].argmax(axis=1)
    np.testing.assert_array_equal(np.asarray(before)[old, places], shown[old])
    np.testing.assert_array_equal(np.asarray(after)[old, places], given[old])
    expected = old.sum() / 50
    assert np.sum((np.bincount(places, minlength=50) - expected) ** 2) / expected < 95
    # 49 degrees of freedom: 95 is passed once in ten thousand times


def test_a_batch_is_shown_image_by_image():
    """Its later images may meet its earlier ones in the pool."""
    pool, _ = query(empty_pool(1, (1, 1, 1)), numbered(0, 1), KEY)
    pool, shown = jax.jit(query)(pool, numbered(1, 100), KEY)
    seen = [*np.asarray(shown).ravel(), float(pool.images[0, 0, 0, 0])]
    np.testing.assert_array_equal(np.sort(seen), np.arange(101))  # each one once
