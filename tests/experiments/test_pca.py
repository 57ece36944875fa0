import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from configs import pca_digits, pca_mnist
from experiments.pca import make_experiment
from genjax.moments import Moments
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
CONFIGS = [pca_digits, pca_mnist]
NUM_TRAIN = 1000


def digits_spec(**changes):
    fields = {
        "name": "digits",
        "shape": (8, 8, 1),
        "dtype": "uint8",
        "num_levels": 17,
        "num_train": NUM_TRAIN,
        "num_eval": 447,
        "num_classes": 10,
    }
    return DataSpec(**{**fields, **changes})


def build(num_components=10, **changes):
    config = pca_digits.get_config()
    config.model.num_components = num_components
    return make_experiment(config, digits_spec(**changes))


@functools.cache
def digits():
    """Levels 0 ... 16, and rows in [0, 1] for scikit-learn."""
    levels = load_digits().images.astype(np.uint8)[..., None]
    return levels, levels.reshape(len(levels), -1) / 16.0


@functools.cache
def trained():
    """One epoch of the digits, in unequal batches."""
    experiment, image = build(), digits()[0][:NUM_TRAIN]
    state, step = experiment.init(KEY), jax.jit(experiment.train_step)
    for part in np.split(image, [100, 500, 900]):
        state, metrics = step(state, {"image": jnp.asarray(part)}, KEY)
    theirs = PCA(n_components=10, svd_solver="full").fit(digits()[1][:NUM_TRAIN])
    return experiment, state, metrics, theirs


def held_out():
    image, rows = digits()
    return {"image": jnp.asarray(image[1350:])}, rows[1350:]


def test_learns_what_scikit_learn_does():
    experiment, state, _, theirs = trained()
    batch, rows = held_out()
    code = jax.jit(experiment.encode)(state, batch, KEY)
    np.testing.assert_allclose(code, theirs.transform(rows), atol=1e-3)

    values = jax.jit(experiment.evaluate)(state, batch, KEY)
    left = rows - theirs.inverse_transform(theirs.transform(rows))
    np.testing.assert_allclose(
        values["squared_error"], np.sum(left**2, axis=1), rtol=1e-3
    )
    # scikit-learn divides by n - 1, maximum likelihood by n
    cov = theirs.get_covariance() * (NUM_TRAIN - 1) / NUM_TRAIN
    expected = multivariate_normal(theirs.mean_, cov).logpdf(rows)
    np.testing.assert_allclose(values["log_density"], expected, rtol=1e-3, atol=1e-3)


def test_a_step_tells_how_far_it_is():
    _, state, metrics, _ = trained()
    variance = digits()[1][:NUM_TRAIN].var(axis=0).sum()
    np.testing.assert_allclose(metrics["total_variance"], variance, rtol=1e-4)
    assert metrics["epochs_seen"] == 1.0 and state.num_rows == NUM_TRAIN
    # the last batch of 100 about the mean of all
    last = digits()[1][900:NUM_TRAIN] - digits()[1][:NUM_TRAIN].mean(axis=0)
    np.testing.assert_allclose(
        metrics["loss"], np.sum(last**2, axis=1).mean(), rtol=1e-4
    )


def test_decode_draws_the_projection():
    experiment, state, _, theirs = trained()
    batch, rows = held_out()
    code = experiment.encode(state, batch, KEY)
    drawn = jax.jit(experiment.decode)(state, code, KEY)
    projected = theirs.inverse_transform(theirs.transform(rows)).clip(0, 1) * 16
    assert drawn.dtype == jnp.uint8 and drawn.shape == batch["image"].shape
    difference = np.abs(drawn.reshape(len(rows), -1) - projected)
    assert difference.max() < 0.501  # of a level: nothing but rounding
    pairs = experiment.images(state, batch, KEY)["reconstructions"]
    np.testing.assert_array_equal(pairs[0::2], batch["image"])
    np.testing.assert_array_equal(pairs[1::2], drawn)


def test_samples_have_the_mean_and_covariance_of_the_model():
    """Far from black and white, where clipping would change them."""
    experiment = build(2, shape=(2, 2, 1), num_levels=256)
    rng = np.random.default_rng(0)
    factor = 0.03 * rng.normal(size=(4, 4))
    mean, cov = np.full(4, 0.5), factor @ factor.T
    values, axes = np.linalg.eigh(cov)
    values[:2] = values[:2].mean()  # those that two components leave over
    state = Moments(jnp.int32(1), *(jnp.asarray(m, jnp.float32) for m in (mean, cov)))
    num = 40_000
    sample = jax.jit(experiment.sample, static_argnums=2)(state, KEY, num)
    rows = np.asarray(sample, np.float64).reshape(num, 4) / 255
    expected = (axes * values) @ axes.T
    np.testing.assert_allclose(rows.mean(axis=0), mean, atol=0.001)
    np.testing.assert_allclose(np.cov(rows.T), expected, atol=0.03 * values.max())


@pytest.mark.parametrize("std", [0.05, 0.15])
def test_the_bound_is_one_on_a_distribution(std):
    """Over all 17 x 17 images its masses sum to at most 1, and to nearly 1."""
    experiment = build(1, shape=(1, 2, 1))
    pairs = list(itertools.product(range(17), repeat=2))
    image = jnp.array(pairs, jnp.uint8).reshape(-1, 1, 2, 1)
    cov = std**2 * jnp.array([[1.0, 0.5], [0.5, 1.0]])
    state = Moments(jnp.int32(1), jnp.full(2, 0.5), cov)
    bound = jax.jit(experiment.log_likelihood)(state, {"image": image}, KEY)
    total = np.exp(np.asarray(bound, np.float64)).sum()
    assert 0.8 < total < 1.0
    assert experiment.likelihood_kind == "lower_bound"
    for part in ("log-det -D log 16", "uniform dequantisation"):
        assert part in experiment.likelihood_note


@pytest.mark.parametrize("num_components", [0, 64])
def test_numbers_of_components_that_cannot_be(num_components):
    with pytest.raises(UserError, match=f"1 ... 63, .* not {num_components}"):
        build(num_components)


def test_points_have_no_pixels():
    with pytest.raises(UserError, match="made for images"):
        build(1, name="moons", shape=(2,), dtype="float32", num_levels=0)


def test_labels_are_not_known():
    experiment = build()
    with pytest.raises(UserError, match="without labels"):
        experiment.sample(experiment.init(KEY), KEY, 2, jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize("module", CONFIGS, ids=lambda m: m.__name__)
def test_configs_see_each_row_once(module):
    """Whole epochs: otherwise some rows would count more than others."""
    training, num = module.get_config().training, {"digits": 1000, "mnist": 60_000}
    rows = training.num_steps * training.batch_size
    assert rows == num[module.get_config().data.name]
    with pytest.raises(ValueError, match="'small'.*'tiny'"):
        module.get_config("small")
