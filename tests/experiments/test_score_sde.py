import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from configs import (
    score_sde_cifar,
    score_sde_digits,
    score_sde_mnist,
    score_sde_toy2d,
)
from experiments.score_sde import draw_times, make_experiment, network_input
from genjax.data import toy
from genjax.diffusion import paths
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
DIGITS = DataSpec(
    name="digits",
    shape=(8, 8, 1),
    dtype="uint8",
    num_levels=17,
    num_train=64,
    num_eval=16,
    num_classes=10,
)
POINTS = DataSpec(
    name="gaussians8",
    shape=(2,),
    dtype="float32",
    num_levels=0,
    num_train=64,
    num_eval=16,
    num_classes=8,
)
CONFIGS = [score_sde_cifar, score_sde_digits, score_sde_mnist, score_sde_toy2d]
RING = toy.density("gaussians8")
PATHS = {"vp": paths.vp(), "subvp": paths.subvp(), "ve": paths.ve()}


def build(spec=POINTS, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    module = score_sde_toy2d if spec is POINTS else score_sde_digits
    config = module.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, spec)


def sampler(experiment):
    return jax.jit(experiment.sample, static_argnums=2)


# --- weights --------------------------------------------------------------------------


@pytest.mark.parametrize("sde", PATHS)
def test_likelihood_weight_is_the_diffusion_of_the_sde(sde):
    """The mean over drawn times is int g^2 / (2 sigma^2) f dt, by quadrature.

    With each SDE's own g, from Song et al. 2021 (arXiv:2011.13456), eqs. 30, 32 and 29:
    VE d sigma^2 / dt, VP beta, sub-VP beta (1 - exp(-2 int beta)).
    """
    path, start = PATHS[sde], 1e-3
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
    drawn, weight = draw_times(
        KEY, 4000, path=path, weighting="likelihood", start=start
    )
    np.testing.assert_allclose(weight * f(np.asarray(drawn)).mean(), want, rtol=2e-3)


@pytest.mark.parametrize("sde", PATHS)
def test_likelihood_weighted_error_of_a_gaussian_is_its_entropy(sde):
    """(3) with the exact score, and the noise left at start: -E log p, to 1e-3 bits.

    For x0 ~ N(0, v) the exact net leaves E |eps - net|^2 = v snr / (1 + v snr).
    """
    path, start, v = PATHS[sde], 1e-4, 0.49
    t, weight = draw_times(KEY, 20_000, path=path, weighting="likelihood", start=start)
    snr = np.exp(np.asarray(path.logsnr(t), np.float64))
    noise = float(jnp.exp(-0.5 * path.logsnr(jnp.asarray(start))))
    bound = weight * (v * snr / (1.0 + v * snr)).mean() + norm.entropy(0.0, noise)
    assert abs(bound - norm.entropy(0.0, np.sqrt(v))) / np.log(2) < 1e-3


def test_simple_weight_is_one_at_times_in_equal_strides():
    t, weight = draw_times(KEY, 8, path=PATHS["vp"], weighting="simple", start=0.2)
    assert weight == 1.0 and t.min() >= 0.2
    np.testing.assert_allclose(np.diff(np.sort(t)), 0.1, rtol=1e-4)


def test_loss_of_a_network_that_answers_nothing():
    """E |eps|^2 = 1 a dimension; by likelihood, half the range of the log-SNR."""
    batch = {"image": RING.sample(KEY, 4000)}
    start, one = jnp.asarray(1e-3), jnp.ones(())
    span = PATHS["vp"].logsnr(start) - PATHS["vp"].logsnr(one)
    for weighting, want in [("simple", 1.0), ("likelihood", 0.5 * span)]:
        experiment = build(method__weighting=weighting, method__start=1e-3)
        values = jax.jit(experiment.evaluate)(experiment.init(KEY), batch, KEY)
        got = values[f"loss_{weighting}"].mean()
        np.testing.assert_allclose(got, want, rtol=0.05)


# --- the network's input --------------------------------------------------------------


@pytest.mark.parametrize("sde", PATHS)
def test_input_has_about_unit_variance_at_all_times(sde):
    t = jnp.array([1e-3, 0.3, 1.0])
    x0_key, eps_key = jax.random.split(KEY)
    shape = (3, 40_000)
    eps = jax.random.normal(eps_key, shape)
    xt = PATHS[sde].diffuse(jax.random.normal(x0_key, shape), eps, t)
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


# --- sampling and likelihood ----------------------------------------------------------


@pytest.mark.parametrize("sde", ["subvp", "ve"])
def test_untrained_model_is_wide_noise(sde):
    """Score 0 shrinks nothing but by alpha: N(0, (sigma / alpha)^2) at t = 1."""
    experiment = build(method__sde=sde, sampler__name="euler", sampler__num_steps=20)
    assert experiment.likelihood_kind == "estimate"
    state, points = experiment.init(KEY), RING.sample(KEY, 20)
    got = jax.jit(experiment.log_likelihood)(state, {"image": points}, KEY)
    width = float(jnp.exp(-0.5 * PATHS[sde].logsnr(jnp.ones(())))) * 1.5
    want = norm.logpdf(np.asarray(points), scale=width).sum(axis=1)
    np.testing.assert_allclose(got, want, rtol=2e-3)
    if sde == "ve":  # nothing moves: it stays where it starts
        samples = sampler(experiment)(state, KEY, 4000)
        np.testing.assert_allclose(samples.std(axis=0), width, rtol=0.05)


def test_pixels_have_a_bound():
    """Without score each pixel costs half the range of the log-SNR, and no decoding."""
    experiment = build(DIGITS, eval__likelihood_draws=8, eval__likelihood_logsnr=9.0)
    assert experiment.likelihood_kind == "lower_bound"
    assert "8 draws" in experiment.likelihood_note
    image = np.random.default_rng(0).integers(0, 17, (64, 8, 8, 1))
    batch = {"image": jnp.asarray(image, jnp.uint8)}
    got = jax.jit(experiment.log_likelihood)(experiment.init(KEY), batch, KEY)
    low = PATHS["subvp"].logsnr(jnp.ones(()))
    np.testing.assert_allclose(-got.mean(), 64 * 0.5 * (9.0 - low), rtol=0.02)


def test_likelihood_only_where_it_is_asked_for():
    experiment = build(eval__likelihood="none")
    assert experiment.log_likelihood is None and experiment.likelihood_kind is None


# --- learning -------------------------------------------------------------------------


@functools.cache
def trained(**changes):
    """8 Gaussians after 1500 steps, with labels and often without."""
    options = {
        "model__num_classes": 8,
        "method__label_dropout": 0.3,
        "method__weighting": "likelihood",
        "method__start": 1e-3,
    }
    experiment = build(**(options | changes))
    points, mode = RING.sample_with_mode(KEY, 20_000)

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (128,), 0, len(points))
        batch = {"image": points[rows], "label": mode[rows]}
        return experiment.train_step(state, batch, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(1500)))
    return experiment, *run(experiment.init(KEY))


def nearest_mode(samples):
    distance = np.linalg.norm(samples[:, None] - RING.centers[None], axis=-1)
    return distance.min(axis=1), distance.argmin(axis=1)


def test_learns_eight_gaussians():
    """By predictor-corrector, each with the class that was asked for."""
    experiment, state, metrics = trained()
    assert metrics["loss"][-100:].mean() < 0.4 * metrics["loss"][:20].mean()
    label = jnp.arange(800) % 8
    distance, mode = nearest_mode(sampler(experiment)(state, KEY, 800, label))
    assert np.mean(distance < 5 * RING.sigma) > 0.9  # 0.99 measured, 0.13 untrained
    assert np.mean(mode == label) > 0.9  # 0.125 by chance


def test_learned_density_is_near_the_true_one():
    """By the ODE and by the bound, given the class, whose share is 1/8.

    The best Gaussian for all classes is 5.3 nats away from it.
    """
    _, state, _ = trained()
    points, mode = RING.sample_with_mode(jax.random.key(1), 500)
    batch = {"image": points, "label": mode}
    exact = RING.log_prob(points).mean() + np.log(8)
    for method in ("ode", "bound"):
        experiment = build(
            model__num_classes=8, method__start=1e-3, eval__likelihood=method
        )
        value = jax.jit(experiment.log_likelihood)(state, batch, KEY).mean()
        assert abs(value - exact) < 0.5


def test_a_classifier_guides_an_unconditional_model():
    experiment, state, metrics = trained(
        model__num_classes=0,
        method__classifier_width=64,
        sampler__classifier_scale=1.0,
        sampler__name="dpmpp_2m",
        sampler__num_steps=50,
    )
    uniform = np.log(8)
    assert metrics["class_loss"][:10].mean() > 0.9 * uniform
    assert metrics["class_loss"][-100:].mean() < 0.7 * uniform
    label = jnp.arange(800) % 8
    distance, mode = nearest_mode(sampler(experiment)(state, KEY, 800, label))
    agreement = np.mean(mode == label)
    print(f"as asked {agreement:.3f}, near {np.mean(distance < 0.5):.3f}")
    assert agreement > 0.85  # 0.125 by chance
    _, free = nearest_mode(sampler(experiment)(state, KEY, 800))
    assert len(np.unique(free)) == 8, "without a label, any"


# --- choices --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_classes", "label", "message"),
    [
        (0, jnp.zeros(2, jnp.int32), "trained without labels"),
        (8, jnp.array([1, 8]), "from 0 to 7, and 8 does not"),
        (8, jnp.zeros(3, jnp.int32), r"shape \(2,\), not \(3,\)"),
    ],
)
def test_labels_that_do_not_fit(num_classes, label, message):
    experiment = build(model__num_classes=num_classes)
    state = jax.eval_shape(experiment.init, KEY)
    with pytest.raises(UserError, match=message):
        experiment.sample(state, KEY, 2, label)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method__sde": "subpv"}, "did you mean 'subvp'"),
        ({"method__weighting": "likelyhood"}, "did you mean 'likelihood'"),
        ({"method__start": 0.0}, "method.start=0.0 must lie between 0 and 1"),
        ({"method__beta_max": 0.05}, "beta_max=0.05 must be more than method.beta_min"),
        ({"method__pixel_features": True}, "points, not pixels"),
        ({"method__dequantize": True}, "points, not pixels"),
        ({"sampler__name": "eular"}, "did you mean 'euler'"),
        ({"sampler__spacing": "karas"}, "did you mean 'karras'"),
        ({"sampler__num_steps": 0}, "sampler.num_steps must be more than 0, not 0"),
        ({"eval__likelihood": "bond"}, "did you mean 'bound'"),
        ({"model__backbone": "unet"}, r"shape \(2,\).*choose 'mlp'"),
        ({"sampler__guidance_scale": 2.0}, "needs labels: set model.num_classes=8"),
        ({"sampler__classifier_scale": 1.0}, "train with method.classifier_width > 0"),
        ({"method__classifier_width": -1}, "must be 0, for no classifier"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


@pytest.mark.parametrize("module", CONFIGS, ids=lambda m: m.__name__)
def test_configs_know_their_variants(module):
    assert module.get_config("tiny").training.num_steps <= 4000
    with pytest.raises(ValueError, match="'small'.*'tiny'"):
        module.get_config("small")
