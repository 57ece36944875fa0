from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import configs
from genjax.models.unet import ResBlock, UNet
from genjax.nn.resample import downsample, upsample
from genjax.training.compile import train_compiler_options


def tiny(**changes):
    options = {
        "out_channels": 1,
        "channels": 8,
        "channel_multipliers": (1, 2),
        "num_res_blocks": 1,
        "attention_resolutions": (4,),
    }
    return UNet(**(options | changes))


def awake(net, *inputs, **options):
    """Weights of which none is zero, so that everything shows in the result."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda p: jnp.asarray(0.2 * rng.normal(size=p.shape), p.dtype),
        jax.eval_shape(partial(net.init, **options), jax.random.key(0), *inputs),
    )


DDPMPP = {
    "channel_multipliers": (2, 2, 2),
    "num_res_blocks": 4,
    "resample": "block",
    "up_attention": "last",
    "scale_skips": True,
    "num_augment": 9,
}
NCSNPP = DDPMPP | {
    "time_embedding": "fourier",
    "resample_taps": (1, 3, 3, 1),
    "progressive_input": True,
}


def size_on_cifar(net):
    """The number of parameters; nothing is allocated."""
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, t)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_cifar_network_has_the_published_size():
    """35,746,307: as the network of diffusers' google/ddpm-cifar10-32."""
    assert size_on_cifar(UNet(out_channels=3)) == 35_746_307


def test_ddpmpp_of_edm_has_the_published_size():
    """55.7 million in the paper; 55,733,891 as people count the released network."""
    assert size_on_cifar(UNet(out_channels=3, **DDPMPP)) == 55_733_891


def test_ncsnpp_adds_two_convolutions_and_a_wider_time():
    """By hand: 3x3 from 3 and from 256 channels to 256; 128 more rows of two layers."""
    convolutions = (9 * 3 + 1) * 256 + (9 * 256 + 1) * 256
    wider = 128 * 512 + 128 * 9
    total = size_on_cifar(UNet(out_channels=3, **NCSNPP))
    assert total == 55_733_891 + convolutions + wider


def test_edm_cifar_names_ddpmpp():
    """The config is the network whose size is asserted above, but for its inputs."""
    model = configs.load("edm_cifar").model.to_dict()
    assert model.pop("backbone") == "unet"
    model["dtype"] = jnp.dtype(model["dtype"])
    net = UNet(out_channels=3, num_augment=9, **model)
    assert net == UNet(out_channels=3, dropout=0.13, **DDPMPP)


def parameter_paths(net):
    x, t = jnp.zeros((1, 8, 8, 1)), jnp.zeros(1)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, t)
    return {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }


def test_options_add_to_the_tree_of_ddpm():
    """Old checkpoints load: by default no name and no shape has changed."""
    plain = parameter_paths(tiny())
    names = {name.split("'")[3] for name in plain}
    assert names == {
        *("time0", "time1", "in", "norm_out", "out"),
        *("down0_0", "down0", "down1_0", "down1_0_attention"),
        *("middle_0", "middle_attention", "middle_1"),
        *("up1_0", "up1_0_attention", "up1_1", "up1_1_attention", "up1"),
        *("up0_0", "up0_1"),
    }
    assert plain["['params']['down0']['kernel']"] == (3, 3, 8, 8)
    assert parameter_paths(tiny(scale_skips=True)) == plain
    adaptive = parameter_paths(tiny(adaptive_norm=True))
    assert adaptive.keys() == plain.keys()
    assert {k for k in plain if adaptive[k] != plain[k]} == {
        k for k in plain if "['time']" in k
    }


@pytest.mark.parametrize(
    "changes",
    [
        {
            "resample": "block",
            "resample_taps": (1, 3, 3, 1),
            "up_attention": "last",
            "scale_skips": True,
            "time_embedding": "fourier",
            "progressive_input": True,
        },
        {"adaptive_norm": True, "num_augment": 9, "num_features": 2},
    ],
)
def test_options_act(changes):
    """The result depends on all that the network is given."""
    net = tiny(**changes)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    t = jnp.array([0.2, 0.7])
    label = jnp.array([[1.0, 2.0], [-1.0, 0.5]]) if "num_features" in changes else None
    variables = awake(net, x, t, label)
    apply = jax.jit(
        lambda x, t, label, **more: net.apply(variables, x, t, label, **more)
    )
    out = apply(x, t, label)
    assert out.shape == x.shape
    others = [(x + 0.1, t, label), (x, t + 0.01, label)]
    if label is not None:
        others.append((x, t, label + 0.5))
        told = apply(x, t, label, augment=jnp.eye(9)[:2])
        assert (np.abs(told - out).max(axis=(1, 2, 3)) > 1e-4).all()
        told = apply(x, t, label, augment=jnp.zeros((2, 9)))
        np.testing.assert_allclose(told, out, rtol=1e-4, atol=1e-5)
    for other in others:
        assert (np.abs(apply(*other) - out).max(axis=(1, 2, 3)) > 1e-4).all()


def initialized(block, x, temb):
    init = jax.jit(partial(block.init_with_output, train=False))
    return init(jax.random.key(0), x, temb)


def test_scaled_sums_keep_the_variance():
    """The branch is zero at first: what is left is x / sqrt(2)."""
    x, temb = jax.random.normal(jax.random.key(0), (1, 4, 4, 8)), jnp.ones((1, 8))
    block = ResBlock(8, 0.0, jnp.dtype("float32"), skip_scale=0.5**0.5)
    out, _ = initialized(block, x, temb)
    np.testing.assert_allclose(out, x / np.sqrt(2), rtol=1e-6)


def test_adaptive_norm_scales_and_shifts_what_the_norm_gives():
    """Told scale -1 the branch sees the shift alone: the same at every place."""
    x, temb = jax.random.normal(jax.random.key(0), (1, 4, 4, 8)), jnp.ones((1, 8))
    block = ResBlock(8, 0.0, jnp.dtype("float32"), adaptive_norm=True)
    params = awake(block, x, temb, train=False)["params"]
    bias = jnp.concatenate([-jnp.ones(8), params["time"]["bias"][8:]])
    params["time"] = {"kernel": jnp.zeros((8, 16)), "bias": bias}
    apply = jax.jit(partial(block.apply, train=False))
    out = apply({"params": params}, x, temb) - x
    middle = jnp.broadcast_to(out[:, 1:2, 1:2], (1, 2, 2, 8))
    np.testing.assert_allclose(out[:, 1:3, 1:3], middle, rtol=1e-4, atol=1e-5)


def test_a_block_may_resize():
    x, temb = jax.random.normal(jax.random.key(0), (1, 4, 4, 8)), jnp.ones((1, 8))
    for resize, side in [(downsample, 2), (upsample, 8)]:
        block = ResBlock(8, 0.0, jnp.dtype("float32"), resize)
        out, variables = initialized(block, x, temb)
        assert out.shape == (1, side, side, 8)
        # a zero branch leaves the resized shortcut
        kernel = variables["params"]["shortcut"]["kernel"]
        np.testing.assert_allclose(out, resize(x) @ kernel, rtol=1e-4, atol=1e-5)


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


def test_remat_gives_the_same_gradients_in_less_memory():
    options = {"channel_multipliers": (1, 1), "attention_resolutions": ()}
    keep, again = (tiny(remat=remat, **options) for remat in (False, True))
    x, t = jax.random.normal(jax.random.key(0), (16, 16, 16, 1)), jnp.ones(16)
    variables = awake(keep, x, t)

    def compiled(net):
        def loss(variables):
            streams = {"dropout": jax.random.key(5)}
            out = net.apply(variables, x, t, train=True, rngs=streams)
            return jnp.mean(jnp.square(out))

        lowered = jax.jit(jax.value_and_grad(loss)).lower(variables)
        return lowered.compile(train_compiler_options())

    programs = [compiled(net) for net in (keep, again)]
    (loss, grads), (lean_loss, lean_grads) = (p(variables) for p in programs)
    np.testing.assert_allclose(loss, lean_loss, rtol=1e-6)
    for x, y in zip(jax.tree.leaves(grads), jax.tree.leaves(lean_grads), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5 * np.abs(x).max() + 1e-6)
    kept, needed = (p.memory_analysis().temp_size_in_bytes for p in programs)
    assert needed < 0.7 * kept


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
        ({"num_features": 2}, 4, None, "num_features=2 and no label do not go"),
        ({"resample": "conf"}, 4, None, "resample='conf'.*known: conv, block"),
        ({"time_embedding": "sin"}, 4, None, "known: positional, fourier"),
        ({"up_attention": "all"}, 4, None, "known: each, last"),
    ],
)
def test_misfits_are_refused(changes, size, label, message):
    x = jnp.zeros((1, size, size, 1))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(tiny(**changes).init, jax.random.key(0), x, jnp.zeros(1), label)


def test_augmentation_without_its_input_is_refused():
    x, t = jnp.zeros((1, 4, 4, 1)), jnp.zeros(1)
    net = tiny(channel_multipliers=(1,))
    with pytest.raises(ValueError, match=r"num_augment=0 .* shape \(1, 9\)"):
        jax.eval_shape(
            lambda key: net.init(key, x, t, augment=jnp.zeros((1, 9))),
            jax.random.key(0),
        )
