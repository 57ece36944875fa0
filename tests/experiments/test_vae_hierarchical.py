import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from configs import vae_hierarchical_digits
from experiments.vae_hierarchical import make_experiment
from genjax.distributions import standard_normal_kl
from genjax.evaluation.baselines import independent_pixels_nll
from genjax.evaluation.summary import level_counts
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
DIGITS = load_digits().images[..., None].astype(np.uint8)
TRAIN, TEST = jnp.asarray(DIGITS[:1400]), jnp.asarray(DIGITS[1400:])


def build(**changes):
    """The experiment at tiny, with config.section__field = value changed."""
    config = vae_hierarchical_digits.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    spec = DataSpec(
        name="digits",
        shape=(8, 8, 1),
        dtype="uint8",
        num_levels=17,
        num_train=1400,
        num_eval=16,
        num_classes=10,
    )
    return make_experiment(config, spec)


def test_learns_more_than_independent_pixels_know():
    """The bound on the test images beats one categorical a pixel by 10 nats."""
    experiment = build(
        model__widths=(64,),
        model__top_widths=(16,),
        model__latent_dims=(8, 4),
        optim__learning_rate=3e-3,
        optim__decay_steps=800,
        eval__importance_samples=100,
    )

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (100,), 0, len(TRAIN))
        return experiment.train_step(state, {"image": TRAIN[rows]}, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(800))[0])
    state = run(experiment.init(KEY))
    score = jax.jit(experiment.log_likelihood)
    nll = -score(state, {"image": TEST}, KEY).mean()
    counts = [level_counts(np.asarray(x), 17) for x in (TRAIN, TEST)]
    assert nll < independent_pixels_nll(*counts) - 10.0
    elbo = jax.jit(experiment.evaluate)(state, {"image": TEST}, KEY)["elbo"].mean()
    assert -elbo > nll


def test_the_posterior_of_a_code_without_effect_is_best_as_the_prior():
    """Where p(z1|z2) does not look at z2, any other q(z2|z1) costs its KL."""
    experiment = build()
    state = experiment.init(KEY)
    silent = {
        name: jax.tree.map(jnp.zeros_like, state.params[name])
        for name in ("z2_of_z1", "z1_of_z2")
    }
    best = state._replace(params=state.params | silent)
    louder = silent["z2_of_z1"] | {
        "out": {**silent["z2_of_z1"]["out"], "bias": jnp.full((6,), 0.3)}
    }
    worse = state._replace(params=best.params | {"z2_of_z1": louder})
    same = {"image": jnp.repeat(TRAIN[:1], 4000, axis=0)}
    elbo = jax.jit(experiment.evaluate)
    loss = [elbo(state, same, KEY)["elbo"].mean() for state in (best, worse)]
    kl = 3 * standard_normal_kl(jnp.array(0.3), jnp.array(0.3))
    np.testing.assert_allclose(loss[0] - loss[1], kl, atol=0.05)


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_samples_and_reconstructions(likelihood):
    experiment = build(method__likelihood=likelihood, sampler__draw_pixels=True)
    state = experiment.init(KEY)
    images = jax.jit(experiment.sample, static_argnums=2)(state, KEY, 5)
    assert images.shape == (5, 8, 8, 1) and images.dtype == np.uint8
    code = experiment.encode(state, {"image": TRAIN[:3]}, KEY)
    assert code.shape == (3, 4)
    assert experiment.decode(state, code, KEY).shape == (3, 8, 8, 1)


def test_iwae_is_the_tighter_bound():
    experiment = build(method__objective="iwae", method__num_samples=5)
    _, metrics = experiment.train_step(experiment.init(KEY), {"image": TRAIN[:20]}, KEY)
    assert metrics["iwae_bound"] > metrics["elbo"]
    np.testing.assert_allclose(metrics["loss"], -metrics["iwae_bound"], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method__objective": "dreg"}, "known: elbo, iwae"),
        ({"method__likelihood": "gaussian"}, "known: bernoulli, logistic"),
        ({"model__latent_dims": (4,)}, "two numbers, of z1 and of z2"),
        ({"method__num_samples": 0}, "at least 1, not 0"),
    ],
)
def test_choices_that_do_not_exist(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)
