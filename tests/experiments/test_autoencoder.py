import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from configs import (
    autoencoder_digits,
    autoencoder_digits_linear,
    autoencoder_mnist,
    autoencoder_mnist_2d,
    autoencoder_mnist_conv,
    autoencoder_mnist_linear,
)
from experiments.autoencoder import make_experiment
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
CONFIGS = [
    autoencoder_digits,
    autoencoder_digits_linear,
    autoencoder_mnist,
    autoencoder_mnist_2d,
    autoencoder_mnist_conv,
    autoencoder_mnist_linear,
]
DIGITS = DataSpec(
    name="digits",
    shape=(8, 8, 1),
    dtype="uint8",
    num_levels=17,
    num_train=1000,
    num_eval=447,
    num_classes=10,
)
MNIST = DataSpec(
    name="mnist",
    shape=(28, 28, 1),
    dtype="uint8",
    num_levels=256,
    num_train=60_000,
    num_eval=10_000,
    num_classes=10,
)
LINEAR = {"model__widths": (), "model__output": "linear"}


def changed(config, changes):
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return config


def build(module=autoencoder_digits, spec=DIGITS, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    return make_experiment(changed(module.get_config("tiny"), changes), spec)


@functools.cache
def digits():
    """Training and test images, levels 0 ... 16."""
    image = jnp.asarray(load_digits().images[..., None], jnp.uint8)
    return image[:1000], image[1350:]


def unit(image):
    return np.asarray(image).reshape(len(image), -1) / 16.0


def train(experiment, num_steps, batch_size):
    image = digits()[0]

    def step(state, i):
        rows = (i * batch_size + jnp.arange(batch_size)) % len(image)
        return experiment.train_step(state, {"image": image[rows]}, KEY)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(num_steps)))
    return run(experiment.init(KEY))


@functools.cache
def trained_linear():
    experiment = build(
        autoencoder_digits_linear,
        model__code_size=4,
        optim__learning_rate=3e-2,
        optim__warmup_steps=100,
        optim__decay_steps=2000,
    )
    return experiment, *train(experiment, num_steps=2000, batch_size=200)


def pca_error(code_size):
    """scikit-learn's mean squared error on the test images, summed over pixels."""
    train_rows, test_rows = (unit(image) for image in digits())
    pca = PCA(n_components=code_size, svd_solver="full").fit(train_rows)
    left = test_rows - pca.inverse_transform(pca.transform(test_rows))
    return pca, np.sum(left**2, axis=1).mean()


def test_learns_the_subspace_of_pca():
    """By gradients; the truth is scikit-learn's."""
    experiment, state, _ = trained_linear()
    pca, error = pca_error(4)
    decoder = np.asarray(state.params["decoder"]["out"]["kernel"])
    angles = np.rad2deg(subspace_angles(decoder.T, pca.components_.T))
    assert angles.max() < 1.0

    values = jax.jit(experiment.evaluate)(state, {"image": digits()[1]}, KEY)
    np.testing.assert_allclose(values["squared_error"].mean(), error, rtol=0.01)
    np.testing.assert_allclose(values["pca_squared_error"].mean(), error, rtol=1e-4)
    # ours tells the same of the span, and tells it of every example
    np.testing.assert_allclose(
        values["pca_angle_degrees"], np.full(447, angles.max()), rtol=0.05, atol=1e-2
    )


def test_moments_are_those_of_one_epoch():
    _, state, _ = trained_linear()
    rows = unit(digits()[0])
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
    values = jax.jit(experiment.evaluate)(state, {"image": digits()[1]}, KEY)
    assert set(values) == {"squared_error"} and state.moments is None
    assert values["squared_error"].mean() < 0.85 * pca_error(2)[1]


def test_convolutions_learn_too():
    experiment = build(
        autoencoder_mnist_conv,
        model__channels=(8,),
        optim__learning_rate=1e-2,
        optim__decay_steps=200,
    )
    state, step = experiment.init(KEY), jax.jit(experiment.train_step)
    batch = {"image": digits()[0][:50]}
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
    batch = {"image": digits()[1][:20]}
    expected = np.sum((unit(batch["image"]) - level) ** 2, axis=1)
    values = jax.jit(experiment.evaluate)(state, batch, KEY)
    np.testing.assert_allclose(values["squared_error"], expected, rtol=1e-5)
    _, metrics = jax.jit(experiment.train_step)(state, batch, KEY)
    np.testing.assert_allclose(metrics["loss"], expected.mean(), rtol=1e-5)


def test_pictures_show_each_image_beside_what_was_drawn():
    experiment, state, _ = trained_linear()
    batch = {"image": digits()[1]}
    code = experiment.encode(state, batch, KEY)
    drawn = experiment.decode(state, code, KEY)
    assert code.shape == (447, 4) and drawn.dtype == jnp.uint8
    left = np.sum((unit(batch["image"]) - unit(drawn)) ** 2, axis=1)
    values = jax.jit(experiment.evaluate)(state, batch, KEY)
    # whole levels in place of numbers that may leave [0, 1]
    np.testing.assert_allclose(left.mean(), values["squared_error"].mean(), rtol=0.1)
    assert left.mean() < values["squared_error"].mean()
    pairs = experiment.images(state, batch, KEY)["reconstructions"]
    np.testing.assert_array_equal(pairs[0::2], batch["image"])
    np.testing.assert_array_equal(pairs[1::2], drawn)


def test_codes_cannot_be_drawn():
    experiment = build()
    assert experiment.sample is None and experiment.log_likelihood is None


# --- networks and choices -------------------------------------------------------------


def test_the_network_of_hinton_and_salakhutdinov():
    """2,837,314 parameters, as Martens 2010 (Hessian-free) counts for this network."""
    experiment = make_experiment(autoencoder_mnist.get_config(), MNIST)
    params = jax.eval_shape(experiment.init, KEY).params
    assert sum(p.size for p in jax.tree.leaves(params)) == 2_837_314
    names = ["hidden0", "hidden1", "hidden2", "out"]
    widths = [params[p][n]["bias"].size for p in ("encoder", "decoder") for n in names]
    assert widths == [1000, 500, 250, 30, 250, 500, 1000, 784]


@pytest.mark.parametrize(
    ("module", "spec"), [(autoencoder_mnist_conv, MNIST), (autoencoder_digits, DIGITS)]
)
def test_images_keep_their_shape(module, spec):
    experiment = build(module, spec)
    batch = {"image": jnp.zeros((2, *spec.shape), jnp.uint8)}

    def there_and_back():
        state = experiment.init(KEY)
        return experiment.decode(state, experiment.encode(state, batch, KEY), KEY)

    assert jax.eval_shape(there_and_back).shape == (2, *spec.shape)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__kind": "dens"}, "did you mean 'dense'"),
        ({"model__kind": "conv"}, "needs model.channels and model.num_res_blocks"),
        ({"model__activation": "geluu"}, "did you mean 'gelu'"),
        ({"model__output": "sigmoidal"}, "did you mean 'sigmoid'"),
        ({"model__code_size": 0}, "1 or more numbers, not 0"),
        ({**LINEAR, "model__code_size": 64}, "below the 64 pixels .* not 64"),
    ],
)
def test_choices_that_do_not_exist(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_points_have_no_pixels():
    points = DataSpec(
        name="moons",
        shape=(2,),
        dtype="float32",
        num_levels=0,
        num_train=64,
        num_eval=16,
        num_classes=2,
    )
    with pytest.raises(UserError, match="made for images"):
        build(spec=points)


@pytest.mark.parametrize("module", CONFIGS, ids=lambda m: m.__name__)
def test_configs_know_their_variants(module):
    config = module.get_config()
    assert config.optim.decay_steps == config.training.num_steps
    assert module.get_config("tiny").training.num_steps <= 4000
    with pytest.raises(ValueError, match="'small'.*'tiny'"):
        module.get_config("small")
