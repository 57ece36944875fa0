import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from configs import edm_cifar, edm_digits, edm_toy2d
from experiments.edm import (
    make_experiment,
    precondition,
    preconditioned,
    rho_times,
)
from genjax.data import toy
from genjax.diffusion import ode, paths, weighting
from genjax.typing import DataSpec, UserError
from tests.diffusion import gaussian

KEY = jax.random.key(0)
POINTS = DataSpec(
    name="gaussians8",
    shape=(2,),
    dtype="float32",
    num_levels=0,
    num_train=64,
    num_eval=16,
    num_classes=8,
)
CONFIGS = [edm_cifar, edm_digits, edm_toy2d]
RING = toy.density("gaussians8")
PATH = paths.edm(80.0)
SIGMAS = jnp.array([0.002, 0.1, 0.5, 3.0, 80.0])


def build(**changes):
    """The experiment at tiny, with config.section__field = value changed."""
    config = edm_toy2d.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, POINTS)


def sampler(experiment):
    return jax.jit(experiment.sample, static_argnums=2)


# --- preconditioning ------------------------------------------------------------------


def test_preconditioning_by_hand():
    """sigma 4 and sigma_data 3: a triangle of sides 3, 4 and 5."""
    c = precondition(jnp.array(4.0), 3.0)
    np.testing.assert_allclose(c.skip, 9 / 25, rtol=1e-6)
    np.testing.assert_allclose(c.out, 12 / 5, rtol=1e-6)
    np.testing.assert_allclose(c.into, 1 / 5, rtol=1e-6)
    np.testing.assert_allclose(c.noise, 0.34657359, rtol=1e-6)  # log(2) / 2


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_input_and_target_have_unit_variance_at_every_sigma(sigma_data):
    """Whatever the data's law: here two points, at plus and minus sigma_data."""
    sign_key, eps_key = jax.random.split(KEY)
    shape = (len(SIGMAS), 100_000)
    x0 = sigma_data * jax.random.rademacher(sign_key, shape, jnp.float32)
    x = x0 + SIGMAS[:, None] * jax.random.normal(eps_key, shape)
    c = precondition(SIGMAS[:, None], sigma_data)
    np.testing.assert_allclose((c.into * x).var(axis=1), 1.0, rtol=0.02)
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


def test_an_untrained_network_is_right_for_a_gaussian_around_zero():
    """F = 0 is then the optimum: the loss is 1, and samples are the Gaussian's."""
    experiment = build(method__sigma_data=0.5, sampler__num_steps=40)
    state = experiment.init(KEY)
    data = 1.5 * 0.5 * jax.random.normal(jax.random.key(1), (20_000, 2))
    values = jax.jit(experiment.evaluate)(state, {"image": data}, KEY)
    np.testing.assert_allclose(values["loss_weighted"].mean(), 1.0, rtol=0.03)
    samples = sampler(experiment)(state, KEY, 4000)
    np.testing.assert_allclose(samples.std(axis=0), 0.75, rtol=0.04)


@pytest.mark.parametrize("name", ["ancestral", "dpmpp_2m", "sde_dpmpp_2m", "adaptive"])
def test_other_samplers_draw_the_same_gaussian(name):
    experiment = build(
        method__sigma_data=0.5, sampler__num_steps=200, sampler__name=name
    )
    samples = sampler(experiment)(experiment.init(KEY), KEY, 4000)
    np.testing.assert_allclose(samples.std(axis=0), 0.75, rtol=0.05)


# --- sampling -------------------------------------------------------------------------


def test_grid_of_noise_levels():
    """Hand arithmetic: with rho = 1 even strides; with rho = 2 squares of even ones."""
    np.testing.assert_allclose(rho_times(3, 2.0, 10.0, 1.0), [1.0, 0.6, 0.2, 0.0])
    np.testing.assert_allclose(rho_times(3, 1.0, 9.0, 2.0), [1, 4 / 9, 1 / 9, 0])
    sigmas = 80.0 * rho_times(18, 0.002, 80.0, 7.0)
    np.testing.assert_allclose(sigmas[[0, 17, 18]], [80.0, 0.002, 0.0], rtol=1e-5)
    assert (np.diff(sigmas) < 0).all() and len(sigmas) == 19


def run(num_steps, **options):
    start = 80.0 * jax.random.normal(KEY, (4000, 2))
    denoise = gaussian.exact_denoiser(PATH)
    times = rho_times(num_steps, 0.002, 80.0, 7.0)
    return ode.heun(denoise, start, times, path=PATH, key=KEY, **options)


def test_the_ode_carries_a_gaussian_to_its_quantiles():
    """x0 = mean + std (x - mean) / sqrt(std^2 + 80^2), to second order."""
    start = 80.0 * jax.random.normal(KEY, (4000, 2))
    mean, std = gaussian.marginal(PATH, jnp.ones(()))
    exact = gaussian.MEAN + gaussian.STD * (start - mean) / std
    errors = [np.abs(run(n) - exact).max() for n in (16, 32, 64)]
    assert errors[2] < 0.03
    assert 3.0 < errors[1] / errors[2] < 5.5


def test_churn_keeps_the_gaussian_and_draws_noise():
    churned = run(80, churn=30.0)
    np.testing.assert_allclose(churned.mean(axis=0), gaussian.MEAN[0], atol=0.1)
    np.testing.assert_allclose(churned.std(axis=0), gaussian.STD[0], rtol=0.05)
    assert np.abs(churned - run(80)).mean() > 0.1


def test_churn_outside_its_range_is_none():
    outside = run(8, churn=4.0, churn_range=(100.0, 200.0))
    np.testing.assert_allclose(outside, run(8), rtol=1e-4, atol=1e-4)


def test_churn_noise_scales_the_noise():
    quiet = run(40, churn=30.0, churn_noise=0.5)
    assert (quiet.std(axis=0) < 0.97 * gaussian.STD[0]).all()


# --- likelihood -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ode", "bound"])
def test_likelihood_of_an_untrained_network_is_a_gaussian(method):
    """F = 0 is the model N(0, (sigma_data point_scale)^2); so is the data here."""
    experiment = build(method__sigma_data=0.5, eval__likelihood=method)
    points = 0.75 * jax.random.normal(jax.random.key(1), (1000, 2))
    state = jax.eval_shape(experiment.init, KEY)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    got = jax.jit(experiment.log_likelihood)(state, {"image": points}, KEY)
    want = norm.logpdf(np.asarray(points), scale=0.75).sum(axis=1)
    if method == "ode":
        assert experiment.likelihood_kind == "estimate"
        np.testing.assert_allclose(got, want, rtol=5e-3, atol=0.02)
    else:
        assert experiment.likelihood_kind == "lower_bound"
        away = got - want
        assert abs(away.mean()) < 4 * away.std() / np.sqrt(1000) + 1e-3


def test_likelihood_only_where_it_is_asked_for():
    experiment = build(eval__likelihood="none")
    assert experiment.log_likelihood is None and experiment.likelihood_kind is None


# --- learning -------------------------------------------------------------------------


@functools.cache
def trained():
    """8 Gaussians after 1500 steps, with labels and often without."""
    experiment = build(model__num_classes=8, method__label_dropout=0.3)
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
    """Asked for no class: that is guidance 0."""
    _, state, metrics = trained()
    np.testing.assert_allclose(metrics["loss"][0], 1.0, atol=0.2)
    experiment = build(model__num_classes=8, sampler__guidance_scale=0.0)
    distance, mode = nearest_mode(sampler(experiment)(state, KEY, 1000))
    near = distance < 5 * RING.sigma
    assert near.mean() > 0.6  # 0.13 untrained
    share = np.bincount(mode[near], minlength=8) / near.sum()
    assert share.min() > 0.06  # of 0.125


def test_samples_have_the_class_that_was_asked_for():
    experiment, state, _ = trained()
    label = jnp.repeat(jnp.arange(8), 50)
    _, mode = nearest_mode(sampler(experiment)(state, KEY, 400, label))
    assert np.mean(mode == label) > 0.9


def test_average_and_raw_weights_are_both_kept():
    experiment, state, _ = trained()
    assert experiment.raw_weights(state).ema_params is state.params
    pairs = zip(*map(jax.tree.leaves, (state.params, state.ema_params)), strict=True)
    assert 0 < max(np.abs(a - b).max() for a, b in pairs) < 0.2
    assert int(state.step) == 1500


# --- weightings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weighting", "weight"),
    [("min_snr", 4 * 0.125), ("sigmoid", 1 / 5 * 4 * 0.125), ("learned", 1.0)],
)
def test_weighted_loss(weighting, weight):
    """By hand at sigma = sigma_data = 1/2: SNR 4, c_out^2 1/8; u starts at 0."""
    point = {"method__p_mean": np.log(0.5), "method__p_std": 1e-6}
    point |= {"method__sigma_data": 0.5, "method__sigmoid_bias": 0.0}
    batch = {"image": RING.sample(KEY, 64)}
    loss = {}
    for name in ("edm", weighting):
        experiment = build(method__weighting=name, **point)
        step = jax.jit(experiment.train_step)
        loss[name] = step(experiment.init(KEY), batch, KEY)[1]["loss"]
    np.testing.assert_allclose(loss[weighting], weight * loss["edm"], rtol=1e-4)


def test_learned_uncertainty_follows_the_loss_and_is_dropped_at_sampling():
    experiment = build(method__weighting="learned", optim__learning_rate=0.01)
    points = RING.sample(KEY, 20_000)

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (256,), 0, len(points))
        return experiment.train_step(state, {"image": points[rows]}, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(800)))
    state, _ = run(experiment.init(KEY))
    # where most of the training is, from almost no knowledge of x0 to a good guess;
    # further out few examples come by, and rare large errors make it slow
    logsnr = jnp.array([0.0, 2.4, 4.0])
    u = weighting.uncertainty(state.params["uncertainty"], logsnr)
    for level, value in zip(logsnr, u, strict=True):
        one = build(
            method__weighting="learned",
            method__p_mean=float(-0.5 * level),
            method__p_std=1e-6,
        )
        raw = experiment.raw_weights(state)
        error = one.evaluate(raw, {"image": points}, KEY)["loss_weighted"]
        assert abs(float(value) - np.log(error.mean())) < 0.4
    weights = state.ema_params["uncertainty"] + 1.0
    other = state._replace(ema_params=state.ema_params | {"uncertainty": weights})
    sample = sampler(experiment)
    np.testing.assert_array_equal(sample(state, KEY, 4), sample(other, KEY, 4))
    assert "uncertainty" not in build().init(KEY).params


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
        ({"model__backbone": "unnet"}, "did you mean 'unet'"),
        ({"model__dtype": "float16"}, "known: float32, bfloat16"),
        ({"method__weighting": "simple"}, "known: edm, min_snr, sigmoid, learned"),
        ({"method__min_snr_gamma": 0.0}, "min_snr_gamma must be more than 0, not 0.0"),
        ({"model__backbone": "unet"}, r"shape \(2,\).*choose 'mlp'"),
        ({"model__num_classes": 3}, "has 8 classes, not model.num_classes=3"),
        ({"method__sigma_data": 0.0}, "method.sigma_data must be more than 0, not 0.0"),
        ({"sampler__num_steps": 0}, "sampler.num_steps must be more than 0, not 0"),
        ({"sampler__sigma_max": 0.001}, "0.001 must be more than sampler.sigma_min"),
        ({"sampler__churn": -1.0}, "churn must be 0 or more, not -1.0"),
        ({"eval__likelihood": "vlb"}, "known: none, ode, bound"),
        ({"sampler__guidance_scale": 2.0}, "needs labels: set model.num_classes=8"),
        ({"method__augment_probability": 1.5}, "must be in 0 ... 1, not 1.5"),
        ({"method__augment_probability": 0.1}, "has points, and only images"),
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
