import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from configs import (
    ddpm_cifar,
    ddpm_cifar_improved,
    ddpm_digits,
    ddpm_digits_learned,
    ddpm_mnist,
    ddpm_toy2d,
)
from experiments.ddpm import make_experiment
from genjax.data import toy
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
CONFIGS = [
    ddpm_cifar,
    ddpm_cifar_improved,
    ddpm_digits,
    ddpm_digits_learned,
    ddpm_mnist,
    ddpm_toy2d,
]
LEARNED = {"method__variance": "learned", "sampler__variance": "learned"}


def build(spec=POINTS, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    module = ddpm_toy2d if spec is POINTS else ddpm_digits
    config = module.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, spec)


def batch_of(spec, num=6):
    image_key, label_key = jax.random.split(jax.random.key(1))
    shape = (num, *spec.shape)
    if spec.num_levels:
        image = jax.random.randint(image_key, shape, 0, spec.num_levels)
        image = image.astype(jnp.uint8)
    else:
        image = jax.random.normal(image_key, shape)
    label = jax.random.randint(label_key, (num,), 0, spec.num_classes)
    return {"image": image, "label": label, "index": jnp.arange(num)}


def awake(experiment):
    """A state whose weights are all away from zero, so that labels and times show."""
    state, rng = jax.eval_shape(experiment.init, KEY), np.random.default_rng(0)
    params = jax.tree.map(
        lambda p: jnp.asarray(0.2 * rng.normal(size=p.shape), p.dtype), state.params
    )
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    return zeros._replace(params=params, ema_params=params)


def sampler(experiment):
    return jax.jit(experiment.sample, static_argnums=2)


def test_an_untrained_network_misses_all_the_noise():
    """It answers 0, so the error is that of eps: 1 a dimension in expectation."""
    experiment = build()
    values = experiment.evaluate(experiment.init(KEY), batch_of(POINTS, 4000), KEY)
    np.testing.assert_allclose(values["loss_simple"].mean(), 1.0, atol=0.05)


@functools.cache
def trained(**changes):
    """8 Gaussians after 2000 steps."""
    experiment = build(**changes)
    points = toy.density("gaussians8").sample(KEY, 20_000)

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (128,), 0, len(points))
        return experiment.train_step(state, {"image": points[rows]}, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(2000)))
    return experiment, run(experiment.init(KEY))[0]


def test_learns_eight_gaussians():
    """The bound lies under the exact value, which an untrained network is 16 from."""
    density = toy.density("gaussians8")
    experiment, state = trained()
    points = density.sample(jax.random.key(1), 1000)
    bound = jax.jit(experiment.log_likelihood)(state, {"image": points}, KEY).mean()
    exact = density.log_prob(points).mean()
    assert exact - 4.0 < bound < exact

    samples = sampler(experiment)(state, KEY, 1000)
    distance = np.linalg.norm(samples[:, None] - density.centers[None], axis=-1)
    near = distance.min(axis=1) < 5 * density.sigma
    assert near.mean() > 0.6  # 0.7-0.9 when measured, 0.13 untrained
    share = np.bincount(distance.argmin(axis=1)[near], minlength=8) / near.sum()
    assert share.min() > 0.06  # of 0.125


def test_learned_variances_have_a_better_bound_than_fixed_ones():
    """Of one and the same network, whose variances the bound alone has taught."""
    experiment, state = trained(**LEARNED)
    points = toy.density("gaussians8").sample(jax.random.key(1), 1000)
    bounds = {}
    for variance in ("learned", "fixed_small", "fixed_large"):
        experiment = build(method__variance="learned", sampler__variance=variance)
        value = jax.jit(experiment.log_likelihood)(state, {"image": points}, KEY)
        bounds[variance] = value.mean()
    exact = toy.density("gaussians8").log_prob(points).mean()
    # measured: -1.44 learned, -1.77 large, -2.81 small; the exact value is -0.34
    assert max(bounds["fixed_small"], bounds["fixed_large"]) < bounds["learned"] < exact


def test_the_bound_teaches_the_variance_and_not_the_mean():
    """The last layer starts at 0, so that its own gradient is all there is."""
    layers = []
    for weight in (0.0, 1.0):
        experiment = build(
            method__variance="learned",
            method__vlb_weight=weight,
            optim__warmup_steps=0,
            optim__clip=None,
        )
        state = experiment.init(KEY)
        after, _ = jax.jit(experiment.train_step)(state, batch_of(POINTS), KEY)
        layers.append(after.params["out"]["kernel"])
    without, with_bound = layers
    np.testing.assert_array_equal(without[:, :2], with_bound[:, :2])
    assert (without[:, :2] != 0).any()
    np.testing.assert_array_equal(without[:, 2:], 0.0)
    assert (with_bound[:, 2:] != 0).any()


@functools.cache
def loss_at_one_timestep(weighting, prediction):
    """Of an untrained network; the SNR is 20 at the one timestep."""
    experiment = build(
        method__num_timesteps=1,
        sampler__num_steps=1,
        method__beta_start=1 / 21,
        method__weighting=weighting,
        method__prediction=prediction,
        method__sigmoid_bias=0.0,
    )
    step = jax.jit(experiment.train_step)
    return step(experiment.init(KEY), batch_of(POINTS), KEY)[1]["loss"]


@pytest.mark.parametrize(
    ("weighting", "prediction", "weight"),
    [
        ("min_snr", "eps", 5 / 20),
        ("min_snr", "v", 5 / 21),
        ("sigmoid", "eps", 1 / 21),
    ],
)
def test_weighted_loss(weighting, prediction, weight):
    loss = loss_at_one_timestep(weighting, prediction)
    simple = loss_at_one_timestep("simple", prediction)
    np.testing.assert_allclose(loss, weight * simple, rtol=1e-4)


def test_average_and_raw_weights_are_both_kept():
    experiment, state = trained()
    assert experiment.raw_weights(state).ema_params is state.params
    flat = [
        np.concatenate([p.ravel() for p in jax.tree.leaves(tree)])
        for tree in (state.params, state.ema_params)
    ]
    assert 0 < np.abs(flat[0] - flat[1]).mean() < 0.05
    assert int(state.step) == 2000


def test_one_step_reports_its_gradient_and_moves_the_average():
    experiment = build(optim__warmup_steps=0)
    before = experiment.init(KEY)
    after, metrics = jax.jit(experiment.train_step)(before, batch_of(POINTS, 600), KEY)
    np.testing.assert_allclose(metrics["loss"], 1.0, atol=0.2)
    assert metrics["grad_norm"] > 0
    # the first decay of the average is 1/10
    name = ("params", "ema_params")
    new, mean = (getattr(after, n)["out"]["bias"] for n in name)
    old = before.params["out"]["bias"]
    np.testing.assert_allclose(mean, 0.1 * old + 0.9 * new, rtol=1e-5)
    assert int(after.step) == 1


SMALL = {"model__channel_multipliers": (1,), "model__attention_resolutions": ()}


def test_flips_show_on_images_that_are_not_symmetric():
    image = batch_of(DIGITS, 16)["image"]
    symmetric = image // 2 + image[:, :, ::-1] // 2
    experiments = [build(DIGITS, method__flip=flip, **SMALL) for flip in (True, False)]
    state = awake(experiments[0])

    @jax.jit
    def losses(image):
        batch = {"image": image}
        return [e.train_step(state, batch, KEY)[1]["loss"] for e in experiments]

    flipped, not_flipped = losses(symmetric)
    np.testing.assert_allclose(flipped, not_flipped, rtol=1e-5)
    flipped, not_flipped = losses(image)
    assert not np.isclose(flipped, not_flipped, rtol=1e-5)


def test_accumulation_gives_a_step_too():
    experiment = build(optim__accumulation=2)
    _, metrics = experiment.train_step(experiment.init(KEY), batch_of(POINTS), KEY)
    assert np.isfinite(metrics["loss"])


# --- labels ---------------------------------------------------------------------------


def test_labels_steer_samples_and_guidance_takes_them_further():
    labels = jnp.full(64, 3), jnp.full(64, 5)
    moves = []
    for scale in (1.0, 3.0):
        experiment = build(model__num_classes=8, sampler__guidance_scale=scale)
        state = awake(experiment)
        three, five = (sampler(experiment)(state, KEY, 64, label) for label in labels)
        moves.append(np.abs(three - five).mean())
    assert 0 < moves[0] < moves[1]


def test_hidden_labels_are_the_null_label():
    """Always hidden: no gradient for any other label; never: none for the null one."""
    for dropout, hidden in [(1.0, True), (0.0, False)]:
        experiment = build(
            model__num_classes=8, method__label_dropout=dropout, optim__warmup_steps=0
        )
        state = awake(experiment)
        after, _ = jax.jit(experiment.train_step)(state, batch_of(POINTS, 64), KEY)
        table = [s.params["label"]["embedding"] for s in (state, after)]
        moved = np.abs(table[1] - table[0]).max(axis=1) > 0
        np.testing.assert_array_equal(moved, [not hidden] * 8 + [hidden])


def test_no_label_means_any_label():
    experiment = build(model__num_classes=8)
    state = awake(experiment)
    assert sampler(experiment)(state, KEY, 4).shape == (4, 2)


@pytest.mark.parametrize(
    ("num_classes", "label", "message"),
    [
        (0, jnp.zeros(2, jnp.int32), "trained without labels"),
        (8, jnp.array([1, 8]), "from 0 to 7, and 8 does not"),
        (8, jnp.array([-1, 1]), "from 0 to 7, and -1 does not"),
        (8, jnp.zeros(3, jnp.int32), r"shape \(2,\), not \(3,\)"),
    ],
)
def test_labels_that_do_not_fit(num_classes, label, message):
    experiment = build(model__num_classes=num_classes)
    state = jax.eval_shape(experiment.init, KEY)
    with pytest.raises(UserError, match=message):
        experiment.sample(state, KEY, 2, label)


# --- likelihood -----------------------------------------------------------------------


def test_likelihood_of_points_is_a_density_in_their_own_unit():
    """Twice the scale for twice the points: a density divided by 4 in the plane."""
    batch = batch_of(POINTS)
    values = []
    for scale in (1.0, 2.0):
        experiment = build(method__point_scale=scale)
        state = awake(experiment)
        scaled = batch | {"image": batch["image"] * scale}
        values.append(jax.jit(experiment.log_likelihood)(state, scaled, KEY))
    np.testing.assert_allclose(
        values[0] - values[1], jnp.full(6, 2 * np.log(2)), rtol=1e-3
    )


def test_likelihood_of_images_is_negative_and_its_protocol_is_told():
    experiment = build(
        DIGITS, eval__likelihood_timesteps=5, model__num_classes=10, **SMALL
    )
    assert experiment.likelihood_kind == "lower_bound"
    for part in (
        "T=20",
        "5 stratified timesteps",
        "fixed_large",
        "no dequantisation",
        "given the label",
    ):
        assert part in experiment.likelihood_note
    state = awake(experiment)
    values = jax.jit(experiment.log_likelihood)(state, batch_of(DIGITS), KEY)
    assert values.shape == (6,) and (values < 0).all()


def test_density_by_the_ode_without_score():
    """x shrinks with alpha alone, from t = 1/T to 1: a wide Gaussian."""
    experiment = build(eval__likelihood="ode")
    assert experiment.likelihood_kind == "estimate"
    assert "probability-flow ODE" in experiment.likelihood_note
    points = batch_of(POINTS)["image"]
    state = experiment.init(KEY)
    got = jax.jit(experiment.log_likelihood)(state, {"image": points}, KEY)
    kept = np.cumprod(1 - np.linspace(2e-3, 0.3, 50))  # alpha_bar of tiny
    width = 1.5 * np.sqrt((1 - kept[-1]) * kept[0] / kept[-1])
    want = norm.logpdf(np.asarray(points), scale=width).sum(axis=1)
    # the slope has a jump at each of 50 timesteps
    np.testing.assert_allclose(got, want, atol=0.04)


# --- samplers and choices -------------------------------------------------------------


@pytest.mark.parametrize(
    "choice",
    [
        {"sampler__name": "ddim", "sampler__spacing": "quadratic"},
        {"sampler__name": "ddim", "sampler__eta": 0.5},
        {"sampler__name": "ancestral", "sampler__variance": "fixed_small"},
        {"sampler__name": "heun", "sampler__churn": 1.0, "sampler__spacing": "karras"},
        {"sampler__name": "dpmpp_2m", "sampler__spacing": "logsnr"},
        {"sampler__name": "unipc_3"},
        {"sampler__name": "predictor_corrector", "sampler__corrector_steps": 2},
        {"sampler__name": "adaptive"},
        {"sampler__clip": True},
        LEARNED,
        LEARNED | {"model__num_classes": 8, "sampler__guidance_scale": 2.0},
        LEARNED | {"sampler__name": "ddim"},
        {"method__variance": "learned", "sampler__variance": "fixed_small"},
        {"method__schedule": "cosine", "sampler__clip": True},
        {"method__prediction": "v"},
        {"method__prediction": "x0"},
        {"model__dtype": "bfloat16"},
    ],
    ids=str,
)
def test_every_choice_samples(choice):
    experiment = build(sampler__num_steps=5, **choice)
    state = awake(experiment)
    samples = sampler(experiment)(state, KEY, 3)
    assert samples.shape == (3, 2) and samples.dtype == jnp.float32
    assert np.isfinite(samples).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler__name": "ancestrall"}, "ancestrall.*did you mean 'ancestral'"),
        ({"sampler__name": "rk4"}, "sampler.name='rk4'.*known: ancestral, ddim"),
        ({"sampler__name": "dpmpp2m"}, "did you mean 'dpmpp_2m'"),
        ({"sampler__tolerance": 0.0}, "sampler.tolerance must be at least 1e-07"),
        ({"sampler__corrector_steps": 0}, "corrector_steps must be at least 1, not 0"),
        ({"sampler__spacing": "quadratical"}, "did you mean 'quadratic'"),
        ({"sampler__variance": "fixedlarge"}, "did you mean 'fixed_large'"),
        ({"eval__likelihood": "bound"}, "known: vlb, ode"),
        ({"sampler__variance": "learned"}, "trained with method.variance='learned'"),
        ({"method__variance": "learnt"}, "did you mean 'learned'"),
        ({"method__schedule": "cos"}, "known: linear, cosine"),
        ({"method__weighting": "min-snr"}, "did you mean 'min_snr'"),
        ({"method__min_snr_gamma": 0.0}, "min_snr_gamma must be more than 0, not 0.0"),
        ({"method__vlb_weight": -1.0}, "vlb_weight must be at least 0.0, not -1.0"),
        ({"method__prediction": "epsilon"}, "known: eps, x0, v"),
        ({"model__backbone": "unnet"}, "did you mean 'unet'"),
        ({"model__dtype": "float16"}, "known: float32, bfloat16"),
        ({"model__backbone": "unet"}, r"shape \(2,\).*choose 'mlp'"),
        ({"model__num_classes": 3}, "has 8 classes, not model.num_classes=3"),
        ({"sampler__num_steps": 51}, "1 ... 50 .*, not 51"),
        ({"sampler__guidance_scale": 2.0}, "needs labels: set model.num_classes=8"),
    ],
)
def test_choices_that_do_not_exist(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


@pytest.mark.parametrize("module", CONFIGS, ids=lambda m: m.__name__)
def test_configs_know_their_variants(module):
    assert module.get_config("tiny").training.num_steps <= 4000
    with pytest.raises(ValueError, match="'small'.*'tiny'"):
        module.get_config("small")
