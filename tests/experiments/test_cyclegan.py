import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cyclegan_digits, cyclegan_horse2zebra, cyclegan_mnist_inverted
from experiments.cyclegan import (
    empty_pool,
    flip,
    jitter,
    make_experiment,
    patches,
    query,
)
from genjax.data import datasets
from genjax.models.patchgan import PatchDiscriminator
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)


@functools.cache
def digits():
    return datasets.load(**cyclegan_digits.get_config().data)


def build(spec=None, module=cyclegan_digits, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    config = module.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, spec or digits().spec)


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
        optim__decay_steps=1,
    )
    return jax.jit(experiment.init)(KEY), jax.jit(experiment.train_step)


# --- what it learns -------------------------------------------------------------------


def test_learns_to_invert_digits():
    """Without a pair: the truth is known, and the untouched image is far from it."""
    experiment = build(
        model__channels=8,
        model__num_downs=0,
        model__d_channels=(16, 32),
        method__pool_size=50,
        optim__constant_steps=150,
        optim__decay_steps=150,
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
    first, second = (s.g_opt_state[0].mu for s in (state, other))
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

    assert not same(first.g_params, second.g_params)
    assert same(second.g_params, third.g_params)
    assert same(second.d_params, third.d_params)


# --- the image pool -------------------------------------------------------------------


def numbered(first, num):
    """Images that are their numbers."""
    numbers = jnp.arange(first, first + num, dtype=jnp.float32)
    return numbers[:, None, None, None]


def test_a_pool_that_is_not_full_keeps_and_shows_all():
    pool = empty_pool(5, (1, 1, 1))
    for first in (1, 3):
        pool, shown = query(pool, numbered(first, 2), KEY)
        np.testing.assert_array_equal(shown, numbered(first, 2))
    np.testing.assert_array_equal(pool.images.ravel(), [1, 2, 3, 4, 0])
    given = numbered(1, 3)
    _, shown = query(empty_pool(0, (1, 1, 1)), given, KEY)
    np.testing.assert_array_equal(shown, given)


def test_a_full_pool_shows_an_old_image_half_the_time():
    """And keeps the new one in the place of the old, and only then."""
    pool, _ = query(empty_pool(50, (1, 1, 1)), numbered(1, 50), KEY)

    def one(pool, i):
        image = jnp.full((1, 1, 1, 1), 51.0 + i)
        after, shown = query(pool, image, jax.random.fold_in(KEY, i))
        return after, (pool.images.ravel(), after.images.ravel(), shown.ravel()[0])

    _, (before, after, shown) = jax.jit(
        lambda pool: jax.lax.scan(one, pool, jnp.arange(4000))
    )(pool)
    given = 51.0 + np.arange(4000)
    old = np.asarray(shown) != given
    assert abs(old.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    changed = np.asarray(before) != np.asarray(after)
    np.testing.assert_array_equal(changed.sum(axis=1), old)
    places = changed[old].argmax(axis=1)
    np.testing.assert_array_equal(np.asarray(before)[old, places], shown[old])
    np.testing.assert_array_equal(np.asarray(after)[old, places], given[old])
    expected = old.sum() / 50
    assert np.sum((np.bincount(places, minlength=50) - expected) ** 2) / expected < 95
    # 49 degrees of freedom: 95 is passed once in ten thousand times


def test_a_batch_is_shown_image_by_image():
    """Its later images may meet its earlier ones in the pool."""
    pool, _ = query(empty_pool(1, (1, 1, 1)), numbered(0, 1), KEY)
    pool, shown = jax.jit(query)(pool, numbered(1, 100), KEY)
    seen = [*np.asarray(shown).ravel(), float(pool.images[0, 0, 0, 0])]
    np.testing.assert_array_equal(np.sort(seen), np.arange(101))  # each one once


# --- augmentation ---------------------------------------------------------------------


def test_flips_are_per_image_and_fair():
    x = jnp.broadcast_to(jnp.arange(3.0)[None, None, :, None], (2000, 1, 3, 1))
    flipped = np.asarray(flip(KEY, x))[:, 0, :, 0]
    mirrored = flipped[:, 0] == 2
    np.testing.assert_array_equal(flipped[mirrored], [[2, 1, 0]] * mirrored.sum())
    np.testing.assert_array_equal(flipped[~mirrored], [[0, 1, 2]] * (~mirrored).sum())
    assert abs(mirrored.mean() - 0.5) < 0.05


def test_jitter_cuts_a_random_part_of_the_larger_image():
    ramp = jnp.linspace(-0.5, 0.5, 16)
    x = jnp.broadcast_to(ramp[None, :, None, None], (200, 16, 16, 1))
    out = np.asarray(jitter(KEY, x, 24))
    assert out.shape == x.shape
    np.testing.assert_allclose(out.std(axis=2), 0.0, atol=1e-6)  # constant across
    np.testing.assert_allclose(np.diff(out[:, 3:-3, 0, 0]), 1 / 15 / 1.5, rtol=0.1)
    assert len(np.unique(out[:, 8, 0, 0].round(4))) == 9  # corners 0 ... 8
    np.testing.assert_allclose(jitter(KEY, x, 16), x, atol=1e-6)


# --- choices --------------------------------------------------------------------------


def test_the_paper_network_fits_its_photographs():
    spec = DataSpec(
        name="domains",
        shape=(2, 256, 256, 3),
        dtype="uint8",
        num_levels=256,
        num_train=1334,
        num_eval=140,
        num_classes=0,
    )
    experiment = make_experiment(cyclegan_horse2zebra.get_config(), spec)
    batch = {"image": jnp.zeros((1, *spec.shape), jnp.uint8)}
    state = jax.eval_shape(experiment.init, KEY)
    after, _ = jax.eval_shape(experiment.train_step, state, batch, KEY)
    assert after.pools["a"].images.shape == (50, 256, 256, 3)


@pytest.mark.parametrize("side", [8, 28, 31])
@pytest.mark.parametrize("channels", [(4,), (4, 4), (4, 4, 4)])
def test_patches_are_those_of_the_network(side, channels):
    image = jnp.zeros((1, side, side, 1))
    network = PatchDiscriminator(channels)
    if patches(side, len(channels)) < 1:
        return
    logits, _ = jax.eval_shape(network.init_with_output, KEY, image)
    assert logits.shape == (1, *[patches(side, len(channels))] * 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__num_downs": 3}, "multiple of 8"),
        ({"model__d_channels": (4, 4, 4)}, "too small for the 3 layers"),
        ({"model__d_channels": ()}, "d_channels must be at least 1, not 0"),
        ({"method__cycle_weight": -1.0}, "cycle_weight must be at least 0, not -1"),
        ({"method__pool_size": -1}, "pool_size must be at least 0"),
        ({"method__resize": 6}, "resize=6 must be None, or the side of a square"),
        ({"optim__decay_steps": 0}, "decay_steps must be at least 1, not 0"),
        ({"optim__ema_decay": 1.0}, "ema_decay must be at least 0 and below 1"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_one_domain_is_not_enough():
    with pytest.raises(UserError, match="set data.name=domains, data.a.name"):
        build(spec=datasets.load("digits").spec)


@pytest.mark.parametrize(
    "module", [cyclegan_digits, cyclegan_mnist_inverted, cyclegan_horse2zebra]
)
def test_the_learning_rate_is_zero_at_the_end(module):
    for variant in ("", "tiny"):
        config = module.get_config(variant)
        steps = config.optim.constant_steps + config.optim.decay_steps
        assert steps == config.training.num_steps
