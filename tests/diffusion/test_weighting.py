import itertools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import TypeCheckError

from genjax.diffusion import weighting
from genjax.diffusion.denoiser import Quantity, convert, quantity
from tests.diffusion.test_paths import PATHS

T = jnp.array([0.1, 0.3, 0.5, 0.7, 0.9])


@pytest.mark.parametrize("name", ["vp", "cosine", "rectified_flow", "subvp", "edm"])
def test_weighted_errors_of_all_quantities_agree(name):
    """For one x_t and one estimate of x0, told as any of the quantities."""
    path = PATHS[name]
    x0, eps, x0_hat = jax.random.normal(jax.random.key(0), (3, 5, 2))
    xt = path.diffuse(x0, eps, T)

    def error(name):
        truth = quantity(x0, eps, T, path=path, name=name)
        guess = convert(x0_hat, xt, T, path=path, source="x0", target=name)
        return jnp.sum(jnp.square(truth - guess), axis=-1)

    errors = {name: error(name) for name in get_args(Quantity)}
    for source, target in itertools.permutations(errors, 2):
        weight = jnp.array([1.0, 2.0, 0.5, 3.0, 1.0])
        other = weighting.convert_weight(
            weight, T, path=path, source=source, target=target
        )
        np.testing.assert_allclose(
            other * errors[target], weight * errors[source], rtol=2e-2
        )


def weight_at(snr, name, prediction, path="cosine", **options):
    t = PATHS[path].time(jnp.log(jnp.array(snr)))
    return weighting.weight(name, t, path=PATHS[path], prediction=prediction, **options)


@pytest.mark.parametrize(
    ("prediction", "snr", "want"),
    [
        ("x0", 20.0, 5.0),
        ("x0", 2.0, 2.0),
        ("eps", 20.0, 5 / 20),
        ("eps", 2.0, 1.0),
        ("v", 20.0, 5 / 21),
        ("v", 2.0, 2 / 3),
    ],
)
def test_min_snr_as_the_paper_has_it(prediction, snr, want):
    """min(SNR, 5), min(SNR, 5) / SNR and min(SNR, 5) / (SNR + 1)."""
    for path in ("vp", "cosine"):
        weight = weight_at(snr, "min_snr", prediction, path)
        np.testing.assert_allclose(weight, want, rtol=1e-3)
    np.testing.assert_allclose(
        weight_at(20.0, "min_snr", "x0", min_snr_gamma=7.0), 7.0, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("prediction", "bias", "snr", "want"),
    [
        ("eps", 0.0, 3.0, 1 / 4),
        ("v", 0.0, 3.0, 1 / 4 * 3 / 4),  # alpha^2 = 3/4
        ("x0", 0.0, 3.0, 3 / 4),
        ("eps", 2.0, np.exp(2.0), 1 / 2),
        ("x0", 2.0, np.exp(2.0), np.exp(2.0) / 2),
    ],
)
def test_sigmoid_by_hand(prediction, bias, snr, want):
    weight = weight_at(snr, "sigmoid", prediction, sigmoid_bias=bias)
    np.testing.assert_allclose(weight, want, rtol=1e-3)


def test_rectified_flow_by_hand():
    """Half-way the SNR is 1, and the velocity's error is twice that of x0."""
    half = jnp.array(0.5)
    options = {"path": PATHS["rectified_flow"], "prediction": "velocity"}
    min_snr = weighting.weight("min_snr", half, **options)
    np.testing.assert_allclose(min_snr, 1 / 4, rtol=1e-5)
    sigmoid = weighting.weight("sigmoid", half, sigmoid_bias=0.0, **options)
    np.testing.assert_allclose(sigmoid, 1 / 8, rtol=1e-5)


@pytest.mark.parametrize("name", weighting.WEIGHTINGS)
def test_times_that_are_drawn_at_the_ends_weigh_something_finite(name):
    ends = weighting.weight(
        name,
        jnp.array([0.0, 1e-7, 1.0]),
        path=PATHS["rectified_flow"],
        prediction="velocity",
    )
    assert (np.isfinite(ends) & (ends >= 0.0)).all()


def test_simple_is_one_for_what_is_predicted():
    np.testing.assert_array_equal(weight_at([3.0, 20.0], "simple", "v"), 1.0)


def test_unknown_weighting_is_named():
    # a TypeCheckError where the shape checks of the tests see it first
    with pytest.raises((ValueError, TypeCheckError), match="'min-snr'"):
        weight_at(1.0, "min-snr", "eps")


# --- learned --------------------------------------------------------------------------


def log_mean_loss(logsnr):
    """As of a denoiser: 0 at the noisy end, falling to -6."""
    return -6.0 * jax.nn.sigmoid(0.5 * logsnr)


def test_learned_uncertainty_becomes_the_log_of_the_mean_loss():
    """Losses are drawn with chi-squared noise; to a tenth of a nat at every level."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 1500))

    def objective(weights, key):
        level_key, loss_key = jax.random.split(key)
        logsnr = jax.random.uniform(level_key, (256,), minval=-10.0, maxval=15.0)
        noise = jnp.square(jax.random.normal(loss_key, (256,)))
        loss = jnp.exp(log_mean_loss(logsnr)) * noise
        u = weighting.uncertainty(weights, logsnr)
        return weighting.uncertain(loss, u).mean()

    def step(carry, key):
        weights, state = carry
        updates, state = optimizer.update(jax.grad(objective)(weights, key), state)
        return (optax.apply_updates(weights, updates), state), None

    weights = weighting.initial_uncertainty()
    keys = jax.random.split(jax.random.key(1), 1500)
    run = jax.jit(lambda w: jax.lax.scan(step, (w, optimizer.init(w)), keys)[0][0])
    weights = run(weights)
    logsnr = jnp.linspace(-9.0, 14.0, 50)
    u = weighting.uncertainty(weights, logsnr)
    np.testing.assert_allclose(u, log_mean_loss(logsnr), atol=0.15)


def test_uncertainty_starts_at_nothing_and_stays_constant_beyond_its_range():
    logsnr = jnp.array([-1000.0, -20.0, 0.25, 20.0, 1000.0])
    weights = weighting.initial_uncertainty()
    np.testing.assert_array_equal(weighting.uncertainty(weights, logsnr), 0.0)
    weights = weights.at[0].set(1.0).at[20].set(2.0).at[-1].set(3.0)
    u = weighting.uncertainty(weights, logsnr)
    np.testing.assert_allclose(u, [1.0, 1.0, 1.5, 3.0, 3.0], rtol=1e-6)
