"""VDM's learned path and its bound, with lambdas for networks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.vdm import Weights, path_of
from genjax.diffusion import continuous
from genjax.nn.embeddings import with_fourier
from genjax.typing import UserError
from tests.experiments.family import (
    KEY,
    POINTS,
    SMALL,
    batch_of,
    build,
    learns_eight_gaussians,
    trained,
)
from tests.specs import DIGITS

# --- the method -----------------------------------------------------------------------


def test_path_between_its_learned_ends():
    """A range below 0 counts as its size, so that the noise always grows."""
    for size in (12.0, -12.0):
        path = path_of(Weights({}, jnp.array(-8.0), jnp.array(size)))
        logsnr = path.logsnr(jnp.array([0.0, 0.5, 1.0]))
        np.testing.assert_allclose(logsnr, [8.0, 2.0, -4.0], rtol=1e-4)


def test_fourier_features_tell_neighbouring_levels_apart():
    """2^n pi x turns by half a circle, then by a whole one, from level to level."""
    x = jnp.linspace(-1.0, 1.0, 17)[:, None]
    features = with_fourier(x, (3, 4))
    assert features.shape == (17, 5)
    np.testing.assert_array_equal(features[:, :1], x)
    np.testing.assert_allclose(features[:, 2], np.cos(np.pi * np.arange(17)), atol=1e-4)
    np.testing.assert_allclose(features[:, 4], 1.0, atol=1e-4)


def test_a_network_of_levels_that_says_nothing_knows_independent_uniform_pixels():
    """64 log 17 nats for any image, whatever the path: the bound loses nothing."""
    path = path_of(Weights({}, jnp.array(-9.0), jnp.array(14.0)))
    denoise = continuous.level_denoiser(
        lambda x, t: jnp.zeros((*x.shape[:-1], 17)), path, 17
    )
    x0 = jax.random.randint(KEY, (200, 8, 8, 1), 0, 17) / 8.0 - 1.0

    @jax.jit
    def nats(x0):
        t_key, key = jax.random.split(KEY)
        t = continuous.antithetic_times(t_key, len(x0))
        options = {"path": path, "num_levels": 17, "key": key}
        return continuous.continuous_bound(denoise, x0, t, **options).nats

    np.testing.assert_allclose(nats(x0).mean(), 64 * math.log(17), rtol=0.02)


def test_logits_of_levels_shift_the_estimate():
    """At noise that hides the pixel, x0_hat is the mean of softmax(logits)."""
    path = path_of(Weights({}, jnp.array(-9.0), jnp.array(29.0)))
    logits = jnp.log(jnp.array([0.5, 0.2, 0.3]))

    def net(x, t):
        return jnp.tile(jnp.roll(logits, 1), (len(x), 2)).at[:, 3:].set(logits)

    x0_hat = continuous.level_denoiser(net, path, 3)(jnp.zeros((1, 2)), jnp.ones(1))
    # levels -1, 0, 1: of the first number 0.2 - 0.3, of the second 0.3 - 0.5
    np.testing.assert_allclose(x0_hat, [[-0.1, -0.2]], atol=1e-3)


# --- the experiment -------------------------------------------------------------------


def test_parts_of_the_bound_and_its_mean_agree():
    """evaluate (one time an example), likelihood and the loss estimate one thing."""
    experiment = build("vdm", POINTS, SMALL | {"likelihood.draws": 8})
    state, batch = jax.jit(experiment.init)(KEY), batch_of(POINTS, 4000)

    @jax.jit
    def all_three(state):
        whole = experiment.likelihood.log_prob(state, batch, KEY)
        _, metrics = experiment.train_step(state, batch, KEY)
        return experiment.evaluate(state, batch, KEY), whole, metrics

    parts, whole, metrics = all_three(state)
    assert set(parts) == {"nats_prior", "nats_diffusion", "nats_decoder"}
    nats = sum(values.mean() for values in parts.values())
    np.testing.assert_allclose(nats, -whole.mean() - 2 * np.log(1.5), rtol=0.05)
    np.testing.assert_allclose(2 * metrics["loss"], nats, rtol=0.1)
    for name, values in parts.items():
        loss = metrics[f"loss_{name[5:]}"]
        np.testing.assert_allclose(2 * loss, values.mean(), rtol=0.1, atol=0.05)


@pytest.mark.slow
def test_learns_eight_gaussians():
    """Both ends of the path are learned too, and reported."""
    learns_eight_gaussians("vdm")
    _, state, metrics = trained("vdm")
    ends = metrics["gamma_min"][-1], metrics["gamma_max"][-1]
    logsnr = path_of(state.params).logsnr(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(logsnr, -jnp.array(ends), rtol=1e-3)
    assert np.abs(jnp.array(ends) - jnp.array([-9.0, 5.0])).min() > 1e-3


def test_levels_are_those_of_the_network():
    """Logits of 17 levels a pixel."""
    state = jax.eval_shape(build("vdm", DIGITS).init, KEY)
    shapes = {leaf.shape[-1] for leaf in jax.tree.leaves(state.params) if leaf.ndim}
    assert 17 in shapes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.prediction": "x0"}, "known: eps, levels"),
        ({"method.prediction": "levels"}, "has no levels: set config.method.predict"),
        (
            {"method.gamma_max": -10.0},
            "-10.0 must be more than config.method.gamma_min",
        ),
        ({"method.fourier_powers": "78"}, "must be a tuple, not '78'"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build("vdm", POINTS, changes)
