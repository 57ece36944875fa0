import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from configs import flow_matching_digits, flow_matching_mnist, flow_matching_toy2d
from experiments.flow_matching import (
    PATH,
    couple,
    draw_times,
    make_experiment,
    path_energy,
    shift_times,
)
from genjax.data import toy
from genjax.diffusion import solvers, stochastic
from genjax.diffusion.denoiser import as_denoiser, quantity
from genjax.typing import DataSpec, UserError
from tests.diffusion import gaussian

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
CONFIGS = [flow_matching_digits, flow_matching_mnist, flow_matching_toy2d]
RING = toy.density("gaussians8")


def build(spec=POINTS, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    module = flow_matching_toy2d if spec is POINTS else flow_matching_digits
    config = module.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, spec)


def ring_batch(num):
    points, mode = RING.sample_with_mode(jax.random.key(1), num)
    return {"image": points, "label": mode, "index": jnp.arange(num)}


def constant(experiment, value):
    """A state whose network answers `value`, whatever it is asked."""
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(experiment.init, KEY),
    )
    params = zeros.params | {"out": zeros.params["out"] | {"bias": jnp.array(value)}}
    return zeros._replace(params=params, ema_params=params)


def sampler(experiment):
    return jax.jit(experiment.sample, static_argnums=2)


# --- the target -----------------------------------------------------------------------


@pytest.mark.parametrize("time", [0.2, 0.7])
def test_mean_velocity_of_a_gaussian(time):
    """For x0 ~ N(m, s^2) it is a line in x_t: the regression of jointly normal pairs.

    cov(eps - x0, x_t) = t - (1 - t) s^2 and var x_t = (1 - t)^2 s^2 + t^2.
    """
    m, s, num = 0.7, 0.5, 200_000
    x0_key, eps_key = jax.random.split(KEY)
    x0 = m + s * jax.random.normal(x0_key, (num, 1))
    eps = jax.random.normal(eps_key, (num, 1))
    t = jnp.full(num, time)
    xt = PATH.diffuse(x0, eps, t)
    target = quantity(x0, eps, t, path=PATH, name="velocity")
    slope, at_zero = np.polyfit(xt[:, 0], target[:, 0], 1)
    exact = (time - (1 - time) * s**2) / ((1 - time) ** 2 * s**2 + time**2)
    np.testing.assert_allclose(slope, exact, atol=0.02)
    np.testing.assert_allclose(at_zero, -m - exact * (1 - time) * m, atol=0.02)


def test_a_network_that_answers_nothing_misses_the_whole_velocity():
    """E |eps - x0|^2 a dimension: 1 for the noise, var x0 = (4 / 2 + 0.01) / 1.5^2."""
    experiment = build(method__coupling="independent")
    state = experiment.init(KEY)
    expected = 1 + 2.01 / 1.5**2
    values = jax.jit(experiment.evaluate)(state, ring_batch(8000), KEY)
    np.testing.assert_allclose(values["loss_velocity"].mean(), expected, rtol=0.03)


# --- times ----------------------------------------------------------------------------


def test_weighted_loss():
    """Half-way, where the SNR is 1: by hand, as in the tests of the weightings."""
    loss = {}
    for name in ("simple", "min_snr", "sigmoid"):
        experiment = build(
            method__weighting=name,
            method__sigmoid_bias=0.0,
            method__coupling="independent",
            method__time_distribution="logit_normal",
            method__time_std=1e-6,
        )
        step = jax.jit(experiment.train_step)
        loss[name] = step(experiment.init(KEY), ring_batch(64), KEY)[1]["loss"]
    np.testing.assert_allclose(loss["min_snr"], loss["simple"] / 4, rtol=1e-4)
    np.testing.assert_allclose(loss["sigmoid"], loss["simple"] / 8, rtol=1e-4)


def test_times_have_their_quantiles():
    """The shift multiplies the odds, so it moves the logit's mean by its logarithm."""
    share = np.array([0.1, 0.5, 0.9])
    uniform = np.quantile(draw_times(KEY, 40_000), share)
    np.testing.assert_allclose(uniform, share, atol=0.01)
    options = {"distribution": "logit_normal", "mean": 0.5, "std": 0.8, "shift": 3.0}
    t = np.asarray(draw_times(KEY, 40_000, **options))
    logit = np.quantile(np.log(t / (1 - t)), share)
    np.testing.assert_allclose(
        logit, norm.ppf(share, 0.5 + np.log(3.0), 0.8), atol=0.03
    )


def test_shifted_times():
    """By hand: odds 1 and 1/3 become 3 and 1; the ends stay."""
    t = shift_times(jnp.array([0.0, 0.25, 0.5, 1.0]), 3.0)
    np.testing.assert_allclose(t, [0.0, 0.5, 0.75, 1.0], rtol=1e-6)


# --- coupling -------------------------------------------------------------------------


def transport_cost(x0, eps):
    return float(jnp.sum(jnp.square(x0 - eps)))


def test_coupling_is_the_best_permutation():
    x0 = ring_batch(48)["image"]
    eps = jax.random.normal(KEY, x0.shape)
    matched = jax.jit(couple)(x0, eps)
    np.testing.assert_array_equal(np.sort(matched, axis=0), np.sort(eps, axis=0))
    table = np.square(np.asarray(x0)[:, None] - np.asarray(eps)[None]).sum(-1)
    best = table[linear_sum_assignment(table)].sum()
    np.testing.assert_allclose(transport_cost(x0, matched), best, rtol=1e-5)
    assert best < 0.7 * transport_cost(x0, eps)


def test_coupling_with_labels_stays_within_the_class():
    """Each class keeps its noise, and is matched as if it were alone."""
    batch = ring_batch(48)
    x0, label = batch["image"], batch["label"] % 3
    eps = jax.random.normal(KEY, x0.shape)
    matched = jax.jit(couple)(x0, eps, label)
    for c in range(3):
        rows = np.flatnonzero(label == c)
        alone = couple(x0[rows], eps[rows])
        np.testing.assert_array_equal(np.sort(matched[rows], 0), np.sort(alone, 0))
        np.testing.assert_allclose(
            transport_cost(x0[rows], matched[rows]),
            transport_cost(x0[rows], alone),
            rtol=1e-4,
        )


def test_images_are_coupled_too():
    x0 = jax.random.normal(KEY, (6, 4, 4, 1))
    order = jnp.array([3, 0, 5, 1, 2, 4])
    np.testing.assert_array_equal(couple(x0, 0.5 * x0[order]), 0.5 * x0)


def test_straight_paths_need_one_step():
    """Data that are the noise, shuffled and moved: each line is that translation."""
    eps = jax.random.normal(KEY, (32, 2))
    move = jnp.array([[3.0, -1.0]])
    x0 = jax.random.permutation(jax.random.key(1), eps) + move
    matched = couple(x0, eps)
    np.testing.assert_allclose(x0 - matched, jnp.tile(move, (32, 1)), atol=1e-6)
    t = draw_times(KEY, 32)
    velocity = quantity(x0, matched, t, path=PATH, name="velocity")
    denoise = as_denoiser(lambda x, t: velocity, PATH, "velocity")
    once = stochastic.ddim(denoise, matched, jnp.array([1.0, 0.0]), path=PATH)
    np.testing.assert_allclose(once, x0, atol=1e-5)


def test_a_straight_path_has_the_energy_of_its_length():
    """All data at one point: each path is a line of constant speed."""
    place = jnp.array([[3.0, -1.0]])
    eps = jax.random.normal(KEY, (32, 2))
    energy = path_energy(lambda x, t: jnp.broadcast_to(place, x.shape), eps, 7)
    expected = jnp.sum(jnp.square(eps - place), axis=1)
    np.testing.assert_allclose(energy, expected, rtol=1e-4)


def test_the_energy_of_a_gaussian_is_that_of_its_growing_spread():
    """x(t) = m (1 - t) + x(1) sd(t) with sd(t)^2 = (1 - t)^2 s^2 + t^2, at m = 0."""
    s = 0.3
    eps = jax.random.normal(KEY, (4, 2))

    def denoise(x, t):
        return (1 - t) * s**2 / ((1 - t) ** 2 * s**2 + t**2) * x

    def speed(t):
        return (t - (1 - t) * s**2) / np.sqrt((1 - t) ** 2 * s**2 + t**2)

    spread, _ = quad(lambda t: speed(t) ** 2, 0.0, 1.0)
    expected = spread * jnp.sum(jnp.square(eps), axis=1)
    np.testing.assert_allclose(path_energy(denoise, eps, 2000), expected, rtol=2e-3)
    assert spread > (1 - s) ** 2, "more than the optimal transport"


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_a_constant_velocity_is_sampled_exactly_at_any_number_of_steps(name):
    ends = []
    for steps, shift in [(1, 1.0), (7, 3.0)]:
        experiment = build(
            sampler__name=name, sampler__num_steps=steps, sampler__time_shift=shift
        )
        ends += [
            sampler(experiment)(constant(experiment, value), KEY, 5)
            for value in ([0.0, 0.0], [-2.0, 1.0])
        ]
    np.testing.assert_allclose(ends[0], ends[2], atol=1e-5)
    np.testing.assert_allclose(ends[1], ends[3], atol=1e-5)
    moved = jnp.tile(1.5 * jnp.array([[2.0, -1.0]]), (5, 1))  # in the data's unit
    np.testing.assert_allclose(ends[1] - ends[0], moved, atol=1e-5)


@pytest.mark.parametrize("name", solvers.NAMES)
def test_every_solver_carries_noise_to_a_gaussian(name):
    """Straight lines have an infinite log-SNR at both ends."""
    denoise = gaussian.exact_denoiser(PATH)
    x = jax.random.normal(KEY, (4000, 2))
    times = jnp.linspace(1.0, 0.0, 101)
    ends = jax.jit(
        lambda x: solvers.sample_with(name, denoise, x, times, path=PATH, key=KEY)
    )(x)
    np.testing.assert_allclose(ends.mean(axis=0), gaussian.MEAN[0], atol=0.1)
    np.testing.assert_allclose(ends.std(axis=0), gaussian.STD[0], rtol=0.1)


# --- likelihood -----------------------------------------------------------------------


def test_density_of_a_constant_velocity_is_the_noise_moved():
    """x at t = 1 is x0 + v, in the model's unit, and nothing is stretched."""
    scale, velocity = 1.5, np.array([-2.0, 1.0])
    experiment = build(method__point_scale=scale)
    assert experiment.likelihood_kind == "estimate"
    points = 0.7 * jax.random.normal(KEY, (5, 2))
    state = constant(experiment, list(velocity))
    got = jax.jit(experiment.log_likelihood)(state, {"image": points}, KEY)
    want = norm.logpdf(np.asarray(points) / scale + velocity).sum(axis=1) - 2 * np.log(
        scale
    )
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_bound_of_pixels_counts_the_width_of_a_level():
    """No velocity: pixels are standard normal, spread over 2 / 16 for each level."""
    experiment = build(DIGITS, model__num_classes=0, sampler__guidance_scale=1.0)
    assert experiment.likelihood_kind == "lower_bound"
    assert "uniform dequantisation" in experiment.likelihood_note
    image = np.random.default_rng(0).integers(0, 17, (64, 8, 8, 1))
    batch = {"image": jnp.asarray(image, jnp.uint8)}
    got = jax.jit(experiment.log_likelihood)(experiment.init(KEY), batch, KEY)
    density = norm.logpdf(image / 8.0 - 1.0).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(
        got.mean(), (density + 64 * np.log(1 / 8)).mean(), atol=0.3
    )


def test_pixels_have_a_bound_without_an_ode_too():
    """No velocity is x0_hat = x_t, so x0 - x0_hat = t (x0 - eps)."""
    experiment = build(
        DIGITS,
        model__num_classes=0,
        sampler__guidance_scale=1.0,
        eval__likelihood="bound",
        eval__likelihood_draws=32,
        eval__likelihood_logsnr=8.0,
    )
    assert "from log-SNR 8.0, 32 draws" in experiment.likelihood_note
    image = np.random.default_rng(0).integers(0, 17, (64, 8, 8, 1))
    batch = {"image": jnp.asarray(image, jnp.uint8)}
    got = jax.jit(experiment.log_likelihood)(experiment.init(KEY), batch, KEY)
    # 1/2 int (1 - t)^2 (x0^2 + 1) dl, by quadrature; the decoder makes no mistakes
    logsnr = np.linspace(-12.0, 8.0, 10_001)
    kept = 1.0 / (1.0 + np.exp(-logsnr / 2.0))  # 1 - t
    square = np.square(image / 8.0 - 1.0).mean() + 1.0
    want = 0.5 * np.trapezoid(kept**2, logsnr) * square * 64
    np.testing.assert_allclose(-got.mean(), want, rtol=0.03)


def test_likelihood_only_where_it_is_asked_for():
    experiment = build(eval__likelihood="none")
    assert experiment.log_likelihood is None and experiment.likelihood_kind is None


# --- learning -------------------------------------------------------------------------


@functools.cache
def trained():
    """8 Gaussians after 1200 steps at batch 64, with labels and often without."""
    experiment = build(model__num_classes=8, method__label_dropout=0.3)
    points, mode = RING.sample_with_mode(KEY, 20_000)

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (64,), 0, len(points))
        batch = {"image": points[rows], "label": mode[rows]}
        return experiment.train_step(state, batch, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(1200)))
    return experiment, *run(experiment.init(KEY))


def nearest_mode(samples):
    distance = np.linalg.norm(samples[:, None] - RING.centers[None], axis=-1)
    return distance.min(axis=1), distance.argmin(axis=1)


def test_learns_eight_gaussians():
    """Asked for no class: that is guidance 0."""
    _, state, metrics = trained()
    assert metrics["loss"][-100:].mean() < 0.6 * metrics["loss"][:20].mean()
    experiment = build(model__num_classes=8, sampler__guidance_scale=0.0)
    distance, mode = nearest_mode(sampler(experiment)(state, KEY, 1000))
    near = distance < 5 * RING.sigma
    assert near.mean() > 0.6  # 0.13 untrained
    share = np.bincount(mode[near], minlength=8) / near.sum()
    assert share.min() > 0.06  # of 0.125


def test_learned_density_is_near_the_true_one():
    """Given the class, whose share of the mixture is 1/8; untrained it is 16 nats."""
    experiment, state, _ = trained()
    points, mode = RING.sample_with_mode(jax.random.key(1), 500)
    batch = {"image": points, "label": mode}
    value = jax.jit(experiment.log_likelihood)(state, batch, KEY).mean()
    exact = RING.log_prob(points).mean() + np.log(8)
    assert abs(value - exact) < 1.0


def test_guidance_moves_samples_towards_the_class():
    _, state, _ = trained()
    label = jnp.repeat(jnp.arange(8), 50)
    right = []
    for scale in (0.0, 1.0, 1.5):  # no label, the label, more than that
        experiment = build(model__num_classes=8, sampler__guidance_scale=scale)
        _, mode = nearest_mode(sampler(experiment)(state, KEY, 400, label))
        right.append(np.mean(mode == label))
    assert right[0] < 0.3 and right[1] > 0.9 and right[2] > 0.9


def test_average_and_raw_weights_are_both_kept():
    experiment, state, _ = trained()
    assert experiment.raw_weights(state).ema_params is state.params
    pairs = zip(*map(jax.tree.leaves, (state.params, state.ema_params)), strict=True)
    assert 0 < max(np.abs(a - b).max() for a, b in pairs) < 0.2
    assert int(state.step) == 1200


# --- labels and choices ---------------------------------------------------------------


def test_hidden_labels_are_the_null_label():
    """Always hidden: no gradient for any other label; never: none for the null one."""
    for dropout, hidden in [(1.0, True), (0.0, False)]:
        experiment = build(
            model__num_classes=8,
            method__label_dropout=dropout,
            method__coupling="independent",
            optim__warmup_steps=0,
        )
        state = experiment.init(KEY)
        out = state.params["out"] | {"kernel": jnp.ones((64, 2))}
        state = state._replace(params=state.params | {"out": out})
        after, _ = jax.jit(experiment.train_step)(state, ring_batch(64), KEY)
        table = [s.params["label"]["embedding"] for s in (state, after)]
        moved = np.abs(table[1] - table[0]).max(axis=1) > 0
        np.testing.assert_array_equal(moved, [not hidden] * 8 + [hidden])


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
        ({"sampler__name": "eular"}, "did you mean 'euler'"),
        ({"method__coupling": "optimal"}, "known: independent, optimal_transport"),
        ({"method__time_distribution": "normal"}, "logit_normal"),
        ({"model__backbone": "unnet"}, "did you mean 'unet'"),
        ({"method__weighting": "edm"}, "known: simple, min_snr, sigmoid"),
        ({"method__min_snr_gamma": 0.0}, "min_snr_gamma must be more than 0, not 0.0"),
        ({"model__dtype": "float16"}, "known: float32, bfloat16"),
        ({"model__backbone": "unet"}, r"shape \(2,\).*choose 'mlp'"),
        ({"model__num_classes": 3}, "has 8 classes, not model.num_classes=3"),
        ({"sampler__num_steps": 0}, "sampler.num_steps must be more than 0, not 0"),
        ({"method__time_shift": -1.0}, "time_shift must be more than 0, not -1.0"),
        ({"sampler__guidance_scale": 2.0}, "needs labels: set model.num_classes=8"),
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
