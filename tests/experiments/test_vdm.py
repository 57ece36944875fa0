import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vdm_digits, vdm_mnist, vdm_toy2d
from experiments.vdm import Weights, make_experiment, path_of, with_fourier
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
CONFIGS = [vdm_digits, vdm_mnist, vdm_toy2d]
RING = toy.density("gaussians8")


def build(spec=POINTS, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    module = vdm_toy2d if spec is POINTS else vdm_digits
    config = module.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, spec)


def points_of(num):
    return {"image": RING.sample(jax.random.key(1), num)}


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


def test_an_untrained_network_of_levels_knows_independent_uniform_pixels():
    """64 log 17 nats for any image: the bound loses nothing."""
    experiment = build(DIGITS, eval__likelihood_draws=128)
    image = jax.random.randint(KEY, (8, 8, 8, 1), 0, 17).astype(jnp.uint8)
    state = experiment.init(KEY)
    values = jax.jit(experiment.log_likelihood)(state, {"image": image}, KEY)
    np.testing.assert_allclose(values.mean(), -64 * math.log(17), rtol=0.02)


def test_likelihood_of_points_is_a_density_in_their_own_unit():
    """Twice the scale for twice the points: a density divided by 4 in the plane."""
    batch, values = points_of(6), []
    for scale in (1.0, 2.0):
        experiment = build(method__point_scale=scale, eval__likelihood_draws=2)
        scaled = {"image": batch["image"] * scale}
        state = experiment.init(KEY)
        values.append(jax.jit(experiment.log_likelihood)(state, scaled, KEY))
    np.testing.assert_allclose(
        values[0] - values[1], jnp.full(6, 2 * np.log(2)), atol=0.02
    )
    assert "2 stratified times" in build(eval__likelihood_draws=2).likelihood_note


def test_parts_of_the_bound_and_its_mean_agree():
    """evaluate (one time an example) and log_likelihood estimate the same thing."""
    experiment = build(eval__likelihood_draws=8)
    state, batch = experiment.init(KEY), points_of(4000)
    parts = jax.jit(experiment.evaluate)(state, batch, KEY)
    assert set(parts) == {"nats_prior", "nats_diffusion", "nats_decoder"}
    nats = sum(values.mean() for values in parts.values())
    whole = -jax.jit(experiment.log_likelihood)(state, batch, KEY).mean()
    np.testing.assert_allclose(nats, whole - 2 * np.log(1.5), rtol=0.05)


# --- learning -------------------------------------------------------------------------


@functools.cache
def trained():
    """8 Gaussians after 2000 steps."""
    experiment = build()
    points = RING.sample(KEY, 20_000)

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (128,), 0, len(points))
        return experiment.train_step(state, {"image": points[rows]}, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(2000)))
    return experiment, *run(experiment.init(KEY))


def test_learns_eight_gaussians():
    """The bound lies under the exact value."""
    experiment, state, _ = trained()
    points = RING.sample(jax.random.key(1), 2000)
    likelihood = jax.jit(experiment.log_likelihood)
    bound = likelihood(state, {"image": points}, KEY).mean()
    exact = RING.log_prob(points).mean()
    untrained = likelihood(experiment.init(KEY), {"image": points}, KEY).mean()
    assert exact - 0.5 < bound < exact + 0.1
    assert untrained < exact - 4.0

    sample = jax.jit(experiment.sample, static_argnums=2)
    distance = np.linalg.norm(
        sample(state, KEY, 1000)[:, None] - RING.centers[None], axis=-1
    )
    near = distance.min(axis=1) < 5 * RING.sigma
    assert near.mean() > 0.6  # 0.13 untrained
    share = np.bincount(distance.argmin(axis=1)[near], minlength=8) / near.sum()
    assert share.min() > 0.06  # of 0.125


def test_both_ends_are_learned_and_reported():
    experiment, state, metrics = trained()
    ends = metrics["gamma_min"][-1], metrics["gamma_max"][-1]
    path = path_of(state.params)
    logsnr = path.logsnr(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(logsnr, -jnp.array(ends), rtol=1e-3)
    assert np.abs(jnp.array(ends) - jnp.array([-9.0, 5.0])).min() > 1e-3
    assert experiment.raw_weights(state).ema_params is state.params


# --- choices --------------------------------------------------------------------------


def test_labels_are_refused():
    experiment = build()
    state = jax.eval_shape(experiment.init, KEY)
    with pytest.raises(UserError, match="without labels"):
        experiment.sample(state, KEY, 2, jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__backbone": "unnet"}, "did you mean 'unet'"),
        ({"model__dtype": "float16"}, "known: float32, bfloat16"),
        ({"model__backbone": "unet"}, r"shape \(2,\).*choose 'mlp'"),
        ({"method__prediction": "x0"}, "known: eps, levels"),
        ({"method__prediction": "levels"}, "points, which have no levels"),
        ({"method__gamma_max": -10.0}, "-10.0 must be more than method.gamma_min"),
        ({"sampler__num_steps": 0}, "sampler.num_steps must be more than 0, not 0"),
        ({"sampler__name": "hein"}, "did you mean 'heun'"),
        ({"eval__likelihood_draws": 0}, "likelihood_draws must be more than 0"),
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
