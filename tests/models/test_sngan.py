import jax
import jax.numpy as jnp
import numpy as np

from genjax.models.sngan import SNGANDiscriminator, SNGANGenerator

KEY = jax.random.key(0)


def num_params(net, *inputs):
    variables = jax.eval_shape(lambda: net.init(KEY, *inputs, train=True))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameters_by_hand_from_the_papers_table():
    """Table 4: 32 pixels, noise of 128 numbers, 256 features in G and 128 in D."""
    conv = 9 * 256 * 256 + 256
    up = 2 * 2 * 256 + 2 * conv + (256 * 256 + 256)  # two norms, 3x3, shortcut
    hand = (128 + 1) * 4 * 4 * 256 + 3 * up + 2 * 256 + (9 * 256 * 3 + 3)
    assert num_params(SNGANGenerator((32, 32, 3)), jnp.zeros((1, 128))) == hand
    # with 10 classes, 9 gains and shifts more in each of the 6 norms of the blocks
    classes, label = SNGANGenerator((32, 32, 3), 10), jnp.zeros(1, jnp.int32)
    more = 9 * 6 * 2 * 256
    assert num_params(classes, jnp.zeros((1, 128)), label) == hand + more

    conv = 9 * 128 * 128 + 128
    first = (9 * 3 * 128 + 128) + conv + (3 * 128 + 128)
    second = 2 * conv + (128 * 128 + 128)
    hand = first + second + 2 * (2 * conv) + (128 + 1)
    image = jnp.zeros((1, 32, 32, 3))
    assert num_params(SNGANDiscriminator(), image) == hand
    assert num_params(SNGANDiscriminator(10), image, label) == hand + 10 * 128


def test_the_part_of_the_class_is_its_embedding_times_the_features():
    """Orthogonal embeddings have spectral norm 1, so they are as they were given."""
    net = SNGANDiscriminator(num_classes=4, channels=4)
    x = 100.0 * jax.random.normal(KEY, (4, 8, 8, 1))
    init = jax.jit(lambda: net.init(KEY, x, jnp.arange(4), train=True))
    variables = init()
    head = variables["params"]["out"]
    head["kernel"] = jnp.zeros_like(head["kernel"])  # (1) without psi
    apply = jax.jit(lambda table, label: net.apply(table, x, label, train=False))

    def logits(embedding, label):
        params = variables["params"] | {"label": {"embedding": embedding}}
        return apply(variables | {"params": params}, label)

    features = jnp.stack(
        [logits(jnp.eye(4), jnp.full(4, j)) for j in range(4)], axis=-1
    )
    orthogonal, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (4, 4)))
    label = jnp.array([2, 0, 3, 2])
    told = logits(orthogonal, label)
    assert np.abs(told).max() > 0.1
    np.testing.assert_allclose(
        told, jnp.sum(orthogonal[label] * features, axis=-1), rtol=1e-4, atol=1e-4
    )
