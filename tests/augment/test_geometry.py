"""Affine maps are tried in tests/diffusion/test_augment.py, on whole movements."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.augment import geometry

IMAGES = jax.random.normal(jax.random.key(1), (2, 5, 7, 2))


def test_flips_reverse_columns_and_rows_of_the_images_named():
    second = jnp.array([False, True])
    x, y = geometry.flip_x(IMAGES, second), geometry.flip_y(IMAGES, second)
    np.testing.assert_array_equal(x[0], IMAGES[0])
    np.testing.assert_array_equal(y[0], IMAGES[0])
    np.testing.assert_array_equal(x[1], IMAGES[1, :, ::-1])
    np.testing.assert_array_equal(y[1], IMAGES[1, ::-1])


def test_shifts_are_numpys_roll_inside_and_mirror_at_the_edges():
    got = geometry.shift(IMAGES, jnp.array([[2, 1], [-3, 0]]))
    np.testing.assert_array_equal(
        got[0, 1:, 2:], np.roll(IMAGES[0], (1, 2), (0, 1))[1:, 2:]
    )
    mirrored = np.pad(IMAGES[0], [(1, 0), (2, 0), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(got[0], mirrored[:5, :7])
    mirrored = np.pad(IMAGES[1], [(0, 0), (0, 3), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(got[1], mirrored[:, 3:])
