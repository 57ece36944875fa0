import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats

from configs import gan_digits, gan_grid25
from experiments.gan import (
    clipped,
    draw_noise,
    in_turn,
    make_experiment,
    pack,
    penalty_weight,
)
from genjax import modes
from genjax.data import toy
from genjax.evaluation.density_modes import Modes, mode_metrics
from genjax.evaluation.frechet import frechet_distance
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
POINTS = DataSpec(
    name="gaussians25",
    shape=(2,),
    dtype="float32",
    num_levels=0,
    num_train=64,
    num_eval=16,
    num_classes=25,
)
DIGITS = DataSpec(
    name="digits",
    shape=(8, 8, 1),
    dtype="uint8",
    num_levels=17,
    num_train=64,
    num_eval=16,
    num_classes=10,
)
ODD = dataclasses.replace(DIGITS, name="odd", shape=(9, 9, 1))
DCGAN = {
    "backbone": "dcgan",
    "latent_dim": 8,
    "g_channels": 8,
    "d_channels": 8,
    "d_norm": "none",
    "d_spectral": False,
    "num_classes": 10,
}
RING = toy.density("gaussians8")
MEAN, FACTOR = np.array([2.0, -1.0]), np.array([[1.0, 0.0], [0.8, 0.5]])


def build(spec=POINTS, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    config = (gan_grid25 if spec is POINTS else gan_digits).get_config("tiny")
    config.method.critic_steps = 1
    if spec is not POINTS:
        config.model = ConfigDict(DCGAN)
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, spec)


def gaussian_points(key, num):
    """N(MEAN, FACTOR FACTOR^T)."""
    return jax.random.normal(key, (num, 2)) @ FACTOR.T.astype(np.float32) + MEAN[
        None
    ].astype(np.float32)


def train(experiment, state, draw, *, num_steps, batch_size=128):
    """(state, metrics of all steps), each step on new points draw(key, num)."""

    def step(state, key):
        data_key, key = jax.random.split(key)
        return experiment.train_step(state, {"image": draw(data_key, batch_size)}, key)

    keys = jax.random.split(jax.random.key(1), num_steps)
    return jax.jit(lambda state: jax.lax.scan(step, state, keys))(state)


def draw_samples(experiment, state, num):
    samples = jax.jit(experiment.sample, static_argnums=2)(
        state, jax.random.key(2), num
    )
    return np.asarray(samples)


def frechet_to_truth(points):
    return frechet_distance(
        points.mean(axis=0), np.cov(points.T), MEAN, FACTOR @ FACTOR.T
    )


# --- what it learns -------------------------------------------------------------------


def test_learns_a_gaussian():
    """With an affine generator: its mean and covariance, as a Frechet distance."""
    experiment = build(
        model__g_widths=(),
        method__point_scale=1.0,
        method__penalty_weight=0.3,
        optim__learning_rate=2e-3,
        optim__decay_steps=3000,
    )
    state = experiment.init(KEY)
    before = frechet_to_truth(draw_samples(experiment, state, 10_000))
    state, _ = train(experiment, state, gaussian_points, num_steps=3000)
    after = frechet_to_truth(draw_samples(experiment, state, 10_000))
    print(f"Frechet distance: untrained {before:.3f}, trained {after:.4f}")
    assert after < 0.05 < 5.0 < before


def test_finds_all_modes_of_the_ring():
    experiment = build(method__point_scale=1.5)
    state = experiment.init(KEY)
    ring = Modes(RING.centers, RING.sigma)
    before = mode_metrics(draw_samples(experiment, state, 2000), ring)
    state, _ = train(experiment, state, RING.sample, num_steps=3000)
    after = mode_metrics(draw_samples(experiment, state, 2000), ring)
    print(f"untrained {before}, trained {after}")
    assert after["modes"] == 8 and after["mode_kl"] < 0.1
    assert after["high_quality"] > 0.7 > 0.2 > before["high_quality"]


@pytest.mark.parametrize("loss", ["minimax", "relativistic"])
def test_the_discriminator_goes_to_the_log_ratio(loss):
    # The generator stands still as an affine map, so its law is N(b, K^T K).
    experiment = build(
        model__g_widths=(),
        method__point_scale=1.0,
        method__loss=loss,
        method__penalty="none",
        optim__learning_rate=0.0,
        optim__d_learning_rate=1e-3,
    )
    affine = {"kernel": jnp.diag(jnp.array([0.7, 1.2])), "bias": jnp.ones(2)}
    frozen = {"mlp": {"out": affine}}
    state = experiment.init(KEY)._replace(g_params=frozen, ema_params=frozen)
    state, _ = train(
        experiment,
        state,
        lambda key, num: jax.random.normal(key, (num, 2)),
        num_steps=1200,
        batch_size=256,
    )
    jax.tree.map(np.testing.assert_array_equal, state.g_params, frozen)
    x = np.random.default_rng(0).normal(0.5, 0.7, (500, 2)).astype(np.float32)
    batch = {"image": jnp.asarray(x)}
    found = experiment.evaluate(state, batch, KEY)["test_logit"]
    p = stats.multivariate_normal(np.zeros(2), np.eye(2))
    q = stats.multivariate_normal(np.ones(2), np.diag([0.49, 1.44]))
    exact = p.logpdf(x) - q.logpdf(x)
    error = np.asarray(found) - exact
    if loss == "relativistic":  # known but for a constant
        error -= error.mean()
    assert np.sqrt(np.mean(error**2)) < 0.15 * exact.std()


# --- laws of one step -----------------------------------------------------------------


SMALL = {"model__g_widths": (8,), "model__d_widths": (8,)}


def one_step(**changes):
    experiment = build(**SMALL, **changes)
    batch = {"image": RING.sample(KEY, 64)}
    return jax.jit(experiment.train_step)(jax.jit(experiment.init)(KEY), batch, KEY)


def test_clipped_weights_stay_in_their_box():
    state, _ = one_step(method__loss="wasserstein", method__clip_weights=0.01)
    largest = [float(jnp.abs(w).max()) for w in jax.tree.leaves(state.d_params)]
    assert max(largest) == pytest.approx(0.01)
    assert float(jnp.abs(state.g_params["mlp"]["out"]["kernel"]).max()) > 0.05
    as_it_is = {"w": jnp.array([5.0])}
    assert clipped(as_it_is, 0.0) is as_it_is


def test_packing_widens_the_discriminator_alone():
    alone, packed = (
        jax.eval_shape(build(method__packing=size).init, KEY) for size in (1, 4)
    )
    assert alone.d_params["mlp"]["hidden0"]["kernel"].shape == (2, 64)
    assert packed.d_params["mlp"]["hidden0"]["kernel"].shape == (8, 64)
    assert alone.g_params == packed.g_params
    rows = jnp.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(pack(rows, 3)[1], [6, 7, 8, 9, 10, 11])
    images = jnp.arange(8.0).reshape(4, 1, 2, 1)
    np.testing.assert_array_equal(pack(images, 2)[1], [[[4, 6], [5, 7]]])
    assert build(method__packing=4).evaluate is None


def test_the_discriminators_steps_see_every_row_once():
    rows = jnp.arange(12).reshape(12, 1)
    parts = np.asarray(in_turn(rows, 3))
    assert parts.shape == (3, 4, 1)
    np.testing.assert_array_equal(np.sort(parts.ravel()), np.arange(12))
    np.testing.assert_array_equal(parts[1].ravel(), [1, 4, 7, 10])


def test_each_of_the_discriminators_steps_is_an_update():
    state, _ = one_step(method__critic_steps=4)
    for opt_state, num_updates in [(state.d_opt_state, 4), (state.g_opt_state, 1)]:
        counts = [x for x in jax.tree.leaves(opt_state) if x.dtype == jnp.int32]
        assert {int(count) for count in counts} == {num_updates}


@pytest.mark.parametrize(
    "loss, penalty",
    [
        ("minimax", "none"),
        ("non_saturating", "dragan"),
        ("least_squares", "r1"),
        ("hinge", "none"),
        ("wasserstein", "wgan_gp"),
        ("relativistic", "r1_r2"),
    ],
)
def test_losses_and_penalties_train_both(loss, penalty):
    _, metrics = one_step(
        method__loss=loss,
        method__penalty=penalty,
        method__penalty_weight=3.0,
        method__packing=2,
    )
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["g_grad_norm"] > 0 and metrics["d_grad_norm"] > 0
    assert (metrics["penalty"] > 0) == (penalty != "none")
    total = metrics["d_loss"] + 3.0 * metrics["penalty"]
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)


def test_samples_are_of_the_averaged_generator():
    experiment = build(**SMALL)
    state, _ = one_step()
    raw = experiment.raw_weights(state)
    jax.tree.map(np.testing.assert_array_equal, raw.ema_params, state.g_params)
    assert not np.array_equal(
        draw_samples(experiment, state, 5), draw_samples(experiment, raw, 5)
    )


# --- images, labels and statistics ----------------------------------------------------


def digits_batch(num=8):
    image = np.random.default_rng(0).integers(0, 17, (num, 8, 8, 1), np.uint8)
    return {"image": jnp.asarray(image), "label": jnp.arange(num) % 10}


def test_statistics_are_gathered_in_training_and_used_in_evaluation():
    experiment = build(
        DIGITS,
        method__augment="none",
        method__penalty="none",
        model__d_norm="batch",
        model__d_spectral=True,
    )
    before = jax.jit(experiment.init)(KEY)
    batch = digits_batch()
    state, _ = jax.jit(experiment.train_step)(before, batch, KEY)
    for name in ("g_stats", "d_stats", "ema_stats"):
        old, new = (jax.tree.leaves(getattr(s, name)) for s in (before, state))
        assert old and all(
            not np.array_equal(*two) for two in zip(old, new, strict=True)
        )
    raw = experiment.raw_weights(state)
    jax.tree.map(np.testing.assert_array_equal, raw.ema_stats, state.g_stats)
    evaluate = jax.jit(experiment.evaluate)
    values = evaluate(state, batch, KEY)["test_logit"]
    others = {k: v.at[1:].set(v[0]) for k, v in batch.items()}
    np.testing.assert_allclose(
        evaluate(state, others, KEY)["test_logit"][0], values[0], rtol=1e-5
    )


def test_a_label_changes_the_sample_and_only_its_own():
    experiment = build(DIGITS)
    state = jax.jit(experiment.init)(KEY)
    loud = jax.tree.map(lambda w: 30.0 * w, state.ema_params)  # or all would be gray
    state = state._replace(ema_params=loud)
    sample = jax.jit(experiment.sample, static_argnums=2)
    zeros, mixed = (
        np.asarray(sample(state, KEY, 2, jnp.array(label)), np.int32)
        for label in ([0, 0], [0, 7])
    )
    np.testing.assert_array_equal(zeros[0], mixed[0])
    assert not np.array_equal(zeros[1], mixed[1])
    assert experiment.decode is None, "a code alone does not say the class"
    assert modes.class_columns(tuple(range(10))) == 10
    assert modes.class_columns((3,)) is None


def test_augmentation_follows_the_discriminator():
    """p goes up while all data are told for sure, and down while none are."""
    speed, start = 1000.0, 0.5
    experiment = build(
        DIGITS,
        method__ada_speed=speed,
        optim__learning_rate=0.0,
    )
    state = jax.jit(experiment.init)(KEY)._replace(augment_p=jnp.float32(start))
    step = jax.jit(experiment.train_step)
    for sign in (1.0, -1.0):
        d_params = jax.tree.map(jnp.zeros_like, state.d_params)
        d_params["out"]["bias"] = jnp.array([sign])
        after, metrics = step(state._replace(d_params=d_params), digits_batch(), KEY)
        assert float(after.augment_p) == pytest.approx(start + sign * 8 / speed)
        assert metrics["augment_p"] == after.augment_p


def test_truncated_noise_stays_within_its_limit():
    z = np.asarray(draw_noise(KEY, 4000, 5, 0.7))
    assert 0.69 < np.abs(z).max() <= 0.7
    assert z.std() == pytest.approx(stats.truncnorm.std(-0.7, 0.7), rel=0.02)
    whole = draw_noise(KEY, 4000, 5)
    assert stats.kstest(np.asarray(whole).ravel(), "norm").pvalue > 1e-3


def test_a_lazy_penalty_pulls_as_much_on_average():
    """Adam's first moment after one step is the gradient, but for a factor."""

    def moments(every, steps):
        experiment = build(
            **SMALL, method__penalty_every=every, method__penalty_weight=5.0
        )
        state, step = jax.jit(experiment.init)(KEY), jax.jit(experiment.train_step)
        batch = {"image": RING.sample(KEY, 64)}
        for i in steps:
            after, metrics = step(state._replace(step=jnp.int32(i)), batch, KEY)
            mu = [x for x in jax.tree.leaves(after.d_opt_state) if x.ndim == 2]
            yield np.concatenate([np.ravel(x) for x in mu[: len(mu) // 2]]), metrics

    (always, metrics), *_ = moments(1, [0])
    lazy = list(moments(3, [0, 1, 2]))
    assert [float(m["penalty"]) > 0 for _, m in lazy] == [True, False, False]
    taken, plain = float(lazy[0][1]["penalty"]), float(metrics["penalty"])
    assert taken == pytest.approx(3 * plain, rel=1e-5)
    mean = np.mean([mu for mu, _ in lazy], axis=0)
    np.testing.assert_allclose(mean, always, rtol=1e-4, atol=1e-6)
    assert np.abs(lazy[1][0] - always).max() > 1e-3


def test_the_weight_of_the_penalty_goes_to_its_end():
    def at(step, end):
        options = {"start": 4.0, "end": end, "num_steps": 100}
        return float(penalty_weight(jnp.int32(step), **options))

    assert [at(i, 1.0) for i in (0, 50, 100, 200)] == pytest.approx([4.0, 2.5, 1, 1])
    assert at(70, None) == 4.0


# --- mistakes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model__backbone": "dcgan"}, "gaussians25 has points of shape"),
        ({"method__flip": True}, "gaussians25 has points of shape"),
        ({"method__augment": "ada"}, "gaussians25 has points of shape"),
        ({"spec": DIGITS, "model__num_classes": 3}, "has 10 classes, not"),
        (
            {"spec": DIGITS, "model__d_norm": "batch", "method__penalty": "r1"},
            "choose another d_norm",
        ),
        ({"spec": DIGITS, "method__packing": 2}, "of several classes side by side"),
        ({"spec": DIGITS, "method__augment_policy": ("colour",)}, "mean color"),
        ({"spec": ODD}, "does not fit odd"),
        ({"sampler__truncation": 0.0}, "truncation must be more than 0"),
        ({"method__penalty_every": 0}, "penalty_every must be at least 1"),
        ({"method__loss": "hing"}, "did you mean 'hinge'"),
        ({"method__penalty": "r2"}, "penalty='r2' does not exist"),
        ({"method__critic_steps": 0}, "critic_steps must be at least 1, not 0"),
        ({"method__clip_weights": -1.0}, "clip_weights must not be less than 0"),
        ({"method__point_scale": 0.0}, "point_scale must be more than 0"),
        ({"method__packing": 3}, "choose a multiple of 3"),
    ],
)
def test_mistakes_are_answered(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)
