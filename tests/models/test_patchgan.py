"""The networks of CycleGAN against their published sizes and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.patchgan import (
    UP_PADDING,
    PatchDiscriminator,
    ResNetGenerator,
    reflect,
)
from genjax.nn.conv import conv
from genjax.nn.conv_transpose import conv_transpose

KEY = jax.random.key(0)


def count(network, shape):
    params = jax.eval_shape(network.init, KEY, jnp.zeros(shape))["params"]
    return sum(p.size for p in jax.tree.leaves(params))


def test_the_generator_has_its_published_size():
    """11.378 M with the biases that instance normalisation removes."""
    without_effect = 64 + 128 + 256 + 18 * 256 + 128 + 64
    size = count(ResNetGenerator(), (1, 64, 64, 3))
    assert size + without_effect == 11_378_179


def test_the_discriminator_has_its_published_size():
    """2.765 M, likewise."""
    size = count(PatchDiscriminator(), (1, 70, 70, 3))
    assert size + 128 + 256 + 512 == 2_764_737


@pytest.mark.parametrize(
    ("channels", "field"), [((2, 2, 2, 2), 70), ((2, 2, 2), 34), ((2, 2), 16)]
)
def test_a_logit_sees_a_patch_of_its_size(channels, field, monkeypatch):
    # the normalisation looks at the whole image: without it the patch is what is left
    monkeypatch.setattr("genjax.models.patchgan.instance_norm", lambda x: x)
    network, side = PatchDiscriminator(channels), 2 * field
    x = jax.random.normal(KEY, (1, side, side, 1))
    params = network.init(KEY, x)

    def middle(x):
        logits = network.apply(params, x)
        return logits[0, logits.shape[1] // 2, logits.shape[2] // 2]

    seen = np.asarray(jax.jit(jax.grad(middle))(x))[0, :, :, 0] != 0
    assert seen.any(axis=0).sum() == seen.any(axis=1).sum() == field


def test_up_is_the_transpose_of_down():
    """<down(x), y> = <x, up(y)> with the kernel turned, as in torch's pair."""
    keys = jax.random.split(KEY, 3)
    x = jax.random.normal(keys[0], (1, 8, 8, 2))
    y = jax.random.normal(keys[1], (1, 4, 4, 3))
    kernel = jax.random.normal(keys[2], (3, 3, 2, 3))
    down = conv(x, kernel, strides=(2, 2), padding=((1, 1), (1, 1)))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    up = conv_transpose(y, turned, strides=(2, 2), padding=UP_PADDING)
    np.testing.assert_allclose(jnp.vdot(down, y), jnp.vdot(x, up), rtol=1e-5)


def test_an_image_stays_in_range_and_a_row_is_its_own():
    network = ResNetGenerator(channels=4, num_downs=2, num_blocks=1)
    x = jax.random.uniform(KEY, (3, 12, 8, 1), minval=-1.0)
    params = network.init(KEY, x)
    out = jax.jit(network.apply)(params, x)
    assert out.shape == x.shape and float(jnp.abs(out).max()) < 1.0
    other = jax.jit(network.apply)(params, x.at[1:].set(x[0]))
    np.testing.assert_allclose(out[0], other[0], atol=1e-6)


def test_a_border_is_mirrored_without_the_edge():
    x = jnp.arange(4.0)[None, None, :, None] * jnp.ones((1, 4, 1, 1))
    np.testing.assert_array_equal(reflect(x, 2)[0, 0, :, 0], [2, 1, 0, 1, 2, 3, 2, 1])
