import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from configs import vae_digits
from experiments.vae import make_experiment
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
DIGITS = DataSpec(
    name="digits",
    shape=(8, 8, 1),
    dtype="uint8",
    num_levels=17,
    num_train=64,
    num_eval=16,
    num_classes=10,
)


def build(spec=DIGITS, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    config = vae_digits.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, spec)


def batch_of(images):
    images = jnp.asarray(images, jnp.uint8)
    return {"image": images.reshape(-1, 8, 8, 1), "index": jnp.arange(len(images))}


DATA = batch_of(load_digits().data[:1000])
FEW = {name: value[:6] for name, value in DATA.items()}
ALL_OR_NOTHING = batch_of(np.where(load_digits().data[:6] > 8, 16, 0))


def train(experiment, num_steps, batch_size=200):
    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (batch_size,), 0, len(DATA["image"]))
        batch = {"image": DATA["image"][rows]}
        return experiment.train_step(state, batch, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(num_steps)))
    return run(experiment.init(KEY))


def test_learns_what_probabilistic_pca_knows():
    """A linear VAE cannot pass pPCA's maximum of the likelihood, and comes near it."""
    experiment = build(
        model__widths=(),
        model__latent_dim=5,
        method__likelihood="gaussian",
        method__beta_warmup_steps=0,
        optim__learning_rate=1e-2,
        optim__decay_steps=3000,
        eval__importance_samples=50,
    )
    state, _ = train(experiment, 3000)
    values = jax.jit(experiment.evaluate)(state, DATA, KEY)
    x = np.asarray(DATA["image"]).reshape(1000, -1) / 16.0
    best = PCA(5, svd_solver="full").fit(x).score(x)
    assert best - 0.3 < values["log_density"].mean() < best + 0.05
    assert values["elbo"].mean() < values["log_density"].mean() + 0.1
    # and its reconstructions are PCA's, slightly shrunk, and cut to [0, 1]
    pca = PCA(5).fit(x)
    error = np.square(pca.inverse_transform(pca.transform(x)) - x).sum(axis=1).mean()
    assert 0.9 * error < values["squared_error"].mean() < 1.15 * error


def test_log_likelihood_rises_with_the_samples():
    state = build().init(KEY)
    bounds = [
        jax.jit(build(eval__importance_samples=k).log_likelihood)(state, DATA, KEY)
        for k in (1, 60)
    ]
    assert bounds[1].mean() > bounds[0].mean() + 0.01
    assert (bounds[1] < 0).all()


def metrics_of(state=None, batch=DATA, **changes):
    experiment = build(method__beta_warmup_steps=0, **changes)
    state = experiment.init(KEY) if state is None else state
    _, metrics = jax.jit(experiment.train_step)(state, batch, KEY)
    return metrics


def test_loss_is_the_two_terms():
    plain = metrics_of()
    want = plain["reconstruction_nats"] + plain["kl_nats"]
    np.testing.assert_allclose(plain["loss"], want, rtol=1e-6)
    np.testing.assert_allclose(plain["elbo"], -want, rtol=1e-6)
    doubled = metrics_of(method__beta=2.0)
    np.testing.assert_allclose(
        doubled["loss"] - plain["loss"], plain["kl_nats"], rtol=1e-2
    )
    free = metrics_of(method__free_bits=1000.0)
    np.testing.assert_allclose(
        free["loss"], plain["reconstruction_nats"] + 3 * 1000.0, rtol=1e-5
    )


def test_beta_warms_up():
    experiment = build(method__beta_warmup_steps=3, method__beta=2.0)
    state, seen = experiment.init(KEY), []
    for _ in range(5):
        state, metrics = jax.jit(experiment.train_step)(state, FEW, KEY)
        seen.append(metrics["beta"])
    np.testing.assert_allclose(seen, [0.5, 1.0, 1.5, 2.0, 2.0])


def test_objectives_with_samples_are_bounds_that_differ_in_the_gradient_only():
    iwae, dreg = (
        metrics_of(method__objective=name, method__num_samples=5)
        for name in ("iwae", "dreg")
    )
    np.testing.assert_allclose(iwae["iwae_bound"], dreg["iwae_bound"], rtol=1e-5)
    np.testing.assert_allclose(iwae["loss"], -iwae["iwae_bound"], rtol=1e-6)
    assert iwae["iwae_bound"] > iwae["elbo"]
    assert not np.isclose(iwae["grad_norm"], dreg["grad_norm"], rtol=1e-4)


@pytest.mark.parametrize("objective", ["iwae", "dreg"])
def test_both_gradients_learn(objective):
    experiment = build(
        method__objective=objective,
        method__num_samples=5,
        method__beta_warmup_steps=0,
        optim__decay_steps=300,
        model__widths=(32,),
    )
    _, metrics = train(experiment, 300)
    bound = metrics["iwae_bound"]
    assert bound[-20:].mean() > bound[:20].mean() + 20.0


def test_binary_pixels_are_drawn_with_the_grey_as_probability():
    """Black and white images stay as they are; grey ones change with the key."""
    experiment = build(method__likelihood="bernoulli")
    assert experiment.likelihood_of == "binarized"
    assert "binarised once an image" in experiment.likelihood_note
    state = experiment.init(KEY)
    encode = jax.jit(experiment.encode)
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
    for draw in (False, True):
        experiment = build(
            method__likelihood=likelihood,
            model__backbone=backbone,
            model__widths=(4,),
            sampler__draw_pixels=draw,
        )
        state = experiment.init(KEY)
        images.append(jax.jit(experiment.sample, static_argnums=2)(state, KEY, 5))
    assert images[0].dtype == np.uint8 and images[0].shape == (5, 8, 8, 1)
    assert not np.array_equal(*images)
    if likelihood == "bernoulli":
        assert set(np.unique(images[1])) <= {0, 16}

    @jax.jit
    def scores(state):
        code = experiment.encode(state, FEW, KEY)
        image = experiment.decode(state, code, KEY)
        return code, image, experiment.log_likelihood(state, FEW, KEY)

    code, image, log_likelihood = scores(state)
    assert code.shape == (6, 3) and image.shape == (6, 8, 8, 1)
    assert np.isfinite(log_likelihood).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__backbone": "convv"}, "did you mean 'conv'"),
        ({"method__likelihood": "binomial"}, "known: bernoulli, gaussian, logistic"),
        ({"method__objective": "iwea"}, "did you mean 'iwae'"),
        ({"method__num_samples": 0}, "at least 1, not 0 and 7"),
        (
            {"method__objective": "iwae", "method__beta_warmup_steps": 0}
            | {"method__beta": 4.0},
            "no KL of its own",
        ),
    ],
)
def test_choices_that_do_not_exist(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_refining_the_answer_of_the_encoder_closes_its_gap():
    """Whose parts add up: log p(x) - ELBO = approximation + amortisation gap."""
    experiment = build(
        model__widths=(16,),
        optim__decay_steps=300,
        eval__refine_steps=150,
        eval__refine_learning_rate=0.03,
        eval__importance_samples=200,
    )
    state, _ = train(experiment, 300)
    batch = {name: value[:100] for name, value in DATA.items()}
    values = {
        name: float(value.mean())
        for name, value in jax.jit(experiment.evaluate)(state, batch, KEY).items()
    }
    assert values["amortization_gap"] > 0.2
    assert values["approximation_gap"] > 0.0
    np.testing.assert_allclose(
        values["inference_gap"],
        values["amortization_gap"] + values["approximation_gap"],
        rtol=1e-3,
    )
    np.testing.assert_allclose(values["elbo"], values["elbo_amortized"], atol=1.0)


def test_points_are_refused():
    points = DataSpec(
        name="moons",
        shape=(2,),
        dtype="float32",
        num_levels=0,
        num_train=4,
        num_eval=4,
        num_classes=2,
    )
    with pytest.raises(UserError, match="the VAE is made for images"):
        build(spec=points)
