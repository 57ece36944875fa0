"""Between the data and a network: `genjax.inputs` and `genjax.scale`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.inputs import Inputs
from genjax.scale import Scale

KEY = jax.random.key(0)


def test_half_of_the_images_are_mirrored_and_labels_hidden():
    """By the key; one that is symmetric stays what it is."""
    pixels = jnp.array([[0, 8, 16]], jnp.uint8)[:, :, None]  # (1, 3, 1)
    batch = {
        "image": jnp.broadcast_to(pixels, (4000, 1, 3, 1)),
        "label": jnp.full(4000, 2),
    }
    inputs = Inputs(flip=True, label_dropout=0.25)
    x0, label = inputs(KEY, batch, Scale(17), 5)
    left, middle = x0[:, 0, 0, 0], x0[:, 0, 1, 0]
    np.testing.assert_array_equal(np.unique(left), [-1.0, 1.0])
    np.testing.assert_array_equal(x0[:, :, ::-1], -x0)
    np.testing.assert_array_equal(middle, 0.0)
    assert abs((left > 0).mean() - 0.5) < 0.03
    np.testing.assert_array_equal(np.unique(label), [2, 5])
    assert abs((label == 5).mean() - 0.25) < 0.03
    x0, label = Inputs(label_dropout=0.25)(KEY, batch, Scale(17), 0)
    assert label is None and (x0[:, 0, 0] == -1.0).all()


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_pixels_there_and_back(low):
    """The level nearest, those outside at the ends; the width of a level by hand."""
    scale, data = Scale(17, low=low), jnp.arange(17, dtype=jnp.uint8)[None]
    x = scale.to_model(data)
    assert x[0, 0] == low and x[0, -1] == 1.0
    np.testing.assert_array_equal(scale.to_data(x), data)
    np.testing.assert_array_equal(scale.to_data(x + 0.4 * scale.level_width), data)
    np.testing.assert_array_equal(scale.to_data(jnp.array([[-9.0, 9.0]])), [[0, 16]])
    np.testing.assert_allclose(scale.level_width, (1.0 - low) / 16)
    assert scale.log_det(3) == 3 * np.log(scale.level_width)
    assert scale.density_log_det(3) == 0.0


def test_points_there_and_back():
    """The log-determinant is that of the map."""
    scale, data = Scale(0, 1.5), jnp.array([[3.0, -1.0]])
    np.testing.assert_allclose(scale.to_model(data), [[2.0, -2 / 3]], rtol=1e-6)
    np.testing.assert_allclose(scale.to_data(scale.to_model(data)), data, rtol=1e-6)
    jacobian = jax.jacobian(lambda x: scale.to_model(x[None])[0])(data[0])
    log_det = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(scale.density_log_det(2), log_det, rtol=1e-6)
