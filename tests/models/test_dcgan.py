import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import configs
from genjax.models.dcgan import DCGANDiscriminator, DCGANGenerator
from genjax.typing import UserError

KEY = jax.random.key(0)


def num_params(net, *inputs):
    variables = jax.eval_shape(lambda: net.init(KEY, *inputs, train=True))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameters_are_those_of_the_pytorch_tutorial_and_biases():
    """Its DCGAN at 64 pixels, nz = 100, prints 3,576,704 and 2,765,568.

    Ours has a bias where no batch norm follows: on the image's 3 channels, on the 64
    features of the first convolution, and on the logit.
    """
    g, d = DCGANGenerator((64, 64, 3)), DCGANDiscriminator()
    assert num_params(g, jnp.zeros((1, 100))) == 3_576_704 + 3
    assert num_params(d, jnp.zeros((1, 64, 64, 3))) == 2_765_568 + 64 + 1


def test_a_collapsed_batch_is_seen_by_minibatch_std_alone():
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    collapsed = jnp.broadcast_to(x[:1], x.shape)
    changes = {}
    for sees in (False, True):
        d = DCGANDiscriminator(channels=4, norm="none", minibatch_std=sees)
        variables = d.init(KEY, x, train=False)
        alone, among = (d.apply(variables, b, train=False)[0] for b in (collapsed, x))
        changes[sees] = float(jnp.abs(alone - among))
    assert changes[False] < 1e-6
    # the weights of the new channel start as N(0, 0.02^2), at 16 places
    assert changes[True] > 1e-3


def test_unknown_norm_is_refused():
    stated = {"experiment": "gan", "model": {"backbone": "dcgan", "d_norm": "layer"}}
    with pytest.raises(UserError, match="d_norm='layer' does not exist; known: batch"):
        configs.complete(stated)


def test_samples_of_a_start_have_the_spread_that_the_noise_gives():
    """Batch norm in each layer: as many channels as the map is wide, no collapse."""
    g = DCGANGenerator((8, 8, 1), channels=16)
    images, _ = g.init_with_output(KEY, jax.random.normal(KEY, (64, 8)), train=True)
    assert np.std(images, axis=0).min() > 0.01
