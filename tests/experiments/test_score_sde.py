"""The score's loss, its weights, the SDEs and the classifier, with lambdas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from experiments.score_sde import score_error
from genjax.diffusion import paths
from genjax.diffusion.continuous import weighted_times
from genjax.diffusion.pixel_features import network_input
from genjax.diffusion.sde import SDE
from genjax.models.noisy_classifier import class_error, make_noisy_classifier
from genjax.typing import DataSpec, UserError
from tests.experiments.family import (
    KEY,
    POINTS,
    build,
    learns_eight_gaussians,
    nearest_mode,
    sampler,
    trained,
)
from tests.specs import DIGITS

PATHS = {"vp": paths.vp(), "subvp": paths.subvp(), "ve": paths.ve()}


# --- weights --------------------------------------------------------------------------


@pytest.mark.parametrize("sde", PATHS)
def test_likelihood_weight_is_the_diffusion_of_the_sde(sde):
    """The mean over drawn times is int g^2 / (2 sigma^2) f dt, by quadrature.

    With each SDE's own g, from Song et al. 2021 (arXiv:2011.13456), eqs. 30, 32 and 29:
    VE d sigma^2 / dt, VP beta, sub-VP beta (1 - exp(-2 int beta)).
    """
    path, start = SDE(name=sde).path, 1e-3
    t = np.geomspace(start, 1.0, 20_001)
    beta, total = 0.1 + 19.9 * t, 0.1 * t + 19.9 * t**2 / 2
    ratio = 50.0 / 0.01
    square, variance = {
        "vp": (beta, -np.expm1(-total)),
        "subvp": (beta * -np.expm1(-2 * total), np.expm1(-total) ** 2),
        "ve": (
            1e-4 * ratio ** (2 * t) * 2 * np.log(ratio),
            1e-4 * (ratio ** (2 * t) - 1),
        ),
    }[sde]

    def f(t):
        return 1.0 + t**2 + np.cos(3 * t)

    want = np.trapezoid(0.5 * square / variance * f(t), t)
    drawn, weight = weighted_times(
        KEY, 4000, path=path, weighting="likelihood", start=start
    )
    np.testing.assert_allclose(weight * f(np.asarray(drawn)).mean(), want, rtol=2e-3)


@pytest.mark.parametrize("sde", PATHS)
def test_likelihood_weighted_error_of_a_gaussian_is_its_entropy(sde):
    """With the exact score, and the noise left at start: -E log p, to 1e-3 bits.

    For x0 ~ N(0, v) the exact net leaves E |eps - net|^2 = v snr / (1 + v snr).
    """
    path, start, v = PATHS[sde], 1e-4, 0.49
    t, weight = weighted_times(
        KEY, 20_000, path=path, weighting="likelihood", start=start
    )
    snr = np.exp(np.asarray(path.logsnr(t), np.float64))
    noise = float(jnp.exp(-0.5 * path.logsnr(jnp.asarray(start))))
    bound = weight * (v * snr / (1.0 + v * snr)).mean() + norm.entropy(0.0, noise)
    assert abs(bound - norm.entropy(0.0, np.sqrt(v))) / np.log(2) < 1e-3


def test_simple_weight_is_one_at_times_in_equal_strides():
    t, weight = weighted_times(KEY, 8, path=PATHS["vp"], weighting="simple", start=0.2)
    assert weight == 1.0 and t.min() >= 0.2
    np.testing.assert_allclose(np.diff(np.sort(t)), 0.1, rtol=1e-4)


@pytest.mark.parametrize("sde", PATHS)
def test_score_error(sde):
    """Nothing costs E |eps|^2 = 1 a dimension, times half the range of the log-SNR.

    Of data at 0 the noise is x_t / sigma, so that this costs nothing.
    """
    path, start = PATHS[sde], 1e-3
    draw = functools.partial(
        weighted_times, path=path, start=start, weighting="likelihood"
    )
    x0 = jnp.zeros((4000, 2))
    span = path.logsnr(jnp.asarray(start)) - path.logsnr(jnp.ones(()))
    error = score_error(lambda x, t: 0 * x, x0, KEY, path, draw)
    np.testing.assert_allclose(error.mean(), 0.5 * span, rtol=0.05)
    exact = score_error(lambda x, t: x / path.sigma(t)[:, None], x0, KEY, path, draw)
    np.testing.assert_allclose(exact, 0.0, atol=1e-3)


# --- the network's input --------------------------------------------------------------


@pytest.mark.parametrize("sde", PATHS)
def test_input_has_about_unit_variance_at_all_times(sde):
    t = jnp.array([1e-3, 0.3, 1.0])
    x0, eps = jax.random.normal(KEY, (2, 3, 40_000))
    xt = PATHS[sde].diffuse(x0, eps, t)
    got = network_input(xt, t, path=PATHS[sde], num_levels=0)
    np.testing.assert_allclose(got.std(axis=1), 1.0, rtol=0.02)


def test_pixel_features_are_the_noise_where_they_are_right():
    """Black, white and one level between, under so little noise that none is moved."""
    path, t = PATHS["subvp"], jnp.full(1, 0.04)
    x0 = jnp.array([-1.0, 1.0, 0.25]).reshape(1, 1, 3, 1)
    eps = jnp.array([0.5, -1.5, 2.0]).reshape(1, 1, 3, 1)
    features = network_input(path.diffuse(x0, eps, t), t, path=path, num_levels=17)
    black, white, nearest = np.moveaxis(features[0, 0, :, 1:], -1, 0)
    np.testing.assert_allclose(black, [0.5, 5.0, 5.0], atol=1e-4)
    np.testing.assert_allclose(white, [-5.0, -1.5, -5.0], atol=1e-4)
    np.testing.assert_allclose(nearest, eps.ravel(), atol=1e-4)


# --- the classifier of noisy examples -------------------------------------------------


def test_class_error_by_hand():
    log_probs = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    error = class_error(log_probs, jnp.array([1, 2]))
    np.testing.assert_allclose(error, -np.log([0.25, 0.8]), rtol=1e-6)


@pytest.mark.parametrize("spec", [POINTS, DIGITS], ids=lambda s: s.name)
def test_classifier_gives_log_probabilities_of_what_it_sees(spec):
    classifier = make_noisy_classifier(spec, 8, lambda x, t: 0.0 * x)
    params = {"classifier": classifier.init(KEY)}
    params = jax.tree.map(lambda p: p + 0.1, params)
    log_probs = classifier.of(params)
    x, t = jax.random.normal(KEY, (5, *spec.shape)), jnp.linspace(0.1, 1.0, 5)
    found = log_probs(x, t)
    assert found.shape == (5, spec.num_classes)
    np.testing.assert_allclose(jnp.exp(found).sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(found, log_probs(2 * x, t))  # it sees 0


def test_data_without_classes_have_no_classifier():
    spec = DataSpec(**(POINTS.__dict__ | {"num_classes": 0}))
    with pytest.raises(UserError, match="has no classes to classify"):
        make_noisy_classifier(spec, 8, lambda x, t: x)


# --- the experiment -------------------------------------------------------------------


@pytest.mark.slow
def test_learns_eight_gaussians():
    """By predictor-corrector; and by its classifier, told no class itself."""
    learns_eight_gaussians("score_sde")
    guided = {
        "sampler.guidance.scale": 0.0,
        "sampler.guidance.classifier_scale": 1.0,
        "sampler.name": "dpmpp_2m",
        "sampler.num_steps": 50,
    }
    experiment, state, metrics = trained("score_sde", guided)
    uniform = np.log(8)
    assert metrics["class_loss"][:10].mean() > 0.9 * uniform
    assert metrics["class_loss"][-100:].mean() < 0.7 * uniform
    label = jnp.arange(800) % 8
    _, mode = nearest_mode(sampler(experiment)(state, KEY, 800, label))
    assert np.mean(mode == label) > 0.85  # 0.125 by chance
    _, free = nearest_mode(sampler(experiment)(state, KEY, 800))
    assert len(np.unique(free)) == 8, "without a label, any"


@pytest.mark.parametrize(
    "changes",
    [{"method.dequantize": True}, {"method.pixel_features": False}],
    ids=str,
)
def test_pixels_train(changes):
    """Traced, not run; the config has pixel_features."""
    experiment = build("score_sde", DIGITS, changes)
    state = jax.eval_shape(experiment.init, KEY)
    batch = {"image": jnp.zeros((4, 8, 8, 1), jnp.uint8)}
    _, metrics = jax.eval_shape(experiment.train_step, state, batch, KEY)
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.sde.name": "subpv"}, "did you mean 'subvp'"),
        ({"method.sde.beta_max": 0.05}, "sde.beta_max=0.05 must be more than beta_min"),
        ({"method.sde.sigma_min": 60.0}, "sigma_max=50.0 must be more than sigma_min"),
        ({"method.weighting": "likelyhood"}, "did you mean 'likelihood'"),
        ({"method.start": 0.0}, r"method.start must lie in \(0, 1\), not 0.0"),
        ({"method.pixel_features": True}, "points, not pixels"),
        ({"method.dequantize": True}, "points, not pixels"),
        ({"method.classifier_width": -1}, "classifier_width must be at least 0"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build("score_sde", POINTS, changes)
