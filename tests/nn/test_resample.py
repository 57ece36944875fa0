import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.resample import downsample, num_halvings, upsample

FILTERS = [(1, 1), (1, 3, 3, 1), (1, 5, 10, 10, 5, 1)]


def image(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def test_one_row_by_hand():
    """A spike of 8 at the second place."""
    spike = jnp.zeros((1, 4, 4, 1)).at[:, :, 1].set(8.0)
    np.testing.assert_allclose(downsample(spike)[0, 0, :, 0], [4, 0])
    row = downsample(spike, (1, 3, 3, 1))[0, 1, :, 0]
    np.testing.assert_allclose(row, [8 * 3 / 8 * 7 / 8, 8 / 8 * 7 / 8])  # 7/8: the edge
    up = upsample(spike, (1, 3, 3, 1))[0, 3, :, 0]
    np.testing.assert_allclose(up, [0, 2, 6, 6, 2, 0, 0, 0])
    np.testing.assert_allclose(upsample(spike)[0, 0, :, 0], [0, 0, 8, 8, 0, 0, 0, 0])


def test_box_is_the_mean_of_four_and_its_repetition():
    x = image(2, 6, 4, 3)
    means = x.reshape(2, 3, 2, 2, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(downsample(x), means, atol=1e-6)
    np.testing.assert_array_equal(upsample(x), x.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("taps", FILTERS)
def test_downsampling_is_a_strided_convolution(taps):
    x = image(2, 8, 6, 1)
    kernel = np.outer(taps, taps)[:, :, None, None] / np.sum(taps) ** 2
    want = jax.lax.conv_general_dilated(
        x,
        jnp.asarray(kernel, jnp.float32),
        (2, 2),
        [(len(taps) // 2 - 1,) * 2] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(downsample(x, taps), want, atol=1e-5)


@pytest.mark.parametrize("taps", FILTERS)
def test_upsampling_is_four_times_the_transpose_of_downsampling(taps):
    x, y = image(1, 8, 6, 2), image(1, 4, 3, 2)
    _, transpose = jax.vjp(lambda x: downsample(x, taps), x)
    np.testing.assert_allclose(upsample(y, taps), 4 * transpose(y)[0], atol=1e-5)


@pytest.mark.parametrize("taps", FILTERS)
def test_a_constant_stays_itself_away_from_the_edges(taps):
    ones = jnp.ones((1, 12, 12, 1))
    np.testing.assert_allclose(downsample(ones, taps)[0, 2:4, 2:4], 1.0, rtol=1e-6)
    np.testing.assert_allclose(upsample(ones, taps)[0, 4:-4, 4:-4], 1.0, rtol=1e-6)
    half = ones.astype(jnp.bfloat16)
    assert downsample(half, taps).dtype == upsample(half, taps).dtype == jnp.bfloat16


def test_misfits_are_refused():
    with pytest.raises(ValueError, match="3x4 cannot be halved"):
        downsample(jnp.ones((1, 3, 4, 1)))
    with pytest.raises(ValueError, match="even number of taps, not 3"):
        upsample(jnp.ones((1, 4, 4, 1)), (1, 2, 1))


def test_number_of_halvings():
    smallest = {8: 4, 14: 7, 28: 7, 32: 4, 48: 6, 64: 4, 128: 4}
    for size, least in smallest.items():
        assert size / 2 ** num_halvings(size, size) == least
    assert num_halvings(32, 24) == 3
    with pytest.raises(ValueError, match="30x30 cannot be halved down to 7"):
        num_halvings(30, 30)
