import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genjax.nn.conv import Conv
from genjax.nn.norms import (
    BATCH_MOMENTUM,
    ConditionalBatchNorm,
    GroupNorm,
    instance_norm,
    minibatch_std,
    num_groups,
    spectral,
)
from genjax.training.sharding import batch_sharding


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


def test_conditional_batch_norm_of_equal_classes_is_batch_norm():
    x = 2.0 + jax.random.normal(jax.random.key(0), (6, 3, 2, 4))
    label, of_class = jnp.arange(6) % 3, ConditionalBatchNorm(3)
    scale, bias = jax.random.normal(jax.random.key(1), (2, 4))
    stats = {"mean": jnp.full(4, 1.5), "var": jnp.full(4, 0.5)}
    table = jnp.ones((3, 1))
    ours = {
        "params": {
            "scale": {"embedding": table * scale[None]},
            "bias": {"embedding": table * bias[None]},
        },
        "batch_stats": {"norm": stats},
    }
    theirs = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
    for train in (True, False):
        layer = nn.BatchNorm(use_running_average=not train, momentum=BATCH_MOMENTUM)
        want, after = layer.apply(theirs, x, mutable=["batch_stats"])
        got, moved = of_class.apply(
            ours, x, label, train=train, mutable=["batch_stats"]
        )
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        jax.tree.map(
            np.testing.assert_array_equal,
            moved["batch_stats"]["norm"],
            after["batch_stats"],
        )
    # another gain for class 1 moves the rows of class 1 alone
    ours["params"]["scale"]["embedding"] = (table * scale[None]).at[1].mul(2.0)
    other = of_class.apply(ours, x, label, train=False)
    changed = np.abs(other - want).max(axis=(1, 2, 3)) > 1e-3
    np.testing.assert_array_equal(changed, label == 1)


def test_statistics_of_a_batch_are_those_of_all_devices(mesh):
    """Each device has rows of another mean: its own statistics would be others."""
    x = jax.random.normal(jax.random.key(0), (8, 2, 2, 3))
    x = x + 5.0 * jnp.arange(8.0)[:, None, None, None]
    layer = ConditionalBatchNorm()

    @jax.jit
    def run(x):
        y, _ = layer.init_with_output(jax.random.key(0), x, None, train=True)
        return y, minibatch_std(x)

    spread = run(jax.device_put(x, batch_sharding(mesh)))
    for a, b in zip(spread, run(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: Conv(5, (3, 3), name="layer"), (2, 6, 6, 4)),
        (lambda: nn.Dense(7, name="layer"), (3, 9)),
    ],
)
def test_spectral_norm_is_the_largest_singular_value_of_numpy(layer, shape):
    class Host(nn.Module):
        @nn.compact
        def __call__(self, x, *, train, enabled=True):
            return spectral(layer(), train=train, enabled=enabled)(x)

    x, host = jax.random.normal(jax.random.key(0), shape), Host()
    variables = host.init(jax.random.key(1), x, train=True)
    params = variables["params"]

    @jax.jit
    def iterate(stats):
        def step(stats, _):
            variables = {"params": params, "batch_stats": stats}
            _, after = host.apply(variables, x, train=True, mutable=["batch_stats"])
            return after["batch_stats"], None

        return jax.lax.scan(step, stats, length=200)[0]

    stats = iterate(variables["batch_stats"])
    variables = {"params": params, "batch_stats": stats}
    kernel = np.asarray(params["layer"]["kernel"])
    largest = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]))[1][0]
    plain = host.apply({"params": params}, x, train=False, enabled=False)
    np.testing.assert_allclose(
        host.apply(variables, x, train=False), plain / largest, rtol=1e-3, atol=1e-4
    )


def test_minibatch_standard_deviation():
    """Rows +a and -a of two features: the deviations |a| of each, and their mean."""
    a = jnp.array([[[[1.0, 3.0]], [[5.0, 7.0]]]])  # (1, 2, 1, 2)
    x = jnp.concatenate([a, -a])
    y = minibatch_std(x)
    assert y.shape == (2, 2, 1, 3)
    np.testing.assert_array_equal(y[..., :2], x)
    np.testing.assert_allclose(y[..., 2], 4.0, rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(minibatch_std(x)))(jnp.ones_like(x))
    assert np.isfinite(slope).all()
