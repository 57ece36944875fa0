"""What all models with a code have in common, tried on each of them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import configs
from genjax.typing import UserError
from tests.experiments.code_models import (
    KEY,
    POINTS,
    batch_of,
    build,
    digits,
)

ALL = {
    "vae_digits": {},
    "vae_hierarchical_digits": {},
    "vae_per_datapoint_digits": {},
    "autoencoder_digits": {},
    "autoencoder_digits_linear": {},
    "vqvae_digits": {},
    "pca_digits": {},
}
WITH_PIXELS = [name for name in ALL if "vae" in name]
WITH_SAMPLES = [*WITH_PIXELS, "pca_digits"]
FEW = batch_of(digits()[:6])


@pytest.fixture(scope="module", params=ALL)
def model(request):
    """(its config's name, the experiment, a first state)."""
    experiment = build(request.param)
    return request.param, experiment, jax.jit(experiment.init)(KEY)


def test_a_code_is_a_row_and_decodes_to_an_image(model):
    _, experiment, state = model
    code = jax.jit(experiment.code.encode)(state, FEW, KEY)
    image = jax.jit(experiment.code.decode)(state, code, KEY)
    assert code.ndim == 2 and len(code) == 6 and np.isfinite(code).all()
    assert image.shape == (6, 8, 8, 1) and image.dtype == np.uint8
    assert image.max() <= 16


def test_pictures_show_each_image_beside_what_is_made_of_it(model):
    _, experiment, state = model
    code = jax.jit(experiment.code.encode)(state, FEW, KEY)
    shown = jax.jit(experiment.images)(state, FEW, KEY)["reconstructions"]
    np.testing.assert_array_equal(shown[::2], FEW["image"])
    decoded = jax.jit(experiment.code.decode)(state, code, KEY)
    assert np.abs(shown[1::2].astype(int) - decoded.astype(int)).max() <= 1


def test_the_squared_error_is_that_of_the_decoded_code(model):
    """Pixels in [0, 1]; decode rounds to a level, half a one at most, and clips."""
    name, experiment, state = model
    code = jax.jit(experiment.code.encode)(state, FEW, KEY)
    decoded = jax.jit(experiment.code.decode)(state, code, KEY)
    left = (np.asarray(decoded, float) - np.asarray(FEW["image"], float)) / 16
    want = np.sum(left**2, axis=(1, 2, 3))
    got = jax.jit(experiment.evaluate)(state, FEW, KEY)["squared_error"]
    if name in ("pca_digits", "autoencoder_digits_linear"):  # may leave [0, 1]
        assert (got > want - 2.0).all()
    elif name != "vae_per_datapoint_digits":  # whose posterior is found anew
        np.testing.assert_allclose(got, want, atol=64 * 2 / 32)
    else:
        np.testing.assert_allclose(got, want, rtol=0.1)


def test_there_are_samples_and_a_likelihood_where_there_is_a_distribution(model):
    name, experiment, state = model
    if name not in WITH_SAMPLES:
        assert experiment.sample is None and experiment.likelihood is None
        return
    images = jax.jit(experiment.sample, static_argnums=2)(state, KEY, 3)
    assert images.shape == (3, 8, 8, 1) and images.dtype == np.uint8
    assert images.max() <= 16
    likelihood = experiment.likelihood
    assert likelihood.kind == "lower_bound" and likelihood.of == "data"
    bound = jax.jit(likelihood.log_prob)(state, FEW, KEY)
    assert bound.shape == (6,) and np.isfinite(bound).all() and (bound < 0).all()


@pytest.mark.parametrize("name", WITH_SAMPLES)
def test_labels_are_refused(name):
    experiment = build(name)
    state = jax.eval_shape(experiment.init, KEY)
    with pytest.raises(UserError, match="without labels"):
        experiment.sample(state, KEY, 2, jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize("name", ALL)
def test_points_are_refused(name):
    with pytest.raises(UserError, match=r"moons has .*shape \(2,\).*made for images"):
        build(name, POINTS)


@pytest.mark.parametrize("name", WITH_PIXELS)
def test_samples_are_means_or_draws_of_pixels(name):
    """Draws differ from pixel to pixel; both are of the same codes."""
    state = build(name).init(KEY)
    mean, draw = (
        jax.jit(build(name, sampler__pixels=pixels).sample, static_argnums=2)(
            state, KEY, 20
        ).astype(float)
        for pixels in ("mean", "draw")
    )
    assert draw.std() > mean.std() + 0.5
    assert not np.array_equal(mean, draw)


@pytest.mark.parametrize("name", [name for name in ALL if name != "pca_digits"])
def test_an_average_of_the_weights_is_what_the_model_uses(name):
    """And raw_weights puts those that are trained in its place."""
    experiment = build(name, optim__ema_decay=0.999)
    assert build(name).raw_weights is None
    step = jax.jit(experiment.train_step)
    state, _ = step(experiment.init(KEY), FEW, KEY)
    state, _ = step(state, FEW, KEY)
    raw = experiment.raw_weights(state)
    evaluate = jax.jit(experiment.evaluate)
    errors = [evaluate(s, FEW, KEY)["squared_error"] for s in (state, raw)]
    assert np.abs(errors[0] - errors[1]).max() > 0
    assert jax.tree.structure(raw) == jax.tree.structure(state)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ALL if n != "pca_digits"])
def test_a_batch_in_parts_moves_the_same_weights(name):
    experiments = build(name), build(name, optim__accumulation=2)
    losses = [
        jax.jit(e.train_step)(e.init(KEY), FEW, KEY)[1]["loss"] for e in experiments
    ]
    assert all(np.isfinite(losses))
    if name.startswith("autoencoder"):  # nothing is drawn
        np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.slow
def test_the_codebook_follows_whole_batches():
    """Also of the first one, of which it is the k-means."""
    books, state = [], None
    for parts in (1, 2):
        experiment = build("vqvae_digits", optim__accumulation=parts)
        state = jax.jit(experiment.init)(KEY)
        state, metrics = jax.jit(experiment.train_step)(state, FEW, KEY)
        books.append((state.kept, metrics["loss"]))
    for a, b in zip(jax.tree.leaves(books[0]), jax.tree.leaves(books[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


VAE, HIER = "vae_digits", "vae_hierarchical_digits"
ROWS, VQ = "vae_per_datapoint_digits", "vqvae_digits"
AE, LINEAR = "autoencoder_digits", "autoencoder_digits_linear"
PCA = "pca_digits"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (VAE, {"model__backbone": "convv"}, "did you mean 'conv'"),
        (VAE, {"model__activation": "rellu"}, "did you mean 'relu'"),
        (VAE, {"model__latent_dim": 0}, "latent_dim must be at least 1, not 0"),
        (VAE, {"method__likelihood": "binomial"}, "bernoulli, gaussian, logistic"),
        (VAE, {"method__objective": "iwea"}, "did you mean 'iwae'"),
        (VAE, {"method__num_samples": 0}, "num_samples must be at least 1, not 0"),
        (VAE, {"likelihood__importance_samples": 0}, "samples must be at least 1"),
        (VAE, {"likelihood__refine_steps": -1}, "refine_steps must be at least 0"),
        (
            VAE,
            {"method__objective": "iwae", "method__beta_warmup_steps": 0}
            | {"method__beta": 4.0},
            "no KL of its own",
        ),
        (VAE, {"sampler__pixels": "means"}, "did you mean 'mean'"),
        (HIER, {"method__objective": "dreg"}, "known: elbo, iwae"),
        (HIER, {"method__likelihood": "gaussian"}, "known: bernoulli, logistic"),
        (HIER, {"model__top_latent_dim": 0}, "must be at least 1, not 0"),
        (HIER, {"method__num_samples": 0}, "must be at least 1, not 0"),
        (ROWS, {"method__likelihood": "normal"}, "bernoulli, gaussian, logistic"),
        (ROWS, {"method__local_steps": 0}, "method.local_steps must be at least 1"),
        (ROWS, {"likelihood__local_steps": 0}, "likelihood.local_steps must be at"),
        (AE, {"model__backbone": "dens"}, "did you mean 'dense'"),
        (AE, {"model__backbone": "conv"}, "model.widths|lacks model.channels"),
        (AE, {"model__activation": "geluu"}, "did you mean 'gelu'"),
        (AE, {"model__output": "sigmoidal"}, "did you mean 'sigmoid'"),
        (AE, {"model__code_size": 0}, "code_size must be at least 1, not 0"),
        (LINEAR, {"model__code_size": 64}, "below the 64 pixels .* not 64"),
        (VQ, {"method__bottleneck": "gausian"}, "did you mean 'gaussian'"),
        (VQ, {"method__levels": (8, 2)}, r"levels\[1\] must be at least 3, not 2"),
        (VQ, {"method__levels": ()}, r"must hold numbers, not \(\)"),
        (VQ, {"method__num_codes": 0}, "num_codes must be at least 1, not 0"),
        (VQ, {"method__codebook__usage_steps": 0}, "usage_steps must be at least 1"),
        (VQ, {"method__codebook__restart_below": 1.0}, "at least 0 and below 1, not"),
        (VQ, {"method__codebook__decay": 1.0}, "at least 0 and below 1, not 1.0"),
        (VQ, {"model__activation": "rellu"}, "did you mean 'relu'"),
        (VQ, {"sampler__pixels": "means"}, "did you mean 'mean'"),
        (PCA, {"model__num_components": 0}, "num_components must be at least 1"),
        (PCA, {"model__num_components": 64}, "1 ... 63, .* not 64"),
    ],
)
def test_choices_that_do_not_exist(name, changes, message):
    with pytest.raises(UserError, match=message):
        build(name, **changes)


CONFIGS = sorted(
    path.stem
    for path in (configs.INSTALLED / "configs").glob("*.py")
    if path.stem.split("_")[0] in ("vae", "autoencoder", "vqvae", "pca")
)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_schedule_ends_with_the_training(name):
    """Of each config and each of its variants; PCA sees whole epochs instead."""
    module = configs._run(configs.find_config(name), name)
    for variant in ["", "tiny", *getattr(module, "VARIANTS", {})]:
        config = configs.load(f"{name}:{variant}" if variant else name)
        training = config.training
        if "optim" in config:
            assert config.optim.decay_steps == training.num_steps
        elif not variant:
            num = {"digits": 1000, "mnist": 60_000}[config.data.name]
            assert training.num_steps * training.batch_size == num
        assert math.isfinite(training.num_steps)
