import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.augment.jitter import Crops, jitter
from genjax.typing import UserError
from tests.specs import of_images

KEY = jax.random.key(0)
SPEC = of_images("domains", (2, 8, 8, 1), num_levels=17)


def test_flips_are_per_image_and_fair():
    x = jnp.broadcast_to(jnp.arange(3.0)[None, None, :, None], (2000, 1, 3, 1))
    flipped = np.asarray(Crops(flip=True)(KEY, x))[:, 0, :, 0]
    mirrored = flipped[:, 0] == 2
    np.testing.assert_array_equal(flipped[mirrored], [[2, 1, 0]] * mirrored.sum())
    np.testing.assert_array_equal(flipped[~mirrored], [[0, 1, 2]] * (~mirrored).sum())
    assert abs(mirrored.mean() - 0.5) < 0.05
    assert Crops()(KEY, x) is x


def test_jitter_cuts_a_random_part_of_the_larger_image():
    ramp = jnp.linspace(-0.5, 0.5, 16)
    x = jnp.broadcast_to(ramp[None, :, None, None], (200, 16, 16, 1))
    out = np.asarray(Crops(resize=24)(KEY, x))
    assert out.shape == x.shape
    np.testing.assert_allclose(out.std(axis=2), 0.0, atol=1e-6)  # constant across
    np.testing.assert_allclose(np.diff(out[:, 3:-3, 0, 0]), 1 / 15 / 1.5, rtol=0.1)
    assert len(np.unique(out[:, 8, 0, 0].round(4))) == 9  # corners 0 ... 8
    np.testing.assert_allclose(jitter(KEY, x, 16), x, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (2, 4, 8, 1)])
def test_a_size_that_the_images_do_not_fit_in(shape):
    spec = dataclasses.replace(SPEC, shape=shape)
    with pytest.raises(UserError, match="resize=6 must be None, or the side of a sq"):
        Crops(resize=6).fitting(spec)
