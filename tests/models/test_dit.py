import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.dit import (
    DiT,
    modulated,
    patchify,
    stacked,
    unpatchify,
    unstacked,
)
from genjax.training.compile import train_compiler_options
from genjax.training.sharding import make_mesh, state_shardings

SIZES = {  # width, depth, heads: table 1 of the paper
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "XL": (1152, 28, 16),
}
TOKENS = 16 * 16  # of a latent of 32x32 in patches of 2


def tiny(**changes):
    options = {"out_channels": 1, "width": 16, "depth": 1, "num_heads": 2}
    return DiT(**(options | changes))


def awake(net, *inputs):
    """Weights of which none is zero, so that everything shows in the result."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda p: jnp.asarray(0.3 * rng.normal(size=p.shape), p.dtype),
        jax.eval_shape(net.init, jax.random.key(0), *inputs),
    )


# --- size -----------------------------------------------------------------------------


def count(name):
    """Parameters for ImageNet's latents, and twice the channels out (learned sigma).

    Nothing is allocated.
    """
    width, depth, heads = SIZES[name]
    net = DiT(8, width=width, depth=depth, num_heads=heads, num_classes=1000)
    shapes = jax.eval_shape(
        net.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 32, 32, 4), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(("name", "released"), [("S", 32_963_360), ("XL", 675_129_632)])
def test_size_is_that_of_the_released_code(name, released):
    """What its training script prints; that counts the fixed table of positions."""
    assert count(name) + TOKENS * SIZES[name][0] == released


@pytest.mark.parametrize(("name", "millions"), [("B", 130), ("L", 458)])
def test_size_is_that_of_the_paper(name, millions):
    """Table 4, cut to whole millions; with the table of positions."""
    assert abs((count(name) + TOKENS * SIZES[name][0]) / 1e6 - millions) < 0.6


# --- patches --------------------------------------------------------------------------


def test_patches_are_squares_row_by_row():
    x = jnp.arange(24.0).reshape(1, 4, 6, 1)
    tokens = patchify(x, 2)
    assert tokens.shape == (1, 6, 4)
    np.testing.assert_array_equal(tokens[0, 0], [0, 1, 6, 7])
    np.testing.assert_array_equal(tokens[0, 4], [14, 15, 20, 21])


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_unpatchify_undoes_patchify(patch):
    x = jax.random.normal(jax.random.key(0), (3, 8, 4, 5))
    np.testing.assert_array_equal(unpatchify(patchify(x, patch), patch, 8, 4), x)


# --- the function ---------------------------------------------------------------------


def test_starts_at_zero_with_identity_blocks():
    """adaLN-Zero: the result is zero, and no gate lets a block through."""
    net, x, t = tiny(num_classes=3), jnp.ones((1, 4, 4, 1)), jnp.ones(1)
    label = jnp.array([1])
    out, variables = jax.jit(net.init_with_output)(jax.random.key(0), x, t, label)
    np.testing.assert_array_equal(out, jnp.zeros_like(x))
    params = variables["params"]
    layers = params["block0"]["modulation"], params["modulation"], params["out"]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(layers))
    # with the last layers awake, blocks still change nothing
    other = params | {"out": jax.tree.map(jnp.ones_like, params["out"])}
    mlp = jax.tree.map(lambda p: p + 1.0, params["block0"]["mlp1"])
    moved = other | {"block0": params["block0"] | {"mlp1": mlp}}
    apply = jax.jit(net.apply)
    both = [apply({"params": p}, x, t, label) for p in (other, moved)]
    np.testing.assert_array_equal(*both)
    assert np.any(both[0])


def test_modulated_norm_by_hand():
    x = jnp.array([[[1.0, 3.0]]])  # mean 2, standard deviation 1
    shift, scale = jnp.array([[[0.5, 0.5]]]), jnp.array([[[1.0, 2.0]]])
    np.testing.assert_allclose(modulated(x, shift, scale), [[[-1.5, 3.5]]], rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 3},
        {"num_features": 2, "position": "rotary", "qk_norm": True, "num_augment": 9},
    ],
)
def test_depends_on_everything_but_the_other_examples(changes):
    net = tiny(**changes)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    t, classes = jnp.array([0.2, 0.7]), "num_classes" in changes
    label = jnp.array([0, 3]) if classes else jnp.array([[1.0, 2.0], [3.0, -1.0]])
    variables = awake(net, x, t, label)
    apply = jax.jit(lambda *args, **more: net.apply(variables, *args, **more))

    out = apply(x, t, label)
    assert out.shape == x.shape and out.dtype == jnp.float32
    for other in [apply(x, t + 0.1, label), apply(x, t, label[::-1])]:
        assert (np.abs(other - out).max(axis=(1, 2, 3)) > 1e-4).all()
    if "num_augment" in changes:
        told = apply(x, t, label, augment=jnp.eye(9)[:2])
        assert (np.abs(told - out).max(axis=(1, 2, 3)) > 1e-4).all()
    touched = apply(x.at[0, 0, 0].add(1.0), t, label) != out
    assert touched[0].mean() > 0.9 and not touched[1].any()


def permuted(x, order):
    """The image whose patches of 2x2 are those of x in another order."""
    return unpatchify(patchify(x, 2)[:, order], 2, *x.shape[1:3])


@pytest.mark.parametrize("position", ["sincos", "rotary", "none"])
def test_without_positions_patches_are_a_set(position):
    net = tiny(position=position)
    x, t = jax.random.normal(jax.random.key(0), (1, 4, 6, 1)), jnp.array([0.3])
    variables, order = awake(net, x, t), np.array([3, 1, 5, 0, 4, 2])
    apply = jax.jit(lambda x: net.apply(variables, x, t))
    error = np.abs(apply(permuted(x, order)) - permuted(apply(x), order)).max()
    assert error < 1e-4 if position == "none" else error > 1e-2


def test_qk_norm_ignores_the_size_of_queries_and_keys():
    x, t = jax.random.normal(jax.random.key(0), (1, 4, 4, 1)), jnp.array([0.3])
    moved = {}
    for qk_norm in (True, False):
        net = tiny(qk_norm=qk_norm)
        params = awake(net, x, t)["params"]
        block = params["block0"]
        scaled = {
            name: jax.tree.map(lambda p: 10.0 * p, block[name])
            for name in ("query", "key")
        }
        other = params | {"block0": block | scaled}
        apply = jax.jit(net.apply)
        a, b = (apply({"params": p}, x, t) for p in (params, other))
        moved[qk_norm] = np.abs(a - b).max()
    assert moved[True] < 1e-4 < 1e-2 < moved[False]


def test_bfloat16_is_near_float32_and_keeps_its_parameters():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    t, half = jnp.array([0.2, 0.7]), jnp.dtype("bfloat16")
    nets = [
        tiny(position="rotary", qk_norm=True, dtype=d)
        for d in (jnp.dtype("float32"), half)
    ]
    variables = awake(nets[0], x, t)
    wide, narrow = (jax.jit(net.apply)(variables, x, t) for net in nets)
    assert narrow.dtype == jnp.float32
    assert np.abs(wide - narrow).max() < 0.1 * np.abs(wide).max()
    shapes = jax.eval_shape(nets[1].init, jax.random.key(0), x, t)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(shapes))


def test_dropout_acts_in_training_only():
    net = tiny(dropout=0.5)
    x, t = jax.random.normal(jax.random.key(0), (1, 4, 4, 1)), jnp.array([0.2])
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
        ({}, 5, None, "5x5 pixels do not divide into patches of 2"),
        ({"num_heads": 3}, 4, None, "width=16 does not divide into 3 heads"),
        ({"position": "rope"}, 4, None, "position='rope'.*sincos, rotary, none"),
        ({"position": "rotary", "width": 12}, 4, None, "4 divides, not 6"),
        ({"num_classes": 3}, 4, None, "num_classes=3 and no label do not go"),
        ({}, 4, jnp.zeros(1, jnp.int32), "num_classes=0 and a label do not go"),
    ],
)
def test_misfits_are_refused(changes, size, label, message):
    x = jnp.zeros((1, size, size, 1))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(tiny(**changes).init, jax.random.key(0), x, jnp.zeros(1), label)


# --- scale ----------------------------------------------------------------------------


def inputs(size=16, batch=4):
    x = jax.random.normal(jax.random.key(0), (batch, size, size, 1))
    return x, jnp.linspace(0.2, 0.7, batch)


def assert_trees_close(a, b, atol):
    """atol: of values divided by the largest of their array."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        scale = np.abs(x).max() + 1e-6
        np.testing.assert_allclose(x / scale, y / scale, atol=atol)


def dit(scan, remat=False):
    return tiny(width=32, depth=3, num_heads=4, dropout=0.3, scan=scan, remat=remat)


@functools.cache
def one_by_one():
    """Parameters of blocks that are not stacked."""
    return awake(dit(scan=False), *inputs())["params"]


@functools.cache
def trained(scan, remat):
    """(loss, gradients, bytes of work) of a mean of squares."""
    net, (x, t) = dit(scan, remat), inputs()
    params = stacked(one_by_one()) if scan else one_by_one()

    def loss(params):
        streams = {"dropout": jax.random.key(5)}
        out = net.apply({"params": params}, x, t, train=True, rngs=streams)
        return jnp.mean(jnp.square(out))

    lowered = jax.jit(jax.value_and_grad(loss)).lower(params)
    program = lowered.compile(train_compiler_options())
    return *program(params), program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_remat_gives_the_same_gradients_in_less_memory(scan):
    loss, grads, kept = trained(scan, False)
    lean_loss, lean_grads, needed = trained(scan, True)
    np.testing.assert_allclose(loss, lean_loss, rtol=1e-6)
    assert_trees_close(grads, lean_grads, atol=1e-5)
    assert needed < 0.7 * kept


@pytest.mark.parametrize("changes", [{}, {"qk_norm": True, "position": "rotary"}])
def test_blocks_in_a_loop_are_the_unrolled_ones(changes):
    nets = [tiny(depth=3, scan=scan, **changes) for scan in (False, True)]
    x, t = inputs(size=8, batch=2)
    params = awake(nets[0], x, t)["params"]
    stack = stacked(params)
    shapes = jax.eval_shape(nets[1].init, jax.random.key(0), x, t)["params"]
    assert jax.tree.map(jnp.shape, stack) == jax.tree.map(jnp.shape, shapes)
    assert_trees_close(unstacked(stack), params, atol=0)

    outs = [
        jax.jit(net.apply)({"params": p}, x, t)
        for net, p in zip(nets, (params, stack), strict=True)
    ]
    np.testing.assert_allclose(*outs, atol=1e-4)


def test_blocks_in_a_loop_start_and_drop_out_each_on_their_own():
    net, (x, t) = dit(scan=True), inputs(size=8, batch=2)
    params = jax.jit(net.init)(jax.random.key(0), x, t)["params"]
    kernel = params["blocks"]["mlp0"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1])
    assert np.std(kernel[1]) == pytest.approx((2 / (32 + 128)) ** 0.5, rel=0.1)

    @jax.jit
    def dropped(key):
        variables = {"params": stacked(one_by_one())}
        return net.apply(variables, x, t, train=True, rngs={"dropout": key})

    assert not np.allclose(*map(dropped, jax.random.split(jax.random.key(1))))


def test_the_program_of_a_loop_does_not_grow_with_the_depth():
    def length(**options):
        net, (x, t) = tiny(**options), inputs()
        params = jax.eval_shape(net.init, jax.random.key(0), x, t)["params"]

        def loss(params):
            return jnp.sum(net.apply({"params": params}, x, t))

        return len(jax.jit(jax.grad(loss)).lower(params).as_text().splitlines())

    assert length(depth=9, scan=True) == length(depth=2, scan=True)
    assert length(depth=9) > 2.5 * length(depth=2)


@pytest.mark.parametrize("scan", [False, True])
def test_a_device_of_the_tensor_axis_holds_its_share_of_each_block(scan):
    net, (x, t) = dit(scan), inputs(size=8)
    params = stacked(one_by_one()) if scan else one_by_one()
    shardings = state_shardings({"params": params}, make_mesh(1, 2), net.tensor.rules)
    split = jax.device_put(params, shardings["params"])
    block = split["blocks" if scan else "block0"]
    shares = jax.tree.map(lambda leaf: leaf.addressable_shards[0].data.shape, block)
    depth = (3,) if scan else ()
    for name in ("query", "key", "value"):
        assert shares[name] == {"kernel": (*depth, 32, 16), "bias": (*depth, 16)}
    assert shares["mlp0"] == {"kernel": (*depth, 32, 64), "bias": (*depth, 64)}
    assert shares["out"] == {"kernel": (*depth, 16, 32), "bias": (*depth, 32)}
    assert shares["mlp1"] == {"kernel": (*depth, 64, 32), "bias": (*depth, 32)}
    assert shares["modulation"] == {"kernel": (*depth, 32, 96), "bias": (*depth, 96)}
    assert split["in"]["kernel"].is_fully_replicated

    apply = jax.jit(lambda params: net.apply({"params": params}, x, t))
    program = apply.lower(split).compile()
    assert "all-reduce" in program.as_text()  # of the second layer of each pair
    whole = apply(params)
    np.testing.assert_allclose(program(split), whole, atol=1e-4 * np.abs(whole).max())
