import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.convnet import ConvDecoder, ConvEncoder, Downsampler, Upsampler

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (32, 24, 3), (7, 5, 1)])
def test_encoder_and_decoder_mirror_each_other(shape):
    """Sizes round up on the way down and are cut on the way up."""
    images = jnp.zeros((2, *shape))
    down, up = Downsampler((4, 6), 1), Upsampler((4, 6), shape, 1)
    maps, _ = down.init_with_output(KEY, images)
    assert maps.shape == (2, -(-shape[0] // 4), -(-shape[1] // 4), 6)
    assert up.init_with_output(KEY, maps)[0].shape == images.shape
    code, _ = ConvEncoder((4, 6), 5).init_with_output(KEY, images)
    assert code.shape == (2, 5)


def test_decoder_takes_any_leading_axes():
    decoder = ConvDecoder((4,), (8, 8, 1))
    z = jax.random.normal(KEY, (3, 2, 5))
    images, params = decoder.init_with_output(KEY, z)
    assert images.shape == (3, 2, 8, 8, 1)
    np.testing.assert_allclose(
        images[1, 0], decoder.apply(params, z[1, :1])[0], atol=1e-6
    )
