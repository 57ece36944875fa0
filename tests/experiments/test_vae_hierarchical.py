import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.vae_hierarchical import Conditionals, log_weights
from genjax.distributions import normal_log_prob, standard_normal_kl
from genjax.evaluation.baselines import independent_pixels_nll
from genjax.evaluation.summary import level_counts
from genjax.objectives.elbo import Gaussian
from tests.experiments.code_models import KEY, batch_of, build, digits, train

TRAIN, TEST = digits()[:1400], batch_of(digits()[1400:])
build = functools.partial(build, "vae_hierarchical_digits")


@pytest.mark.slow
def test_learns_more_than_independent_pixels_know():
    """The bound on the test images beats one categorical a pixel by 10 nats."""
    experiment = build(
        model__widths=(64,),
        model__top_widths=(16,),
        model__latent_dim=8,
        model__top_latent_dim=4,
        optim__learning_rate=3e-3,
        optim__decay_steps=800,
        likelihood__importance_samples=100,
    )
    state, _ = train(experiment, TRAIN, 800)
    nll = -jax.jit(experiment.likelihood.log_prob)(state, TEST, KEY).mean()
    counts = [level_counts(np.asarray(x), 17) for x in (TRAIN, TEST["image"])]
    assert nll < independent_pixels_nll(*counts) - 10.0
    elbo = jax.jit(experiment.evaluate)(state, TEST, KEY)["elbo"].mean()
    assert -elbo > nll


def constant(mean, variance, dim):
    """A conditional that does not look at its condition."""

    def of(x):
        shape = (*x.shape[:-1], dim)
        return Gaussian(jnp.full(shape, mean), jnp.full(shape, np.log(variance)))

    return of


def test_with_the_true_posteriors_every_weight_is_the_likelihood():
    """z2 ~ N(0, 1), z1 = a z2 + noise, x = z1 + noise, each one number."""
    a, s1, s = 0.8, 0.5, 0.3
    v1 = a**2 + s1  # the variance of z1, and v1 + s that of x
    gain1, gain2 = v1 / (v1 + s), a / v1

    def linear(slope, variance):
        return lambda x: Gaussian(slope * x, jnp.full_like(x, np.log(variance)))

    codes = Conditionals(
        z1_of_x=linear(gain1, v1 * s / (v1 + s)),
        z2_of_z1=linear(gain2, s1 / v1),
        z1_of_z2=linear(a, s1),
    )
    x = jnp.linspace(-2.0, 2.0, 5)[:, None]

    def log_px(z1):
        return normal_log_prob(x[None], z1, jnp.sqrt(s)).sum(axis=-1)

    weights = log_weights(codes, log_px, x, KEY, 3)
    exact = stats.norm(0, np.sqrt(v1 + s)).logpdf(x[:, 0])
    np.testing.assert_allclose(weights, np.tile(exact, (3, 1)), rtol=1e-4, atol=1e-5)


def test_the_posterior_of_a_code_without_effect_is_best_as_the_prior():
    """Where p(z1|z2) does not look at z2, any other q(z2|z1) costs its KL."""
    x = jnp.zeros((4000, 1))

    def bound(z2_of_z1):
        codes = Conditionals(constant(0.0, 1.0, 4), z2_of_z1, constant(0.0, 1.0, 4))
        return log_weights(codes, lambda z1: z1.sum(axis=-1), x, KEY, 1).mean()

    best, worse = bound(constant(0.0, 1.0, 3)), bound(constant(0.3, np.exp(0.3), 3))
    kl = 3 * standard_normal_kl(jnp.array(0.3), jnp.array(0.3))
    np.testing.assert_allclose(best - worse, kl, atol=0.05)


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_samples_and_reconstructions(likelihood):
    experiment = build(method__likelihood=likelihood, sampler__pixels="draw")
    state = experiment.init(KEY)
    images = jax.jit(experiment.sample, static_argnums=2)(state, KEY, 5)
    assert images.shape == (5, 8, 8, 1) and images.dtype == np.uint8
    code = experiment.code.encode(state, batch_of(TRAIN[:3]), KEY)
    assert code.shape == (3, 4)
    assert experiment.code.decode(state, code, KEY).shape == (3, 8, 8, 1)


def test_iwae_is_the_tighter_bound():
    experiment = build(method__objective="iwae", method__num_samples=5)
    step = jax.jit(experiment.train_step)
    _, metrics = step(experiment.init(KEY), batch_of(TRAIN[:20]), KEY)
    assert metrics["iwae_bound"] > metrics["elbo"]
    np.testing.assert_allclose(metrics["loss"], -metrics["iwae_bound"], rtol=1e-6)
