"""DDPM's loss and what its network estimates, with lambdas for networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from experiments import ddpm
from experiments.ddpm import Method
from genjax.data import toy
from genjax.diffusion import Weighting, paths
from genjax.diffusion.denoiser import convert
from genjax.typing import UserError
from tests.diffusion import gaussian
from tests.experiments.family import (
    KEY,
    POINTS,
    RING,
    batch_of,
    build,
    learns_eight_gaussians,
    trained,
)

PATH = paths.ddpm_linear(50, 1e-3, 0.2)
X0 = jax.random.normal(jax.random.key(1), (400, 2))


def terms(net, x0=X0, path=PATH, **method):
    method = Method(**({"num_timesteps": 50} | method))
    return ddpm.loss_terms(net, x0, KEY, method, path, 0)


def nothing(x, t):
    return jnp.zeros_like(x)


# --- the loss -------------------------------------------------------------------------


def test_a_network_that_answers_nothing_misses_all_the_noise():
    """The error is that of eps: 1 a dimension in expectation."""
    found = terms(nothing)
    np.testing.assert_allclose(found["simple"].mean(), 1.0, atol=0.1)
    np.testing.assert_array_equal(found["simple"], found["weighted"])
    assert set(found) == {"simple", "weighted"}


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_truth_has_no_loss(prediction):
    """Data at one point tell the noise: eps = (x_t - alpha x0) / sigma."""

    def net(xt, t):
        one = jnp.ones_like(xt)
        return convert(one, xt, t, path=PATH, source="x0", target=prediction)

    found = terms(net, jnp.ones((400, 2)), prediction=prediction)
    np.testing.assert_allclose(found["simple"], 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("weighting", "prediction", "weight"),
    [
        ("min_snr", "eps", 5 / 20),
        ("min_snr", "v", 5 / 21),
        ("sigmoid", "eps", 1 / 21),
    ],
)
def test_weighted_loss(weighting, prediction, weight):
    """By hand at the one timestep of a chain, where the SNR is 20."""
    method = {
        "num_timesteps": 1,
        "prediction": prediction,
        "weighting": Weighting(name=weighting, sigmoid_bias=0.0),
    }
    found = terms(nothing, path=paths.ddpm_linear(1, 1 / 21), **method)
    np.testing.assert_allclose(found["weighted"], weight * found["simple"], rtol=1e-4)


def test_the_schedules():
    """By hand: the product of 1 - beta; the cosine hardly moves at first."""
    linear = ddpm.make_path(Method(num_timesteps=10, beta_start=0.01, beta_end=0.3))
    kept = np.prod(1 - np.linspace(0.01, 0.3, 10))
    np.testing.assert_allclose(linear.alpha(jnp.ones(())) ** 2, kept, rtol=1e-5)
    cosine = ddpm.make_path(Method(num_timesteps=10, schedule="cosine"))
    want = paths.ddpm_cosine(10).alpha(jnp.array([0.1, 0.5]))
    np.testing.assert_array_equal(cosine.alpha(jnp.array([0.1, 0.5])), want)


# --- learned variances ----------------------------------------------------------------


def test_the_bound_teaches_the_variance_and_not_the_mean():
    """Each of two numbers has a gradient from its own part of (2) alone."""

    def parts(numbers):
        def net(x, t):
            return jnp.concatenate([numbers[0] * x, numbers[1] * x], axis=-1)

        found = terms(net, variance="learned")
        return found["weighted"].mean(), found["vlb"].mean()

    simple, bound = jax.jit(jax.jacobian(parts))(jnp.array([0.3, 0.2]))
    assert simple[0] != 0.0 and simple[1] == 0.0
    assert bound[0] == 0.0 and bound[1] != 0.0 and np.isfinite(bound[1])


def test_half_the_output_is_v():
    """0 is 1/2, -1 the small variance and 1 the large one."""
    out = jnp.array([[7.0, 8.0, 9.0, -1.0, 0.0, 1.0]])
    value, v = ddpm.split(out, Method(variance="learned"))
    np.testing.assert_array_equal(value, [[7.0, 8.0, 9.0]])
    np.testing.assert_array_equal(v, [[0.0, 0.5, 1.0]])
    assert ddpm.split(out, Method()) == (out, None)


@pytest.mark.parametrize("variance", ["fixed", "learned"])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_denoiser_of_a_network(prediction, variance):
    exact = gaussian.exact_denoiser(PATH)

    def net(x, t):
        out = convert(exact(x, t), x, t, path=PATH, source="x0", target=prediction)
        spread = jnp.zeros_like(x)
        return out if variance == "fixed" else jnp.concatenate([out, spread], -1)

    method = Method(prediction=prediction, variance=variance, num_timesteps=50)
    x, t = X0[:5], jnp.array([0.1, 0.3, 0.5, 0.7, 0.9])
    x0, v = ddpm.denoiser(net, method, PATH)(x, t)
    np.testing.assert_allclose(x0, exact(x, t), rtol=1e-3, atol=1e-3)
    assert (v is None) if variance == "fixed" else (v == 0.5).all()


# --- the experiment -------------------------------------------------------------------


@pytest.mark.slow
def test_learns_eight_gaussians():
    """And variances with a better bound than the fixed ones of the same network."""
    learns_eight_gaussians("ddpm")
    points, mode = RING.sample_with_mode(jax.random.key(1), 1000)
    bounds = {}
    for variance in ("learned", "fixed_small", "fixed_large"):
        experiment, state, _ = trained("ddpm", {"sampler.variance": variance})
        value = jax.jit(experiment.likelihood.log_prob)(
            state, {"image": points, "label": mode}, KEY
        )
        bounds[variance] = value.mean() - np.log(8)
    exact = toy.density("gaussians8").log_prob(points).mean()
    # measured without labels: -1.44 learned, -1.77 large, -2.81 small; exact -0.34
    assert max(bounds["fixed_small"], bounds["fixed_large"]) < bounds["learned"] < exact


def test_density_by_the_ode_without_score():
    """x shrinks with alpha alone, from t = 1/T to 1: a wide Gaussian."""
    experiment = build("ddpm", POINTS, {"likelihood.method": "ode"})
    points = batch_of(POINTS)["image"]
    state = jax.jit(experiment.init)(KEY)
    got = jax.jit(experiment.likelihood.log_prob)(state, {"image": points}, KEY)
    kept = np.cumprod(1 - np.linspace(2e-3, 0.3, 50))  # alpha_bar of tiny
    width = 1.5 * np.sqrt((1 - kept[-1]) * kept[0] / kept[-1])
    want = norm.logpdf(np.asarray(points), scale=width).sum(axis=1)
    # the slope has a jump at each of 50 timesteps
    np.testing.assert_allclose(got, want, atol=0.04)


LEARNED = {"method.variance": "learned", "sampler.variance": "learned"}


@pytest.mark.parametrize(
    "choice",
    [
        {"sampler.name": "ddim", "sampler.spacing": "quadratic", "sampler.eta": 0.5},
        LEARNED | {"model.num_classes": 8, "sampler.guidance.scale": 2.0},
        LEARNED | {"sampler.name": "ddim", "sampler.clip": True},
        {"method.schedule": "cosine", "method.prediction": "v"},
        {"method.prediction": "x0", "model.dtype": "bfloat16"},
    ],
    ids=str,
)
def test_every_choice_trains_and_samples(choice):
    """Traced, not run."""
    experiment = build("ddpm", POINTS, {"sampler.num_steps": 5} | choice)
    state, batch = jax.eval_shape(lambda: (experiment.init(KEY), batch_of(POINTS)))
    after, _ = jax.eval_shape(experiment.train_step, state, batch, KEY)
    samples = jax.eval_shape(lambda s: experiment.sample(s, KEY, 3), after)
    assert samples.shape == (3, 2) and samples.dtype == jnp.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.variance": "learnt"}, "did you mean 'learned'"),
        ({"method.schedule": "cos"}, "known: linear, cosine"),
        ({"method.weighting.name": "min-snr"}, "did you mean 'min_snr'"),
        ({"method.weighting.min_snr_gamma": 0.0}, "min_snr_gamma must be more than 0"),
        ({"method.vlb_weight": -1.0}, "vlb_weight must be at least 0, not -1.0"),
        ({"method.prediction": "epsilon"}, "known: eps, x0, v"),
        ({"likelihood.method": "elbo"}, "known: none, ode, bound, vlb"),
    ],
)
def test_choices_that_do_not_exist(changes, message):
    with pytest.raises(UserError, match=message):
        build("ddpm", POINTS, changes)


def test_no_more_steps_than_timesteps():
    experiment = build("ddpm", POINTS, {"sampler.num_steps": 51})
    state = jax.eval_shape(experiment.init, KEY)
    with pytest.raises(UserError, match=r"in 1 ... 50 .*, not 51"):
        experiment.sample(state, KEY, 2)
