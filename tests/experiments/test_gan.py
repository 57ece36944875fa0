import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from experiments import gan
from experiments.gan import Game, Method, State, d_step, play
from genjax import configs
from genjax.augment.seen import Augment
from genjax.data import toy
from genjax.evaluation.density_modes import Modes, mode_metrics
from genjax.evaluation.frechet import frechet_distance
from genjax.models.adversary import Pair, Player, make_pair
from genjax.objectives.adversarial import Penalty
from genjax.training.learner import Learner, Optim
from genjax.typing import UserError
from tests.specs import DIGITS, of_points

KEY = jax.random.key(0)
POINTS = of_points("gaussians25", 25)
ODD = dataclasses.replace(DIGITS, name="odd", shape=(9, 9, 1))
DCGAN = {
    "backbone": "dcgan",
    "latent_dim": 8,
    "g_channels": 8,
    "d_channels": 8,
    "d_norm": "none",
    "num_classes": 10,
}
RING = toy.density("gaussians8")
MEAN, FACTOR = np.array([2.0, -1.0]), np.array([[1.0, 0.0], [0.8, 0.5]])


def build(spec=POINTS, **changes):
    """The experiment at tiny, with config.section.field = value for section__field."""
    file = "gan_grid25" if spec is POINTS else "gan_digits"
    stated = configs.load(f"{file}:tiny").to_dict()
    stated["method"]["critic_steps"] = 1
    if spec is not POINTS:
        stated["model"] = DCGAN
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    stated = configs.merged(stated, configs.nested(changes))
    return configs.make_experiment(configs.complete(stated), spec)


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
        inputs__point_scale=1.0,
        method__penalty__weight=0.3,
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
    experiment = build(inputs__point_scale=1.5)
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
    def affine(params, stats, z, label, *, train):
        return z * jnp.array([[0.7, 1.2]]) + 1.0, stats

    pair = make_pair(POINTS, backbone="mlp", latent_dim=2, d_widths=(64, 64))
    pair = dataclasses.replace(pair, generator=Player(lambda key: ({}, {}), affine))
    game, state = start(pair, loss=loss, learner=Optim(learning_rate=1e-3, b1=0.8))

    def turn(state, key):
        data_key, key = jax.random.split(key)
        x = jax.random.normal(data_key, (256, 2))
        return d_step(game, state, ((x, None), key))

    keys = jax.random.split(jax.random.key(1), 1200)
    state, _ = jax.jit(lambda state: jax.lax.scan(turn, state, keys))(state)
    x = np.random.default_rng(0).normal(0.5, 0.7, (500, 2)).astype(np.float32)
    found = pair.discriminator(*state.d.averaged, jnp.asarray(x))
    p = stats.multivariate_normal(np.zeros(2), np.eye(2))
    q = stats.multivariate_normal(np.ones(2), np.diag([0.49, 1.44]))
    exact = p.logpdf(x) - q.logpdf(x)
    error = np.asarray(found) - exact
    if loss == "relativistic":  # known but for a constant
        error -= error.mean()
    assert np.sqrt(np.mean(error**2)) < 0.15 * exact.std()


# --- laws of one step, of two players without networks --------------------------------


def shifted(params, stats, z, label, *, train):
    """A generator: noise about a place."""
    return z + params["place"][None], stats


def bent(params, stats, x, label, *, train):
    """A critic whose slope differs from place to place."""
    return jnp.tanh(x @ params["in"]) @ params["out"], stats


def start(pair, *, learner, augment=None, **method):
    """(the game, its first state)."""
    optim = learner if isinstance(learner, Optim) else None
    g_learner = optim.learner() if optim else learner
    game = Game(
        pair=pair,
        g_learner=g_learner,
        d_learner=optim.opponent() if optim else learner,
        method=Method(**method),
        augment=augment or Augment(),
    )
    g_key, d_key = jax.random.split(KEY)
    g = game.g_learner.init(*pair.generator.init(g_key))
    d = game.d_learner.init(*pair.discriminator.init(d_key))
    return game, State(g, d, jnp.zeros(()))


def two_players(packing=1):
    def init_critic(key):
        params = {"in": jax.random.normal(key, (2 * packing, 3)), "out": jnp.ones(3)}
        return params, {}

    place = {"place": jnp.array([3.0, 1.0])}
    return Pair(
        generator=Player(lambda key: (place, {}), shifted),
        discriminator=Player(init_critic, bent),
        latent_dim=2,
    )


def one_step(num=64, accumulation=1, **method):
    """(state before, state after, metrics) of gradient descent."""
    learner = Learner(
        optimizer=optax.sgd(0.1),
        schedule=optax.constant_schedule(0.1),
        accumulation=accumulation,
    )
    game, state = start(
        two_players(method.get("packing", 1)), learner=learner, **method
    )
    data = RING.sample(KEY, num), None
    after, metrics = jax.jit(functools.partial(play, game))(
        state, data, KEY, jax.random.key(1)
    )
    return state, after, metrics


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
    _, _, metrics = one_step(
        loss=loss, penalty=Penalty(name=penalty, weight=3.0), packing=2
    )
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["g_grad_norm"] > 0 and metrics["d_grad_norm"] > 0
    assert (metrics["penalty"] > 0) == (penalty != "none")
    total = metrics["d_loss"] + 3.0 * metrics["penalty"]
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)


@pytest.mark.parametrize("critic_steps", [1, 2])
def test_gradients_in_parts_are_those_of_the_whole_batch(critic_steps):
    how = {"loss": "relativistic", "penalty": Penalty(name="r1_r2", weight=0.3)}
    how |= {"critic_steps": critic_steps, "packing": 2}
    _, whole, metrics = one_step(**how)
    _, parts, in_parts = one_step(**how, accumulation=4)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for name, value in metrics.items():
        np.testing.assert_allclose(value, in_parts[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, "batch norm is of the whole batch"),
        ({"model__d_minibatch_std": True}, "model.d_minibatch_std is of"),
    ],
)
def test_what_is_of_a_whole_batch_does_not_come_in_parts(changes, what):
    with pytest.raises(UserError, match=f"accumulation=2 takes a batch in.*{what}"):
        build(DIGITS, optim__accumulation=2, **changes)


def test_one_step_by_hand():
    """Of critics x @ w under the Wasserstein loss: both gradients are known."""

    def linear(params, stats, x, label, *, train):
        return x @ params, stats

    pair = dataclasses.replace(
        two_players(),
        discriminator=Player(lambda key: (jnp.array([2.0, -1.0]), {}), linear),
    )
    learner = Learner(optimizer=optax.sgd(1.0), schedule=optax.constant_schedule(1.0))
    game, state = start(pair, learner=learner, loss="wasserstein")
    x = RING.sample(KEY, 50_000)
    after, metrics = play(game, state, (x, None), KEY, jax.random.key(1))
    place = np.array([3.0, 1.0])
    w = np.array([2.0, -1.0]) - (place - np.asarray(x.mean(axis=0)))
    np.testing.assert_allclose(after.d.params, w, atol=0.03)
    np.testing.assert_allclose(after.g.params["place"], place + w, atol=0.03)
    assert float(metrics["logit_fake"]) == pytest.approx(5.0, abs=0.03)


def test_clipped_weights_stay_in_their_box():
    _, after, _ = one_step(loss="wasserstein", clip_weights=0.01)
    largest = [float(jnp.abs(w).max()) for w in jax.tree.leaves(after.d.params)]
    assert max(largest) == pytest.approx(0.01)
    assert float(after.g.params["place"].max()) > 1.0


def test_each_of_the_discriminators_turns_is_an_update():
    _, after, _ = one_step(critic_steps=4)
    assert (int(after.d.step), int(after.g.step)) == (4, 1)


def test_a_batch_that_does_not_divide():
    with pytest.raises(UserError, match=r"packing=6: set training.batch_size to a mul"):
        one_step(critic_steps=2, packing=3)


def test_a_lazy_penalty_pulls_as_much_on_average():
    def changes(every, turns):
        learner = Learner(
            optimizer=optax.sgd(1.0), schedule=optax.constant_schedule(1.0)
        )
        penalty = Penalty(name="r1", weight=5.0, every=every)
        game, state = start(two_players(), learner=learner, penalty=penalty)
        turn = jax.jit(functools.partial(d_step, game))
        part = (RING.sample(KEY, 64), None), KEY
        for i in turns:
            before = state._replace(d=state.d._replace(step=jnp.int32(i)))
            after, metrics = turn(before, part)
            moved = jax.tree.map(jnp.subtract, after.d.params, before.d.params)
            yield np.concatenate([np.ravel(x) for x in moved.values()]), metrics

    (always, metrics), *_ = changes(1, [0])
    lazy = list(changes(3, [0, 1, 2]))
    assert [float(m["penalty"]) > 0 for _, m in lazy] == [True, False, False]
    taken, plain = float(lazy[0][1]["penalty"]), float(metrics["penalty"])
    assert taken == pytest.approx(3 * plain, rel=1e-5)
    mean = np.mean([change for change, _ in lazy], axis=0)
    np.testing.assert_allclose(mean, always, rtol=1e-4, atol=1e-6)
    assert np.abs(lazy[1][0] - always).max() > 1e-3


@pytest.mark.parametrize("loss", ["non_saturating", "least_squares"])
def test_augmentation_follows_the_discriminator(loss):
    """p goes up while all data are known for sure, and down while none are."""
    speed, p = 1000.0, 0.5

    def gray(params, stats, z, label, *, train):
        return jnp.zeros((len(z), 8, 8, 1)), stats

    def certain(params, stats, x, label, *, train):
        """Data, which are not gray, have the logit +-1, samples the opposite."""
        real = jnp.any(x != 0.0, axis=(1, 2, 3))
        return params * jnp.where(real, 1.0, -1.0), stats

    pair = Pair(
        generator=Player(lambda key: ({}, {}), gray),
        discriminator=Player(lambda key: (jnp.float32(1.0), {}), certain),
        latent_dim=1,
    )
    game, state = start(
        pair,
        learner=Learner(
            optimizer=optax.sgd(0.0), schedule=optax.constant_schedule(0.0)
        ),
        augment=Augment(kind="ada", ada_speed=speed),
        loss=loss,
    )
    turn = jax.jit(functools.partial(d_step, game))
    for sign in (1.0, -1.0):
        d = state.d._replace(params=jnp.float32(sign))
        before = state._replace(d=d, augment_p=jnp.float32(p))
        after, metrics = turn(before, ((jnp.full((8, 8, 8, 1), 0.7), None), KEY))
        assert float(after.augment_p) == pytest.approx(p + sign * 8 / speed)
        assert metrics["augment_p"] == after.augment_p


# --- networks: packs, averages, labels and statistics ---------------------------------


SMALL = {"model__g_widths": (8,), "model__d_widths": (8,)}


def test_packing_widens_the_discriminator_alone():
    alone, packed = (
        jax.eval_shape(build(method__packing=size).init, KEY) for size in (1, 4)
    )
    assert alone.d.params["mlp"]["hidden0"]["kernel"].shape == (2, 64)
    assert packed.d.params["mlp"]["hidden0"]["kernel"].shape == (8, 64)
    assert alone.g.params == packed.g.params
    assert build(method__packing=4).evaluate is None


def test_samples_are_of_the_averaged_generator():
    experiment = build(**SMALL)
    state = jax.jit(experiment.init)(KEY)
    batch = {"image": RING.sample(KEY, 64)}
    state, _ = jax.jit(experiment.train_step)(state, batch, KEY)
    raw = experiment.raw_weights(state)
    jax.tree.map(np.testing.assert_array_equal, raw.g.ema_params, state.g.params)
    assert not np.array_equal(
        draw_samples(experiment, state, 5), draw_samples(experiment, raw, 5)
    )
    assert build(**SMALL, optim__ema_decay=None).raw_weights is None


def test_samples_are_those_of_their_codes():
    experiment = build(**SMALL, sampler__truncation=0.5)
    state = jax.jit(experiment.init)(KEY)
    codes = experiment.code.prior(jax.random.split(jax.random.key(2))[0], 5)
    assert np.abs(codes).max() <= 0.5
    np.testing.assert_allclose(
        experiment.code.decode(state, codes, KEY),
        draw_samples(experiment, state, 5),
        rtol=1e-5,
    )


def digits_batch(num=8):
    image = np.random.default_rng(0).integers(0, 17, (num, 8, 8, 1), np.uint8)
    return {"image": jnp.asarray(image), "label": jnp.arange(num) % 10}


def test_statistics_are_gathered_in_training_and_used_in_evaluation():
    experiment = build(
        DIGITS,
        augment__kind="none",
        method__penalty__name="none",
        model__d_norm="batch",
        model__d_spectral=True,
    )
    before = jax.jit(experiment.init)(KEY)
    batch = digits_batch()
    state, _ = jax.jit(experiment.train_step)(before, batch, KEY)
    for player, name in [("g", "stats"), ("d", "stats"), ("g", "ema_stats")]:
        old, new = (
            jax.tree.leaves(getattr(getattr(s, player), name)) for s in (before, state)
        )
        assert old and all(
            not np.array_equal(*two) for two in zip(old, new, strict=True)
        )
    raw = experiment.raw_weights(state)
    jax.tree.map(np.testing.assert_array_equal, raw.g.ema_stats, state.g.stats)
    evaluate = jax.jit(experiment.evaluate)
    values = evaluate(state, batch, KEY)["test_logit"]
    others = {k: v.at[1:].set(v[0]) for k, v in batch.items()}
    np.testing.assert_allclose(
        evaluate(state, others, KEY)["test_logit"][0], values[0], rtol=1e-5
    )


def test_a_label_changes_the_sample_and_only_its_own():
    experiment = build(DIGITS)
    state = jax.jit(experiment.init)(KEY)
    loud = jax.tree.map(lambda w: 30.0 * w, state.g.ema_params)  # or all would be gray
    state = state._replace(g=state.g._replace(ema_params=loud))
    sample = jax.jit(experiment.sample, static_argnums=2)
    zeros, mixed = (
        np.asarray(sample(state, KEY, 2, jnp.array(label)), np.int32)
        for label in ([0, 0], [0, 7])
    )
    np.testing.assert_array_equal(zeros[0], mixed[0])
    assert not np.array_equal(zeros[1], mixed[1])
    assert experiment.code is None, "a code alone does not say the class"
    assert experiment.discriminate is None


# --- configs and mistakes -------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "gan_1d:minimax",
        *(f"gan_grid25:{name}" for name in ("plain", "pacgan4", "wgan_gp")),
        *(f"gan_mnist:{name}" for name in ("hinge", "wgan_gp", "r3gan_loss")),
        *(f"gan_stacked_mnist:{name}" for name in ("dcgan", "pacdcgan4", "wgan_gp")),
    ],
)
def test_named_variants_can_be_built(location):
    config = configs.load(location)
    spec = POINTS
    if "mnist" in location:
        shape = (28, 28, 3 if "stacked" in location else 1)
        spec = dataclasses.replace(DIGITS, name="mnist", shape=shape, num_levels=256)
    configs.make_experiment(config, spec)
    parts = config.method.critic_steps * config.method.packing
    assert config.training.batch_size % parts == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"inputs__flip": True}, "gaussians25 has points"),
        ({"augment__kind": "ada"}, "gaussians25 has points of shape"),
        ({"inputs__label_dropout": 0.1}, "has no label for none: set it to 0.0"),
        ({"spec": DIGITS, "model__num_classes": 3}, "has 10 classes, not"),
        (
            {"spec": DIGITS, "model__d_norm": "batch", "method__penalty__name": "r1"},
            "choose another d_norm",
        ),
        ({"spec": DIGITS, "method__packing": 2}, "of several classes side by side"),
        ({"spec": DIGITS, "augment__policy": ("colour",)}, "mean color"),
        ({"spec": ODD}, "does not fit odd"),
        ({"sampler__truncation": 0.0}, "truncation must be more than 0"),
        ({"method__penalty__every": 0}, "penalty.every must be at least 1"),
        ({"method__penalty__weight_end": 0.0}, "reached after decay_steps: give both"),
        ({"method__loss": "hing"}, "did you mean 'hinge'"),
        ({"method__penalty__name": "r2"}, "name='r2' does not exist"),
        ({"method__critic_steps": 0}, "critic_steps must be at least 1, not 0"),
        ({"method__clip_weights": -1.0}, "clip_weights must be more than 0"),
        ({"inputs__point_scale": 0.0}, "point_scale must be more than 0"),
        ({"model__g_width": (3,)}, "unknown config field model.g_width; did you mean"),
        ({"model__activation": "rel"}, "did you mean 'relu'"),
    ],
)
def test_mistakes_are_answered(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_points_have_dense_networks():
    config = gan.Config(model={"backbone": "mlp", "latent_dim": 2})
    assert gan.make_experiment(config, POINTS).code is not None
    config = gan.Config(model=DCGAN | {"num_classes": 0})
    with pytest.raises(UserError, match="gaussians25 has points of shape.*'mlp'"):
        gan.make_experiment(config, POINTS)
