import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.cyclegan import Game, Method, State, d_loss, g_loss, play
from genjax import configs
from genjax.data import datasets
from genjax.models.patchgan import PatchDiscriminator, num_patches
from genjax.training.image_pool import empty_pool
from genjax.training.learner import Learner
from genjax.typing import UserError
from tests.specs import of_images

KEY = jax.random.key(0)


@functools.cache
def digits():
    return datasets.load(name="domains", a={"name": "digits"}, known_map="inverted")


def build(spec=None, location="cyclegan_digits:tiny", **changes):
    """The experiment, with config.section.field = value for section__field."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    stated = configs.load(location).to_dict()
    config = configs.complete(configs.merged(stated, configs.nested(changes)))
    return configs.make_experiment(config, spec or digits().spec)


def pairs(split, rows):
    return {"image": jnp.asarray(split.read(np.asarray(rows))["image"])}


@functools.cache
def compiled():
    """(the first state, the step) of one experiment, compiled once for several tests.

    All three losses count, and the second step is the last one at a learning rate.
    """
    experiment = build(
        method__identity_weight=3.0,
        method__cycle_weight=7.0,
        optim__constant_steps=1,
        optim__decay_steps=2,
    )
    return jax.jit(experiment.init)(KEY), jax.jit(experiment.train_step)


# --- what it learns -------------------------------------------------------------------


@pytest.mark.slow
def test_learns_to_invert_digits():
    """Without a pair: the truth is known, and the untouched image is far from it."""
    experiment = build(
        model__channels=8,
        model__num_downs=0,
        model__d_channels=(16, 32),
        method__pool_size=50,
        optim__constant_steps=150,
        optim__decay_steps=300,
        optim__ema_decay=0.9,
    )
    image = jnp.asarray(digits().train.arrays["image"])

    def step(state, i):
        batch = {"image": image[(i * 16 + jnp.arange(16)) % len(image)]}
        return experiment.train_step(state, batch, jax.random.fold_in(KEY, i))

    train = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(300)))
    state, metrics = train(experiment.init(KEY))
    test = pairs(digits().eval, range(447))
    values = jax.jit(experiment.evaluate)(state, test, KEY)
    mean = {name: float(value.mean()) for name, value in values.items()}
    print(mean)
    assert mean["rmse_untouched"] > 0.8
    assert mean["rmse_a_to_b"] < 0.15 and mean["rmse_b_to_a"] < 0.15
    assert mean["cycle_l1_a"] < 0.1 and mean["cycle_l1_b"] < 0.1
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0]

    # translate gives the levels of which these are the errors
    a, b = test["image"][:, 0], test["image"][:, 1]
    translated = jax.jit(experiment.translate, static_argnums=2)(state, a, "a_to_b")
    off = (np.asarray(translated, float) - np.asarray(b, float)) / 16.0
    rmse = np.sqrt((off**2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(rmse, values["rmse_a_to_b"], atol=0.5 / 16)
    shown = experiment.images(state, test, KEY)["from_a"]
    np.testing.assert_array_equal(shown[0::4], a)
    np.testing.assert_array_equal(shown[1::4], translated)


@pytest.mark.slow
def test_it_does_not_matter_which_images_come_side_by_side():
    """So no pairing can be learned, whatever the order of the data."""
    state, step = compiled()
    batch = pairs(digits().train, range(8))
    image = np.array(batch["image"])
    image[:, 1] = image[[3, 1, 7, 0, 2, 6, 5, 4], 1]
    (state, metrics), (other, other_metrics) = (
        step(state, b, KEY) for b in (batch, {"image": jnp.asarray(image)})
    )
    for name, value in metrics.items():
        np.testing.assert_allclose(value, other_metrics[name], rtol=1e-4)
    first, second = (optax.tree.get(s.g.opt_state, "mu") for s in (state, other))
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5 * float(jnp.abs(x).max()) + 1e-7)


def test_the_first_losses_by_hand():
    """Networks without weights: images of 0, logits of 0."""
    state, step = compiled()
    state = jax.tree.map(jnp.zeros_like, state)
    batch = pairs(digits().train, range(8))
    state, metrics = step(state, batch, KEY)
    x = np.asarray(batch["image"], float) / 8.0 - 1.0
    off = np.abs(x[:, 0]).mean() + np.abs(x[:, 1]).mean()
    np.testing.assert_allclose(metrics["cycle"], off, rtol=1e-5)
    np.testing.assert_allclose(metrics["g_adversarial"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 2.0 + 10.0 * off, rtol=1e-5)
    np.testing.assert_allclose(metrics["d_loss"], 1.0, rtol=1e-6)
    assert int(state.pools["a"].num_seen) == 8
    assert not np.asarray(state.pools["a"].images).any()  # translations of 0


def test_the_learning_rate_falls_to_zero():
    """Constant for constant_steps, then a line: the last update is none."""
    state, step = compiled()
    batch = pairs(digits().train, range(8))
    first, _ = step(state, batch, KEY)
    second, _ = step(first, batch, KEY)
    third, _ = step(second, batch, KEY)

    def same(one, other):
        return all(
            np.array_equal(x, y)
            for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        )

    assert not same(first.g.params, second.g.params)
    assert same(second.g.params, third.g.params)
    assert same(second.d.params, third.d.params)


# --- the losses and the step, of functions --------------------------------------------

A, B = jax.random.uniform(KEY, (2, 4, 3, 3, 1), minval=-1.0)
TRANSLATE = {"a_to_b": lambda x: 0.5 * x, "b_to_a": lambda x: x - 0.2}
JUDGE = {"a": lambda x: x[..., 0] + 1.0, "b": lambda x: 2.0 * x[..., 0]}


def test_the_losses_of_known_functions():
    """(1) and (2) of the module, term by term, by numpy."""
    method = Method(cycle_weight=3.0, identity_weight=0.7)
    loss, metrics, fake = g_loss(TRANSLATE, JUDGE, {"a": A, "b": B}, method)
    a, b = np.asarray(A, np.float64), np.asarray(B, np.float64)
    fake_a, fake_b = b - 0.2, 0.5 * a
    np.testing.assert_allclose(fake["a"], fake_a, rtol=1e-6)
    np.testing.assert_allclose(fake["b"], fake_b, rtol=1e-6)
    adversarial = np.mean((2 * fake_b - 1) ** 2) + np.mean(fake_a**2)
    cycle = np.abs(0.5 * a - 0.2 - a).mean() + np.abs(0.5 * (b - 0.2) - b).mean()
    identity = 0.2 + np.abs(0.5 * b).mean()
    assert float(metrics["g_adversarial"]) == pytest.approx(adversarial, rel=1e-5)
    assert float(metrics["cycle"]) == pytest.approx(cycle, rel=1e-5)
    assert float(metrics["identity"]) == pytest.approx(identity, rel=1e-5)
    total = adversarial + 3.0 * cycle + 0.7 * identity
    assert float(loss) == pytest.approx(total, rel=1e-5)
    of_a = np.mean(a**2) + np.mean((fake_a + 1) ** 2)
    of_b = np.mean((2 * b - 1) ** 2) + np.mean((2 * fake_b) ** 2)
    found = d_loss(JUDGE, {"a": A, "b": B}, fake)
    assert float(found) == pytest.approx((of_a + of_b) / 2, rel=1e-5)


def test_without_its_weight_no_identity_is_taken():
    called = []

    def to_a(x):
        called.append(x)
        return x

    nets = TRANSLATE | {"b_to_a": to_a}
    _, metrics, _ = g_loss(nets, JUDGE, {"a": A, "b": B}, Method(identity_weight=0.0))
    assert len(called) == 2 and "identity" not in metrics


def one_number_each(accumulation=1):
    """((g, d) before, state after, metrics) of players of one number each."""
    learner = Learner(
        optimizer=optax.sgd(0.1),
        schedule=optax.constant_schedule(0.1),
        accumulation=accumulation,
    )
    game = Game(
        generators=lambda p: {n: lambda x, s=s: s * x for n, s in p.items()},
        discriminators=lambda p: {
            n: lambda x, s=s: s * x[..., 0] for n, s in p.items()
        },
        g_learner=learner,
        d_learner=learner,
        method=Method(cycle_weight=0.0),
    )
    g = learner.init({"a_to_b": jnp.float32(0.5), "b_to_a": jnp.float32(-1.0)})
    d = learner.init({"a": jnp.float32(1.0), "b": jnp.float32(2.0)})
    pools = {name: empty_pool(6, A.shape[1:]) for name in "ab"}
    keys = {"a": KEY, "b": jax.random.key(1)}
    return (g, d), *play(game, State(g, d, pools), {"a": A, "b": B}, keys)


def test_a_step_moves_both_and_keeps_its_translations():
    """The discriminators are held in the first half."""
    (g, d), after, metrics = one_number_each()
    a, b = np.asarray(A, np.float64), np.asarray(B, np.float64)
    # d/ds mean (d s x - 1)^2 = mean 2 (d s x - 1) d x
    slopes = {
        "a_to_b": np.mean(2 * (2.0 * 0.5 * a - 1) * 2.0 * a),
        "b_to_a": np.mean(2 * (1.0 * -1.0 * b - 1) * b),
    }
    for name, slope in slopes.items():
        moved = float(after.g.params[name] - g.params[name])
        assert moved == pytest.approx(-0.1 * slope, rel=1e-4)
    # with the translations of the generators as they were before the step
    slope = np.mean((2.0 * b - 1) * b) + np.mean(2.0 * (0.5 * a) ** 2)
    assert float(after.d.params["b"]) == pytest.approx(2.0 - 0.1 * slope, rel=1e-4)
    np.testing.assert_allclose(after.pools["b"].images[:4], 0.5 * A, rtol=1e-6)
    assert int(after.pools["a"].num_seen) == 4
    assert {"loss", "d_loss", "g_grad_norm", "d_grad_norm"} <= set(metrics)


def test_gradients_in_parts_are_those_of_the_whole_batch():
    """And the pools take the translations in the same order."""
    whole, parts = (one_number_each(accumulation=n)[1] for n in (1, 2))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


# --- choices --------------------------------------------------------------------------


def test_the_paper_network_fits_its_photographs():
    spec = of_images("domains", (2, 256, 256, 3), num_train=1334, num_eval=140)
    experiment = build(spec, "cyclegan_horse2zebra")
    batch = {"image": jnp.zeros((1, *spec.shape), jnp.uint8)}
    state = jax.eval_shape(experiment.init, KEY)
    after, _ = jax.eval_shape(experiment.train_step, state, batch, KEY)
    assert after.pools["a"].images.shape == (50, 256, 256, 3)


@pytest.mark.parametrize("side", [8, 28, 31])
@pytest.mark.parametrize("channels", [(4,), (4, 4), (4, 4, 4)])
def test_patches_are_those_of_the_network(side, channels):
    image = jnp.zeros((1, side, side, 1))
    network = PatchDiscriminator(channels)
    if num_patches(side, len(channels)) < 1:
        return
    logits, _ = jax.eval_shape(network.init_with_output, KEY, image)
    assert logits.shape == (1, *[num_patches(side, len(channels))] * 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__num_downs": 3}, "multiple of 8"),
        ({"model__d_channels": (4, 4, 4)}, "too small for the 3 layers"),
        ({"model__d_channels": ()}, "d_channels needs the channels of a layer"),
        ({"method__cycle_weight": -1.0}, "cycle_weight must be at least 0, not -1"),
        ({"method__pool_size": -1}, "pool_size must be at least 0"),
        ({"inputs__resize": 6}, "resize=6 must be None, or the side of a square"),
        ({"optim__decay_steps": 0}, "decay_steps must be at least 1, not 0"),
        (
            {"optim__decay_steps": 2},
            "must be more than warmup_steps=0 . constant_steps=2",
        ),
        ({"optim__ema_decay": 1.5}, "ema_decay must be in 0 ... 1"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_one_domain_is_not_enough():
    with pytest.raises(UserError, match="set data.name=domains, data.a.name"):
        build(spec=datasets.load("digits").spec)


NAMES = ("digits", "mnist_digits", "mnist_inverted", "horse2zebra")


@pytest.mark.parametrize("name", NAMES)
def test_the_learning_rate_is_zero_at_the_end(name):
    for variant in ("", ":tiny"):
        config = configs.load(f"cyclegan_{name}{variant}")
        assert config.optim.decay_steps == config.training.num_steps
        assert config.optim.constant_steps == config.training.num_steps // 2
