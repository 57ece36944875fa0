import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from experiments.autoencoder import beside_pca, gather, squared_error
from genjax.moments import Moments, standard_moments
from tests.experiments import code_models
from tests.experiments.code_models import (
    DIGITS,
    KEY,
    build_whole,
    digits,
    unit,
)
from tests.specs import MNIST

SPEC = dataclasses.replace(DIGITS, num_train=1000)
TRAIN, TEST = digits()[:1000], digits()[1350:]


def build(name="autoencoder_digits", spec=SPEC, **changes):
    return code_models.build(name, spec, **changes)


def train(experiment, num_steps, batch_size):
    """In order, as an epoch is: what is gathered depends on it."""

    def step(state, i):
        rows = (i * batch_size + jnp.arange(batch_size)) % len(TRAIN)
        return experiment.train_step(state, {"image": TRAIN[rows]}, KEY)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(num_steps)))
    return run(experiment.init(KEY))


@functools.cache
def trained_linear():
    experiment = build(
        "autoencoder_digits_linear",
        model__code_size=4,
        optim__learning_rate=3e-2,
        optim__warmup_steps=100,
        optim__decay_steps=2000,
    )
    return experiment, *train(experiment, num_steps=2000, batch_size=200)


def pca_error(code_size):
    """scikit-learn's mean squared error on the test images, summed over pixels."""
    train_rows, test_rows = unit(TRAIN), unit(TEST)
    pca = PCA(n_components=code_size, svd_solver="full").fit(train_rows)
    left = test_rows - pca.inverse_transform(pca.transform(test_rows))
    return pca, np.sum(left**2, axis=1).mean()


def test_learns_the_subspace_of_pca():
    """By gradients; the truth is scikit-learn's."""
    experiment, state, _ = trained_linear()
    pca, error = pca_error(4)
    decoder = np.asarray(state.net.params["decoder"]["out"]["kernel"])
    angles = np.rad2deg(subspace_angles(decoder.T, pca.components_.T))
    assert angles.max() < 1.0

    values = jax.jit(experiment.evaluate)(state, {"image": TEST}, KEY)
    np.testing.assert_allclose(values["squared_error"].mean(), error, rtol=0.01)
    np.testing.assert_allclose(values["pca_squared_error"].mean(), error, rtol=1e-4)
    # ours tells the same of the span, and tells it of every example
    np.testing.assert_allclose(
        values["pca_angle_degrees"], np.full(447, angles.max()), rtol=0.05, atol=1e-2
    )


def test_moments_are_those_of_one_epoch():
    _, state, _ = trained_linear()
    rows = unit(TRAIN)
    assert state.moments.num_rows == 1000  # of 400,000 that were trained on
    np.testing.assert_allclose(state.moments.mean, rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(state.moments.cov, np.cov(rows.T, ddof=0), atol=1e-5)


def test_layers_draw_better_than_pca_of_the_same_size():
    """The reason to have them: two numbers, and test images (PCA 3.40)."""
    experiment = build(
        model__code_size=2,
        model__widths=(128, 64),
        optim__warmup_steps=50,
        optim__decay_steps=1500,
    )
    state, _ = train(experiment, num_steps=1500, batch_size=100)
    values = jax.jit(experiment.evaluate)(state, {"image": TEST}, KEY)
    assert set(values) == {"squared_error"} and state.moments is None
    assert values["squared_error"].mean() < 0.85 * pca_error(2)[1]


@pytest.mark.slow
def test_convolutions_learn_too():
    experiment = build(
        "autoencoder_mnist_conv",
        model__channels=(8,),
        optim__learning_rate=1e-2,
        optim__decay_steps=200,
    )
    state, step = experiment.init(KEY), jax.jit(experiment.train_step)
    batch = {"image": TRAIN[:50]}
    for _ in range(60):
        state, metrics = step(state, batch, KEY)
    variance = unit(batch["image"]).var(axis=0).sum()
    assert metrics["loss"] < 0.9 * variance  # better than the mean of all images


# --- what it says of an image ---------------------------------------------------------


@pytest.mark.parametrize(("output", "level"), [("linear", 0.0), ("sigmoid", 0.5)])
def test_squared_error_is_a_sum_over_pixels_in_the_unit_interval(output, level):
    """With all weights zero, every pixel is drawn at one level."""
    experiment = build(model__output=output)
    state = jax.tree.map(jnp.zeros_like, experiment.init(KEY))
    batch = {"image": TEST[:20]}
    expected = np.sum((unit(batch["image"]) - level) ** 2, axis=1)
    values = jax.jit(experiment.evaluate)(state, batch, KEY)
    np.testing.assert_allclose(values["squared_error"], expected, rtol=1e-5)
    _, metrics = jax.jit(experiment.train_step)(state, batch, KEY)
    np.testing.assert_allclose(metrics["loss"], expected.mean(), rtol=1e-5)


def test_whole_levels_draw_nearly_as_well():
    """In place of numbers that may leave [0, 1]."""
    experiment, state, _ = trained_linear()
    batch = {"image": TEST}
    code = experiment.code.encode(state, batch, KEY)
    drawn = experiment.code.decode(state, code, KEY)
    assert code.shape == (447, 4) and drawn.dtype == jnp.uint8
    left = np.sum((unit(batch["image"]) - unit(drawn)) ** 2, axis=1)
    values = jax.jit(experiment.evaluate)(state, batch, KEY)
    np.testing.assert_allclose(left.mean(), values["squared_error"].mean(), rtol=0.1)
    assert left.mean() < values["squared_error"].mean()
    pairs = experiment.images(state, batch, KEY)["reconstructions"]
    np.testing.assert_array_equal(pairs[1::2], drawn)


def test_the_loss_of_any_encoder_and_decoder():
    """By hand: codes that keep the first of two pixels."""
    x = jnp.array([[[[0.2], [0.5]]], [[[1.0], [0.0]]]])  # two images of 1 x 2 pixels
    error = squared_error(
        lambda x: x[:, 0, 0], lambda z: jnp.stack([z, z], axis=1)[:, None], x
    )
    np.testing.assert_allclose(error, [0.3**2, 1.0], rtol=1e-6)


def test_rows_are_gathered_until_all_were_seen():
    rows = jax.random.normal(KEY, (30, 2))
    moments = standard_moments(2)
    for part in (rows[:10], rows[10:20], rows[20:]):
        moments = gather(moments, part, until=20)
    assert moments.num_rows == 20
    np.testing.assert_allclose(moments.mean, rows[:20].mean(axis=0), atol=1e-6)
    assert gather(None, rows, until=20) is None


def test_beside_pca_by_hand():
    """Variances 4, 1, .25: one component leaves two; the span is 30 degrees off."""
    moments = Moments(jnp.int32(1), jnp.ones(3), jnp.diag(jnp.array([4.0, 1.0, 0.25])))
    angle = np.deg2rad(30)
    span = 7.0 * jnp.array([[np.cos(angle), np.sin(angle), 0.0]])
    values = beside_pca(span, moments, jnp.array([[5.0, 2.0, 3.0], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(values["pca_squared_error"], [5.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(values["pca_angle_degrees"], [30.0, 30.0], rtol=1e-4)


def test_codes_cannot_be_drawn():
    experiment = build()
    assert experiment.sample is None and experiment.likelihood is None


# --- networks and choices -------------------------------------------------------------


def test_the_network_of_hinton_and_salakhutdinov():
    """2,837,314 parameters, as Martens 2010 (Hessian-free) counts for this network."""
    experiment = build_whole("autoencoder_mnist", MNIST)
    params = jax.eval_shape(experiment.init, KEY).net.params
    assert sum(p.size for p in jax.tree.leaves(params)) == 2_837_314
    names = ["hidden0", "hidden1", "hidden2", "out"]
    widths = [params[p][n]["bias"].size for p in ("encoder", "decoder") for n in names]
    assert widths == [1000, 500, 250, 30, 250, 500, 1000, 784]


@pytest.mark.parametrize("num_res_blocks", [0, 1])
def test_images_keep_their_shape(num_res_blocks):
    experiment = build(
        "autoencoder_mnist_conv", MNIST, model__num_res_blocks=num_res_blocks
    )
    batch = {"image": jnp.zeros((2, *MNIST.shape), jnp.uint8)}

    def there_and_back():
        state, code = experiment.init(KEY), experiment.code
        return code.decode(state, code.encode(state, batch, KEY), KEY)

    assert jax.eval_shape(there_and_back).shape == (2, *MNIST.shape)
