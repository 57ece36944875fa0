import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from experiments.vae import dreg_loss, warmed_up
from genjax.objectives import elbo
from genjax.objectives.elbo import Gaussian
from tests.experiments.code_models import KEY, batch_of, build, digits, train, unit

IMAGES = digits()[:1000]
FEW = batch_of(IMAGES[:6])
ALL_OR_NOTHING = batch_of(np.where(IMAGES[:6] > 8, 16, 0))
build = functools.partial(build, "vae_digits", method__beta_warmup_steps=0)


def test_learns_what_probabilistic_pca_knows():
    """A linear VAE cannot pass pPCA's maximum of the likelihood, and comes near it."""
    experiment = build(
        model__widths=(),
        model__latent_dim=5,
        method__likelihood="gaussian",
        optim__learning_rate=1e-2,
        optim__decay_steps=3000,
        likelihood__importance_samples=50,
    )
    state, _ = train(experiment, IMAGES, 3000, batch_size=200)
    values = jax.jit(experiment.evaluate)(state, batch_of(IMAGES), KEY)
    x = unit(IMAGES)
    best = PCA(5, svd_solver="full").fit(x).score(x)
    assert best - 0.3 < values["log_density"].mean() < best + 0.05
    assert values["elbo"].mean() < values["log_density"].mean() + 0.1
    # and its reconstructions are PCA's, slightly shrunk, and cut to [0, 1]
    pca = PCA(5).fit(x)
    error = np.square(pca.inverse_transform(pca.transform(x)) - x).sum(axis=1).mean()
    assert 0.9 * error < values["squared_error"].mean() < 1.15 * error


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["iwae", "dreg"])
def test_both_gradients_learn(objective):
    experiment = build(
        method__objective=objective,
        method__num_samples=5,
        optim__decay_steps=300,
        model__widths=(32,),
    )
    _, metrics = train(experiment, IMAGES, 300, batch_size=200)
    bound = metrics["iwae_bound"]
    assert bound[-20:].mean() > bound[:20].mean() + 20.0


def test_beta_warms_up():
    seen = [warmed_up(2.0, jnp.int32(step), 3) for step in range(5)]
    np.testing.assert_allclose(seen, [0.5, 1.0, 1.5, 2.0, 2.0])
    experiment = build(method__beta_warmup_steps=3, method__beta=2.0)
    state, step = experiment.init(KEY), jax.jit(experiment.train_step)
    state, first = step(state, FEW, KEY)
    _, second = step(state, FEW, KEY)
    np.testing.assert_allclose([first["beta"], second["beta"]], seen[:2])
    for metrics in (first, second):
        want = metrics["reconstruction_nats"] + metrics["beta"] * metrics["kl_nats"]
        np.testing.assert_allclose(metrics["loss"], want, rtol=1e-6)


def test_objectives_with_samples_are_bounds_that_differ_in_the_gradient_only():
    """x = z + noise, and a q that is neither the prior nor the posterior."""
    x = jax.random.normal(KEY, (7, 2))

    def losses(shift, objective):
        def log_px(z):
            return elbo.log_standard_normal(2.0 * (x[None] - z))

        q = Gaussian(0.3 * x + shift, jnp.full((7, 2), -1.0))
        if objective == "dreg":
            return dreg_loss(log_px, q, KEY, num=5)
        return elbo.iwae_loss(elbo.weigh(log_px, q)(KEY, 5))

    (_, iwae), (_, dreg) = losses(0.0, "iwae"), losses(0.0, "dreg")
    np.testing.assert_allclose(iwae["iwae_bound"], dreg["iwae_bound"], rtol=1e-6)
    np.testing.assert_allclose(losses(0.0, "iwae")[0], -iwae["iwae_bound"])
    assert iwae["iwae_bound"] > iwae["elbo"]
    gradients = [
        jax.grad(lambda shift, name=name: losses(shift, name)[0])(0.0)
        for name in ("iwae", "dreg")
    ]
    assert not np.isclose(*gradients, rtol=1e-3)


@pytest.mark.parametrize("name", ["elbo", "iwae", "dreg"])
def test_a_step_raises_the_bound_that_is_chosen(name):
    experiment = build(method__objective=name, method__num_samples=5)
    _, metrics = jax.jit(experiment.train_step)(experiment.init(KEY), FEW, KEY)
    assert ("kl_nats" in metrics) == (name == "elbo")
    if name == "iwae":
        np.testing.assert_allclose(metrics["loss"], -metrics["iwae_bound"], rtol=1e-6)
    if name != "elbo":
        assert metrics["iwae_bound"] > metrics["elbo"]


def test_binary_pixels_are_drawn_with_the_grey_as_probability():
    """Black and white images stay as they are; grey ones change with the key."""
    experiment = build(method__likelihood="bernoulli")
    assert experiment.likelihood.of == "binarized"
    assert "binarised once an image" in experiment.likelihood.note
    state = experiment.init(KEY)
    encode = jax.jit(experiment.code.encode)
    other = jax.random.key(1)
    np.testing.assert_array_equal(
        encode(state, ALL_OR_NOTHING, KEY), encode(state, ALL_OR_NOTHING, other)
    )
    assert not np.allclose(encode(state, FEW, KEY), encode(state, FEW, other))
    shown = experiment.images(state, FEW, KEY)["reconstructions"]
    assert shown.shape == (12, 8, 8, 1)
    assert set(np.unique(shown[::2])) == {0, 16}


@pytest.mark.parametrize(
    ("likelihood", "backbone"),
    [("bernoulli", "dense"), ("gaussian", "dense"), ("logistic", "conv")],
)
def test_every_choice_samples_decodes_and_scores(likelihood, backbone):
    images = []
    for pixels in ("mean", "draw"):
        experiment = build(
            method__likelihood=likelihood,
            model__backbone=backbone,
            model__widths=(4,),
            sampler__pixels=pixels,
        )
        state = experiment.init(KEY)
        images.append(jax.jit(experiment.sample, static_argnums=2)(state, KEY, 5))
    assert images[0].dtype == np.uint8 and images[0].shape == (5, 8, 8, 1)
    assert not np.array_equal(*images)
    if likelihood == "bernoulli":
        assert set(np.unique(images[1])) <= {0, 16}

    @jax.jit
    def scores(state):
        code = experiment.code.encode(state, FEW, KEY)
        image = experiment.code.decode(state, code, KEY)
        return code, image, experiment.likelihood.log_prob(state, FEW, KEY)

    code, image, log_likelihood = scores(state)
    assert code.shape == (6, 3) and image.shape == (6, 8, 8, 1)
    assert np.isfinite(log_likelihood).all()
    assert experiment.code.prior(KEY, 4).shape == (4, 3)


@pytest.mark.slow
def test_gaps_are_measured_where_there_are_steps_for_them():
    """Whose parts add up: log p(x) - ELBO = approximation + amortisation gap."""
    experiment = build(likelihood__refine_steps=20)
    state = experiment.init(KEY)
    values = jax.jit(experiment.evaluate)(state, batch_of(IMAGES[:200]), KEY)
    np.testing.assert_allclose(
        values["inference_gap"],
        values["amortization_gap"] + values["approximation_gap"],
        atol=1e-3,
    )
    means = values["elbo"].mean(), values["elbo_amortized"].mean()
    np.testing.assert_allclose(*means, atol=15.0)  # by 1 draw and by 100
    plain = build(likelihood__refine_steps=0).evaluate(state, FEW, KEY)
    assert not [name for name in plain if "gap" in name]
