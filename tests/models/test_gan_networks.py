"""What experiments/gan.py may rely on, of every pair of networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.dcgan import DCGANDiscriminator, DCGANGenerator
from genjax.models.r3gan import R3GANDiscriminator, R3GANGenerator
from genjax.models.sngan import SNGANDiscriminator, SNGANGenerator

KEY = jax.random.key(0)
SMALL = {"widths": (8, 16), "blocks": (1, 1), "group_size": 16, "class_dim": 4}
GENERATORS = {
    "dcgan": lambda **fields: DCGANGenerator(channels=4, **fields),
    "sngan": lambda **fields: SNGANGenerator(channels=8, **fields),
    "r3gan": lambda **fields: R3GANGenerator(**SMALL, **fields),
}
DISCRIMINATORS = {
    "dcgan": lambda **fields: DCGANDiscriminator(channels=4, **fields),
    "dcgan_spectral": lambda **fields: DCGANDiscriminator(
        channels=4, norm="none", spectral=True, **fields
    ),
    "sngan": lambda **fields: SNGANDiscriminator(channels=8, **fields),
    "r3gan": lambda **fields: R3GANDiscriminator(**SMALL, **fields),
}


@pytest.mark.parametrize(
    "net",
    [make(shape=(8, 8, 2), num_classes=3) for make in GENERATORS.values()]
    + [make(num_classes=3) for make in DISCRIMINATORS.values()],
    ids=[f"{n}_g" for n in GENERATORS] + [f"{n}_d" for n in DISCRIMINATORS],
)
def test_statistics_move_in_training_only_and_then_rows_are_alone(net):
    is_generator = hasattr(net, "shape")
    shape = (4, 5) if is_generator else (4, 16, 16, 2)
    x, label = jax.random.normal(jax.random.key(1), shape), jnp.arange(4) % 3
    companions = x.at[1:].multiply(3.0), label.at[1:].add(1) % 3  # of the same row 0

    @jax.jit
    def run():
        trained, variables = net.init_with_output(KEY, x, label, train=True)
        _, updates = net.apply(variables, x, label, train=True, mutable=["batch_stats"])
        y = net.apply(variables, x, label, train=False)
        others = net.apply(variables, *companions, train=False)
        return variables, updates, trained, y, others

    variables, updates, trained, y, others = run()
    assert y.shape == ((4, 8, 8, 2) if is_generator else (4,))
    assert y.dtype == jnp.float32
    if is_generator and not isinstance(net, R3GANGenerator):  # a tanh
        assert max(np.abs(trained).max(), np.abs(y).max()) <= 1.0

    before, after = (v.get("batch_stats", {}) for v in (variables, updates))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
    has_state = not isinstance(net, R3GANGenerator | R3GANDiscriminator)
    assert any(jax.tree.leaves(moved)) == has_state

    np.testing.assert_allclose(y[0], others[0], rtol=1e-5, atol=1e-6)
    assert np.abs(y[1:] - others[1:]).max() > 1e-4  # and the class is heard


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 64, 3), (8, 16, 1)])
@pytest.mark.parametrize("name", ["dcgan", "sngan", "r3gan"])
def test_sizes(name, shape):
    """Without running them. Packs lie along the channels."""
    g, d = GENERATORS[name](shape=shape), DISCRIMINATORS[name]()
    images, _ = jax.eval_shape(
        lambda: g.init_with_output(KEY, jnp.zeros((2, 5)), train=True)
    )
    assert images.shape == (2, *shape)
    packs = jnp.zeros((2, *shape[:2], 2 * shape[2]))
    logits, _ = jax.eval_shape(lambda: d.init_with_output(KEY, packs, train=True))
    assert logits.shape == (2,)


@pytest.mark.parametrize("name", ["dcgan", "sngan", "r3gan"])
def test_labels_and_sizes_that_do_not_fit_are_refused(name):
    g, d = GENERATORS[name], DISCRIMINATORS[name]

    def trace(net, *inputs):
        jax.eval_shape(lambda: net.init(KEY, *inputs, train=True))

    z, label = jnp.zeros((1, 5)), jnp.zeros(1, jnp.int32)
    for net, x in ((g(shape=(8, 8, 1)), z), (d(), jnp.zeros((1, 8, 8, 1)))):
        with pytest.raises(ValueError, match="num_classes=0 and a label do not go"):
            trace(net, x, label)
    with pytest.raises(ValueError, match="num_classes=2 and no label do not go"):
        trace(g(shape=(8, 8, 1), num_classes=2), z)
    with pytest.raises(ValueError, match="15x15"):
        trace(g(shape=(15, 15, 1)), z)
    with pytest.raises(ValueError, match="15x15"):
        trace(d(), jnp.zeros((1, 15, 15, 1)))
