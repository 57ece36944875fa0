import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.unet import UNet


def tiny(**changes):
    options = {
        "out_channels": 1,
        "channels": 8,
        "channel_multipliers": (1, 2),
        "num_res_blocks": 1,
        "attention_resolutions": (4,),
    }
    return UNet(**(options | changes))


def awake(net, *inputs):
    """Weights of which none is zero, so that everything shows in the result."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda p: jnp.asarray(0.2 * rng.normal(size=p.shape), p.dtype),
        jax.eval_shape(net.init, jax.random.key(0), *inputs),
    )


def test_cifar_network_has_the_published_size():
    """35,746,307: as the network of diffusers' google/ddpm-cifar10-32."""
    net, x = UNet(out_channels=3), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, t)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 35_746_307


def test_starts_at_zero():
    net, x, t = tiny(channel_multipliers=(1,)), jnp.ones((1, 4, 4, 1)), jnp.ones(1)
    out, _ = jax.jit(net.init_with_output)(jax.random.key(0), x, t)
    np.testing.assert_array_equal(out, jnp.zeros_like(x))


def test_depends_on_everything_but_the_other_examples():
    net = tiny(num_classes=3)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    t, label = jnp.array([0.2, 0.7]), jnp.array([0, 3])
    variables = awake(net, x, t, label)
    apply = jax.jit(net.apply)

    out = apply(variables, x, t, label)
    assert out.shape == x.shape and out.dtype == jnp.float32
    for other in [(x, t + 0.1, label), (x, t, jnp.array([1, 2]))]:
        moved = np.abs(apply(variables, *other) - out).max(axis=(1, 2, 3))
        assert (moved > 1e-4).all()
    # one pixel reaches all places: the middle attends everywhere
    touched = apply(variables, x.at[0, 0, 0].add(1.0), t, label) != out
    assert touched[0].all() and not touched[1].any()


def test_three_levels_fit_28_pixels_in_bfloat16():
    net = tiny(
        channel_multipliers=(1, 1, 1),
        attention_resolutions=(7,),
        dtype=jnp.dtype("bfloat16"),
    )
    x, t = jnp.zeros((2, 28, 28, 1)), jnp.zeros(2)
    out, variables = jax.eval_shape(net.init_with_output, jax.random.key(0), x, t)
    assert out.shape == x.shape and out.dtype == jnp.float32
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))


def test_bfloat16_is_near_float32():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    t = jnp.array([0.2, 0.7])
    nets = [
        tiny(dtype=jnp.dtype(name), channel_multipliers=(1,))
        for name in ("float32", "bfloat16")
    ]
    variables = awake(nets[0], x, t)
    wide, narrow = (jax.jit(net.apply)(variables, x, t) for net in nets)
    assert np.abs(wide - narrow).max() < 0.1 * np.abs(wide).max()


def test_dropout_acts_in_training_only():
    net = tiny(dropout=0.5, channel_multipliers=(1,))
    x, t = jax.random.normal(jax.random.key(0), (2, 4, 4, 1)), jnp.array([0.2, 0.7])
    variables = awake(net, x, t)

    @jax.jit
    def both(key):
        dropped = net.apply(variables, x, t, train=True, rngs={"dropout": key})
        return net.apply(variables, x, t), dropped

    still, moved = both(jax.random.key(2))
    still_again, moved_again = both(jax.random.key(3))
    np.testing.assert_array_equal(still, still_again)
    assert not np.allclose(still, moved) and not np.allclose(moved, moved_again)


@pytest.mark.parametrize(
    ("changes", "size", "label", "message"),
    [
        ({"channel_multipliers": (1, 1, 1)}, 6, None, "6x6 does not divide by 4"),
        ({"num_classes": 3}, 4, None, "num_classes=3 and no label do not go"),
        ({}, 4, jnp.zeros(1, jnp.int32), "num_classes=0 and a label do not go"),
    ],
)
def test_misfits_are_refused(changes, size, label, message):
    x = jnp.zeros((1, size, size, 1))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(tiny(**changes).init, jax.random.key(0), x, jnp.zeros(1), label)
