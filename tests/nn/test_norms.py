import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genjax.nn.norms import GroupNorm, instance_norm, num_groups


@pytest.mark.parametrize("shape", [(2, 5, 3, 12), (3, 12), (2, 7, 12)])
@pytest.mark.parametrize("silu", [False, True])
def test_value_and_gradients_are_those_of_flax(shape, silu):
    x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), shape)
    params = {
        "scale": jax.random.normal(jax.random.key(1), shape[-1:]),
        "bias": jax.random.normal(jax.random.key(2), shape[-1:]),
    }

    def theirs(params, x):
        y = nn.GroupNorm(num_groups=4, epsilon=1e-5).apply({"params": params}, x)
        return nn.silu(y) if silu else y

    def ours(params, x):
        layer = GroupNorm(groups=4, epsilon=1e-5, silu=silu)
        return layer.apply({"params": params}, x)

    y, vjp = jax.vjp(ours, params, x)
    y2, vjp2 = jax.vjp(theirs, params, x)
    dy = jax.random.normal(jax.random.key(3), shape)
    for a, b in zip(
        jax.tree.leaves((y, vjp(dy))), jax.tree.leaves((y2, vjp2(dy))), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_statistics_are_float32_for_bfloat16():
    """2^16 values of mean 1: a bfloat16 sum would stop growing at 256."""
    x = 1.0 + 0.1 * jax.random.normal(jax.random.key(0), (1, 128, 128, 4))
    x = x.astype(jnp.bfloat16)
    layer = GroupNorm(groups=1)
    y = layer.apply(layer.init(jax.random.key(0), x), x)
    assert y.dtype == jnp.bfloat16
    y = np.asarray(y, np.float32)
    np.testing.assert_allclose([y.mean(), y.std()], [0.0, 1.0], atol=1e-2)


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(128, 32), (256, 32), (384, 32), (512, 32), (32, 8), (48, 12), (8, 2), (3, 1)],
)
def test_number_of_groups(channels, groups):
    assert num_groups(channels) == groups


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="6 channels do not divide into 4 groups"):
        GroupNorm(groups=4).init(jax.random.key(0), jnp.zeros((1, 2, 2, 6)))


def test_instance_norm_is_that_of_flax():
    x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
    layer = nn.InstanceNorm(use_bias=False, use_scale=False, epsilon=1e-5)
    np.testing.assert_allclose(
        instance_norm(x), layer.apply({}, x), rtol=1e-4, atol=1e-5
    )
