import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from experiments.pca import draw, log_mass_bound
from genjax.objectives import ppca
from tests.experiments.code_models import DIGITS, KEY, build_whole, digits, unit

NUM_TRAIN = 1000
SPEC = dataclasses.replace(DIGITS, num_train=NUM_TRAIN)
IMAGES, ROWS = np.asarray(digits()), unit(digits())


@functools.cache
def trained():
    """One epoch of the digits, in unequal batches."""
    experiment, image = build_whole("pca_digits", SPEC), IMAGES[:NUM_TRAIN]
    state, step = experiment.init(KEY), jax.jit(experiment.train_step)
    for part in np.split(image, [100, 500, 900]):
        state, metrics = step(state, {"image": jnp.asarray(part)}, KEY)
    theirs = PCA(n_components=10, svd_solver="full").fit(ROWS[:NUM_TRAIN])
    return experiment, state, metrics, theirs


def held_out():
    return {"image": jnp.asarray(IMAGES[1350:])}, ROWS[1350:]


def test_learns_what_scikit_learn_does():
    experiment, state, _, theirs = trained()
    batch, rows = held_out()
    code = jax.jit(experiment.code.encode)(state, batch, KEY)
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
    variance = ROWS[:NUM_TRAIN].var(axis=0).sum()
    np.testing.assert_allclose(metrics["total_variance"], variance, rtol=1e-4)
    assert metrics["epochs_seen"] == 1.0 and state.num_rows == NUM_TRAIN
    # the last batch of 100 about the mean of all
    last = ROWS[900:NUM_TRAIN] - ROWS[:NUM_TRAIN].mean(axis=0)
    np.testing.assert_allclose(
        metrics["loss"], np.sum(last**2, axis=1).mean(), rtol=1e-4
    )


def test_decode_draws_the_projection():
    experiment, state, _, theirs = trained()
    batch, rows = held_out()
    code = experiment.code.encode(state, batch, KEY)
    drawn = jax.jit(experiment.code.decode)(state, code, KEY)
    projected = theirs.inverse_transform(theirs.transform(rows)).clip(0, 1) * 16
    assert drawn.dtype == jnp.uint8 and drawn.shape == batch["image"].shape
    difference = np.abs(drawn.reshape(len(rows), -1) - projected)
    assert difference.max() < 0.501  # of a level: nothing but rounding
    pairs = experiment.images(state, batch, KEY)["reconstructions"]
    np.testing.assert_array_equal(pairs[0::2], batch["image"])
    np.testing.assert_array_equal(pairs[1::2], drawn)


def model_of(cov, num_components):
    """Of this covariance about grey."""
    mean = jnp.full(len(cov), 0.5)
    return ppca.fit(mean, jnp.asarray(cov, jnp.float32), num_components)


def test_samples_have_the_mean_and_covariance_of_the_model():
    rng = np.random.default_rng(0)
    factor = 0.03 * rng.normal(size=(4, 4))
    cov = factor @ factor.T
    values, axes = np.linalg.eigh(cov)
    values[:2] = values[:2].mean()  # those that two components leave over
    rows = np.asarray(draw(model_of(cov, 2), KEY, 40_000), np.float64)
    expected = (axes * values) @ axes.T
    np.testing.assert_allclose(rows.mean(axis=0), np.full(4, 0.5), atol=0.001)
    np.testing.assert_allclose(np.cov(rows.T), expected, atol=0.03 * values.max())


def test_samples_are_pixels():
    experiment, state, _, theirs = trained()
    image = jax.jit(experiment.sample, static_argnums=2)(state, KEY, 4000)
    assert image.dtype == jnp.uint8 and image.max() <= 16
    mean = theirs.mean_.reshape(8, 8, 1)
    inside = (mean > 0.3) & (mean < 0.7)  # where clipping changes little
    difference = np.asarray(image, float).mean(axis=0) / 16 - mean
    assert np.abs(difference[inside]).max() < 0.05


@pytest.mark.parametrize("std", [0.05, 0.15])
def test_the_bound_is_one_on_a_distribution(std):
    """Over all 17 x 17 images its masses sum to at most 1, and to nearly 1."""
    pairs = list(itertools.product(range(17), repeat=2))
    x = jnp.array(pairs, jnp.float32) / 16
    cov = std**2 * np.array([[1.0, 0.5], [0.5, 1.0]])
    bound = log_mass_bound(model_of(cov, 1), x, 17)
    total = np.exp(np.asarray(bound, np.float64)).sum()
    assert 0.8 < total < 1.0


def test_the_likelihood_is_that_bound():
    experiment, state, _, _ = trained()
    batch, rows = held_out()
    got = jax.jit(experiment.likelihood.log_prob)(state, batch, KEY)
    model = ppca.fit(state.mean, state.cov, 10)
    want = log_mass_bound(model, jnp.asarray(rows, jnp.float32), 17)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    for part in ("log-det -D log 16", "uniform dequantisation"):
        assert part in experiment.likelihood.note
