import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.dcgan import DCGANDiscriminator
from genjax.models.r3gan import R3GANDiscriminator, R3GANGenerator

KEY = jax.random.key(0)


def num_params(net, *inputs):
    variables = jax.eval_shape(lambda: net.init(KEY, *inputs, train=True))
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_parameters_by_hand_from_the_papers_widths():
    """CIFAR-10: 768 features at 32, 16, 8 and 4 pixels, two blocks each."""
    inner = 2 * 768  # the inverted bottleneck, with groups of 16 channels
    block = 2 * 768 * inner + 9 * 16 * inner + 2 * inner
    hand = 64 * 768 + 4 * 4 * 768 + 8 * block + 3 * 768
    assert num_params(R3GANGenerator((32, 32, 3)), jnp.zeros((1, 64))) == hand
    hand = 3 * 768 + 8 * block + 4 * 4 * 768 + 768
    assert num_params(R3GANDiscriminator(), jnp.zeros((1, 32, 32, 3))) == hand


def test_blocks_start_as_if_they_were_not_there():
    fields = {"widths": (8, 12), "group_size": 8}
    deep, shallow = (R3GANDiscriminator(blocks=b, **fields) for b in ((1, 1), (0, 0)))
    x = jax.random.normal(KEY, (3, 8, 8, 2))
    y, variables = jax.jit(lambda: deep.init_with_output(KEY, x, train=True))()
    rest = {k: v for k, v in variables["params"].items() if "block" not in k}
    assert len(rest) == len(variables["params"]) - 2
    want = jax.jit(lambda v: shallow.apply(v, x, train=True))({"params": rest})
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_initial_weights():
    """L = 16 blocks halve the spread of He's; signals neither vanish nor explode."""
    g = R3GANGenerator((4, 4, 64), widths=(64,), blocks=(16,), group_size=0)
    z = jax.random.normal(KEY, (64, 32))
    block = jax.jit(lambda: g.init(KEY, z, train=True)["params"]["block0_3"])()
    for name, fan_in in (("expand", 64), ("spread", 9 * 128)):
        he = np.sqrt(2.0 / 1.04 / fan_in)
        assert np.std(block[name]["kernel"]) == pytest.approx(0.5 * he, rel=0.05)
    assert not np.any(block["contract"]["kernel"])
    g = R3GANGenerator((4, 4, 64), widths=(256,), blocks=(0,))
    y, _ = jax.jit(lambda: g.init_with_output(KEY, z, train=True))()
    assert np.std(y) == pytest.approx(1.0, rel=0.15)
    d = R3GANDiscriminator(widths=(256,), blocks=(0,))
    y, _ = jax.jit(lambda: d.init_with_output(KEY, y, train=True))()
    assert 0.2 < np.std(y) < 5.0


def table_of(net, x, label):
    params = jax.jit(lambda: net.init(KEY, x, label, train=True)["params"])()
    return params["label"]["embedding"]


def test_initial_weights_of_the_labels():
    z, label = jnp.zeros((1, 4)), jnp.zeros((1,), jnp.int32)
    fields = {"widths": (256,), "blocks": (0,), "num_classes": 50}
    g, d = R3GANGenerator((4, 4, 1), **fields), R3GANDiscriminator(**fields)
    table = table_of(g, z, label)
    assert table.shape == (50, 64)
    assert np.std(table) == pytest.approx(1 / np.sqrt(50), rel=0.05)
    x = jnp.zeros((1, 4, 4, 1))
    table = table_of(d, x, label)
    assert table.shape == (50, 256)  # as wide as its last features
    assert np.std(table) == pytest.approx(1 / np.sqrt(50 * 256), rel=0.05)


def test_fields_that_do_not_fit_are_refused():
    x = jnp.zeros((1, 8, 8, 1))
    for fields, words in [
        ({"widths": (8, 8), "blocks": (1,)}, "one number for each resolution"),
        ({"widths": (8,) * 5, "blocks": (1,) * 5}, "8x8 does not divide by 16"),
        ({"widths": (6,), "blocks": (1,)}, "width 6 times expansion=2 does not"),
    ]:
        with pytest.raises(ValueError, match=words):
            R3GANDiscriminator(**fields).init(KEY, x, train=True)


@pytest.mark.parametrize(
    "net",
    [
        DCGANDiscriminator(channels=4, norm="none"),
        R3GANDiscriminator(widths=(4,), blocks=(1,), group_size=4),
    ],
    ids=["dcgan", "r3gan"],
)
def test_gradient_of_a_gradient_penalty_against_finite_differences(net):
    """In float64, as rectifiers have kinks that a long step would cross."""
    with jax.enable_x64(True):
        x = jax.random.normal(KEY, (2, 8, 8, 1), jnp.float64)
        shapes = jax.eval_shape(lambda: net.init(KEY, x, train=True))
        numbers = np.random.default_rng(0)
        variables, direction = (
            jax.tree.map(lambda leaf: numbers.normal(size=leaf.shape) * 0.3, shapes)
            for _ in range(2)
        )
        stats = {k: v for k, v in variables.items() if k != "params"}

        @jax.jit
        def penalty(params):
            def critic(x):
                return jnp.sum(net.apply(stats | {"params": params}, x, train=False))

            return jnp.sum(jnp.square(jax.grad(critic)(x)))

        def moved(step):
            return penalty(
                jax.tree.map(
                    lambda p, d: p + step * d, variables["params"], direction["params"]
                )
            )

        slope = sum(
            jnp.vdot(g, d)
            for g, d in zip(
                jax.tree.leaves(jax.jit(jax.grad(penalty))(variables["params"])),
                jax.tree.leaves(direction["params"]),
                strict=True,
            )
        )
        difference = (moved(1e-6) - moved(-1e-6)) / 2e-6
        assert abs(slope) > 1e-6
        np.testing.assert_allclose(slope, difference, rtol=1e-6)
