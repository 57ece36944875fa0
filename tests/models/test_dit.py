import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.dit import DiT, modulated, patchify, unpatchify

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
