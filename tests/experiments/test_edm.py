"""EDM's loss, preconditioning and weights, with lambdas for networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from experiments.edm import Method, error_of, in_unit_time
from genjax.diffusion import paths
from genjax.diffusion.preconditioning import (
    ErrorWeighting,
    precondition,
    preconditioned,
)
from genjax.diffusion.weighting import initial_uncertainty
from genjax.typing import UserError
from tests.experiments.family import (
    KEY,
    POINTS,
    SMALL,
    batch_of,
    build,
    learns_eight_gaussians,
    random_state,
    sampler,
)
from tests.specs import DIGITS

PATH = paths.edm(80.0)
SIGMAS = jnp.array([0.002, 0.1, 0.5, 3.0, 80.0])


# --- preconditioning ------------------------------------------------------------------


def test_preconditioning_by_hand():
    """sigma 4 and sigma_data 3: a triangle of sides 3, 4 and 5."""
    c = precondition(jnp.array(4.0), 3.0)
    np.testing.assert_allclose(c.skip, 9 / 25, rtol=1e-6)
    np.testing.assert_allclose(c.out, 12 / 5, rtol=1e-6)
    np.testing.assert_allclose(c.scale, 1 / 5, rtol=1e-6)
    np.testing.assert_allclose(c.noise, 0.34657359, rtol=1e-6)  # log(2) / 2


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_input_and_target_have_unit_variance_at_every_sigma(sigma_data):
    """Whatever the data's law: here two points, at plus and minus sigma_data."""
    sign_key, eps_key = jax.random.split(KEY)
    shape = (len(SIGMAS), 100_000)
    x0 = sigma_data * jax.random.rademacher(sign_key, shape, jnp.float32)
    x = x0 + SIGMAS[:, None] * jax.random.normal(eps_key, shape)
    c = precondition(SIGMAS[:, None], sigma_data)
    np.testing.assert_allclose((c.scale * x).var(axis=1), 1.0, rtol=0.02)
    target = (x0 - c.skip * x) / c.out
    np.testing.assert_allclose(target.var(axis=1), 1.0, rtol=0.02)


def test_denoiser_of_a_gaussian():
    """x0 ~ N(m, s^2) needs F = m sigma / (s sqrt(s^2 + sigma^2)), and no x.

    So the network's task is a constant of at most m / s; the mean given x is Bayes'.
    """
    m, s = 0.8, 0.6

    def net(_, noise):
        sigma = jnp.exp(4.0 * noise)[:, None]
        return m * sigma / (s * jnp.sqrt(s**2 + sigma**2)) * jnp.ones((1, 2))

    x = jax.random.normal(KEY, (5, 2)) * SIGMAS[:, None]
    got = preconditioned(net, PATH, s)(x, SIGMAS / 80.0)
    gain = s**2 / (s**2 + SIGMAS[:, None] ** 2)
    np.testing.assert_allclose(got, m + gain * (x - m), rtol=2e-4, atol=1e-5)


def test_the_network_sees_times_between_0_and_1():
    """By hand: sigma = 1 is the middle."""
    net = in_unit_time(lambda x, t: t)
    t = net(None, precondition(jnp.array([0.002, 1.0, 80.0]), 0.5).noise)
    np.testing.assert_allclose(t, [0.1116, 0.5, 0.7739], atol=1e-4)


# --- the loss -------------------------------------------------------------------------


def test_the_truth_has_no_loss():
    """Data at 0: x = sigma eps, so that F must be -sigma_data / sigma times its input.

    sigma = exp(4 (4 t - 2)) for a network of times in [0, 1].
    """
    method = Method(sigma_data=0.7)

    def net(x, t):
        return -method.sigma_data / jnp.exp(4.0 * (4.0 * t - 2.0))[:, None] * x

    error, _ = error_of(net, jnp.zeros((400, 2)), KEY, method)
    np.testing.assert_allclose(error, 0.0, atol=1e-4)


def test_a_network_that_answers_nothing_is_right_for_a_gaussian_around_zero():
    """Its error is 1 there; and log sigma is as normal as it should be."""
    method = Method(sigma_data=0.5, p_mean=-0.7, p_std=1.1)
    x0 = 0.5 * jax.random.normal(jax.random.key(1), (20_000, 2))
    error, sigma = error_of(lambda x, t: jnp.zeros_like(x), x0, KEY, method)
    np.testing.assert_allclose(error.mean(), 1.0, rtol=0.03)
    quantiles = np.quantile(np.log(sigma), [0.1, 0.5, 0.9])
    want = norm.ppf([0.1, 0.5, 0.9], -0.7, 1.1)
    np.testing.assert_allclose(quantiles, want, atol=0.05)


@pytest.mark.parametrize(
    ("name", "weight"),
    [("edm", 1.0), ("min_snr", 4 * 0.125), ("sigmoid", 1 / 5 * 4 * 0.125)],
)
def test_weighted_error(name, weight):
    """By hand at sigma = sigma_data = 1/2: SNR 4, c_out^2 1/8."""
    weighting = ErrorWeighting(name=name, sigmoid_bias=0.0)
    error = jnp.array([2.0, 3.0])
    got = weighting(error, jnp.full(2, 0.5), path=PATH, sigma_data=0.5)
    np.testing.assert_allclose(got, weight * error, rtol=1e-4)


def test_learned_weights_by_hand():
    """u is 0 at first; where it is log 2 the error is halved, and log 2 added."""
    weighting, error = ErrorWeighting(name="learned"), jnp.array([2.0, 3.0])
    options = {"path": PATH, "sigma_data": 0.5}
    u = initial_uncertainty()
    got = weighting(error, jnp.ones(2), **options, uncertainty=u)
    np.testing.assert_allclose(got, error)
    got = weighting(error, jnp.ones(2), **options, uncertainty=u + np.log(2))
    np.testing.assert_allclose(got, error / 2 + np.log(2), rtol=1e-5)


def test_the_uncertainty_is_trained_and_has_no_say_in_sampling():
    """At u = 0 it falls where the error is below 1 on average, else rises."""
    changes = {"method.weighting.name": "learned", "optim.warmup_steps": 0}
    changes |= {"method.p_mean": 2.0, "method.p_std": 1e-6}  # at a log-SNR of -4
    changes |= {"method.sigma_data": 0.5}
    experiment = build("edm", POINTS, SMALL | changes)
    state = jax.jit(experiment.init)(KEY)
    after, _ = jax.jit(experiment.train_step)(state, batch_of(POINTS, 512), KEY)
    moved = np.asarray(after.params["uncertainty"])
    # F = 0 is too small for data wider than sigma_data
    assert moved[16] > 0, "at the node of -4"
    np.testing.assert_array_equal(np.delete(moved, [15, 16, 17]), 0.0)

    @jax.jit
    def denoised(params):
        return experiment.diffusion.denoise(params, None)(
            jnp.ones((3, 2)), jnp.asarray(0.1)
        )

    other = {**state.params, "uncertainty": after.params["uncertainty"]}
    untold = denoised(state.params)
    np.testing.assert_array_equal(denoised(other), untold)
    assert (denoised(after.params) != untold).any()
    plain = jax.eval_shape(build("edm", POINTS, SMALL).init, KEY)
    assert "uncertainty" not in plain.params


# --- the experiment -------------------------------------------------------------------


@pytest.mark.slow
def test_learns_eight_gaussians():
    learns_eight_gaussians("edm")


@pytest.mark.parametrize("method", ["ode", "bound"])
def test_an_untrained_model_is_a_gaussian(method):
    """F = 0 is the model N(0, (sigma_data point_scale)^2); so is the data here."""
    changes = {"method.sigma_data": 0.5, "likelihood.method": method}
    experiment = build("edm", POINTS, SMALL | changes | {"sampler.num_steps": 40})
    points = 0.75 * jax.random.normal(jax.random.key(1), (1000, 2))
    state = jax.jit(experiment.init)(KEY)
    log_prob = jax.jit(experiment.likelihood.log_prob)
    got = log_prob(state, {"image": points}, KEY)
    want = norm.logpdf(np.asarray(points), scale=0.75).sum(axis=1)
    if method == "ode":
        np.testing.assert_allclose(got, want, rtol=5e-3, atol=0.02)
        samples = sampler(experiment)(state, KEY, 4000)
        np.testing.assert_allclose(samples.std(axis=0), 0.75, rtol=0.04)
    else:
        away = got - want
        assert abs(away.mean()) < 4 * away.std() / np.sqrt(1000) + 1e-3


def augmented():
    model = {"backbone": "dit", "patch": 2, "width": 16, "depth": 1, "num_heads": 2}
    changes = {"method.augment_probability": 0.5, "optim.warmup_steps": 0}
    return build("edm", DIGITS, changes | {"model": model, "inputs.flip": True})


def test_the_network_takes_how_images_were_moved():
    """Traced, not run; sampling gives no vector."""
    experiment = augmented()
    state, batch = jax.eval_shape(lambda: (experiment.init(KEY), batch_of(DIGITS, 8)))
    assert state.params["augment"]["kernel"].shape == (9, 16)
    jax.eval_shape(experiment.train_step, state, batch, KEY)
    samples = jax.eval_shape(lambda s: experiment.sample(s, KEY, 3), state)
    assert samples.shape == (3, 8, 8, 1)


@pytest.mark.slow
def test_the_network_is_told_how_images_were_moved():
    """Gradients reach the layer of the vector."""
    experiment = augmented()
    state = random_state(experiment)
    after, metrics = jax.jit(experiment.train_step)(state, batch_of(DIGITS, 8), KEY)
    assert np.isfinite(metrics["loss"])
    before, after = (s.params["augment"]["kernel"] for s in (state, after))
    assert (after != before).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.weighting.name": "simple"}, "known: edm, learned, min_snr, sigmoid"),
        ({"method.sigma_data": 0.0}, "method.sigma_data must be more than 0, not 0.0"),
        ({"method.sigma_max": 0.001}, "0.001 must be more than config.method.sigma_m"),
        ({"sampler.churn": -1.0}, "churn must be at least 0, not -1.0"),
        ({"likelihood.method": "vlb"}, "is for models in discrete time, like ddpm"),
        ({"method.augment_probability": 1.5}, "must be in 0 ... 1, not 1.5"),
        ({"method.augment_probability": 0.1}, "has points, and only images"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build("edm", POINTS, changes)
