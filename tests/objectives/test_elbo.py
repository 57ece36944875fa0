"""On models whose log p(x) is known: linear Gaussian, and a sum over few codes."""

import itertools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from genjax.data import datasets
from genjax.distributions import normal_kl, normal_log_prob, standard_normal_kl
from genjax.objectives import elbo
from genjax.typing import UserError

KEY = jax.random.key(0)
ROOT = Path(__file__).parents[2]
OFFLINE_DATA = ROOT.parent / "shared" / "data" / "tensorflow_datasets"


# --- a linear Gaussian model: probabilistic PCA ---------------------------------------


class Linear:
    """x = W z + mean + noise, with the largest likelihood for the data given.

    Tipping & Bishop 1999: W = U (L - sigma^2)^(1/2), and the posterior is diagonal.
    """

    def __init__(self, data: np.ndarray, dim: int):
        self.pca = PCA(dim, svd_solver="covariance_eigh").fit(data)
        variance = self.pca.explained_variance_ * (len(data) - 1) / len(data)
        total = data.var(axis=0).sum()
        self.noise = (total - variance.sum()) / (data.shape[1] - dim)
        self.scale = np.sqrt(variance - self.noise)
        self.w = self.pca.components_.T * self.scale
        self.mean = data.mean(axis=0)
        self.posterior_variance = self.noise / variance

    def posterior(self, x):
        mean = (np.asarray(x) - self.mean) @ self.w / (self.scale**2 + self.noise)
        logvar = np.broadcast_to(np.log(self.posterior_variance), mean.shape)
        return jnp.asarray(mean, jnp.float32), jnp.asarray(logvar, jnp.float32)

    def log_weight(self, x, z, mean, logvar):
        return elbo.log_weights(self.log_px(x)(z), z, mean, logvar)

    def log_px(self, x):
        std = jnp.full((), np.sqrt(self.noise), jnp.float32)
        w, center = jnp.asarray(self.w.T, x.dtype), jnp.asarray(self.mean, x.dtype)
        return lambda z: normal_log_prob(x[None], z @ w + center[None, None], std).sum(
            axis=-1
        )

    def weigh(self, x, q):
        return elbo.weigh(self.log_px(x), q)

    def exact(self, x):
        covariance = self.w @ self.w.T + self.noise * np.eye(len(self.mean))
        return stats.multivariate_normal(self.mean, covariance).logpdf(x)


@pytest.fixture(scope="module")
def linear():
    data = load_digits().data / 16.0
    return Linear(data[:1000], 5), jnp.asarray(data[1000:1100], jnp.float32)


def test_with_the_true_posterior_every_weight_is_the_likelihood(linear):
    model, x = linear
    mean, logvar = model.posterior(x)
    z = elbo.reparameterize(KEY, mean, logvar, 3)
    weights = model.log_weight(x, z, mean, logvar)
    exact = model.exact(np.asarray(x, np.float64))
    np.testing.assert_allclose(weights, np.tile(exact, (3, 1)), rtol=1e-4, atol=2e-3)
    np.testing.assert_allclose(elbo.importance_bound(weights), exact, atol=2e-3)


@pytest.mark.slow
def test_closed_form_parameters_meet_the_published_mnist_value():
    """pPCA with 30 components: 394.616 nats on the test set, sigma^2 = .018842."""
    folder = os.environ.get("TFDS_DATA_DIR", str(OFFLINE_DATA))
    try:
        data = datasets.load(name="mnist", dir=folder, download=False)
    except UserError:
        pytest.skip("MNIST is not on this machine")
    train, test = (
        split.read(np.arange(len(split)))["image"].reshape(len(split), -1) / 255.0
        for split in (data.train, data.eval)
    )
    model = Linear(train, 30)
    np.testing.assert_allclose(model.noise, 0.018842, atol=5e-7)
    x = jnp.asarray(test, jnp.float32)
    mean, logvar = model.posterior(test)
    z = elbo.reparameterize(KEY, mean, logvar, 2)
    weights = jax.jit(model.log_weight)(x, z, mean, logvar)
    np.testing.assert_allclose(weights.mean(), 394.616, atol=1e-3)  # the ELBO
    np.testing.assert_allclose(
        elbo.importance_bound(weights).mean(), 394.616, atol=1e-3
    )


def test_elbo_by_its_two_terms_is_the_mean_weight(linear):
    """(1) with the closed form of the KL against (2), for a posterior that is wrong."""
    model, x = linear
    mean, logvar = model.posterior(x)
    mean, logvar = 0.9 * mean, logvar + 0.5
    z = elbo.reparameterize(KEY, mean, logvar, 4000)
    weights = model.log_weight(x, z, mean, logvar)
    log_px = weights - elbo.log_standard_normal(z) + elbo.log_normal(z, mean, logvar)
    two_terms = log_px.mean(axis=0) - standard_normal_kl(mean, logvar).sum(axis=-1)
    np.testing.assert_allclose(two_terms, weights.mean(axis=0), atol=0.3)


def test_bounds_rise_with_k_and_stay_under_the_likelihood(linear):
    """And the gap of the first is KL(q(z|x) || p(z|x))."""
    model, x = linear
    true_mean, true_logvar = model.posterior(x)
    mean, logvar = 0.9 * true_mean, true_logvar + 0.5
    exact = model.exact(np.asarray(x, np.float64)).mean()
    z = elbo.reparameterize(KEY, mean, logvar, 2048)
    weights = jax.jit(model.log_weight)(x, z, mean, logvar)
    bound = jax.jit(jax.vmap(elbo.importance_bound))
    bounds = [bound(weights.reshape(-1, k, len(x))).mean() for k in (1, 4, 32, 512)]
    assert np.all(np.diff(bounds) > 0)
    assert exact - 0.05 < bounds[-1] < exact + 0.02
    gap = normal_kl(mean, jnp.exp(logvar), true_mean, jnp.exp(true_logvar))
    np.testing.assert_allclose(exact - bounds[0], gap.sum(axis=-1).mean(), atol=0.03)


@pytest.mark.parametrize(("num_samples", "chunk"), [(7, 3), (6, 3), (5, 9), (1, 1)])
def test_streaming_takes_every_sample_once(num_samples, chunk):
    """Equal weights: their mean is each of them, if none is lost or counted twice."""
    bound = elbo.importance_log_likelihood(
        lambda key, num: jnp.full((num, 2), 0.7),
        KEY,
        num_samples=num_samples,
        chunk=chunk,
    )
    np.testing.assert_allclose(bound, 0.7, rtol=1e-6)


@pytest.mark.slow
def test_streaming_agrees_with_all_samples_at_once(linear):
    model, x = linear
    mean, logvar = model.posterior(x)
    logvar = logvar + 0.3

    def log_weights(key, num):
        z = elbo.reparameterize(key, mean, logvar, num)
        return model.log_weight(x, z, mean, logvar)

    streamed = elbo.importance_log_likelihood(
        log_weights, KEY, num_samples=3000, chunk=250
    )
    whole = elbo.importance_bound(log_weights(jax.random.key(1), 3000))
    exact = model.exact(np.asarray(x, np.float64))
    np.testing.assert_allclose(streamed, exact, atol=0.15)
    np.testing.assert_allclose(whole, exact, atol=0.15)


def test_the_log_likelihood_rises_with_the_draws(linear):
    """And says how many they were; the posterior is wrong, so one draw loses nats."""
    model, x = linear
    mean, logvar = model.posterior(x)
    q = elbo.Gaussian(0.9 * mean, logvar + 0.5)
    exact = model.exact(np.asarray(x, np.float64)).mean()
    bounds = []
    for k in (1, 60, 1000):
        sampling = elbo.ImportanceSampling(importance_samples=k)
        bound = jax.jit(lambda sampling=sampling: sampling(model.weigh(x, q), KEY))()
        assert bound.shape == (len(x),) and sampling.note.startswith(f"L_{k} ")
        bounds.append(bound.mean())
    assert bounds[0] < bounds[1] < bounds[2] < exact + 0.05


# --- the two terms --------------------------------------------------------------------


def terms(**options):
    """(loss, metrics) of x = z + noise and two images with a q in closed form."""
    q = elbo.Gaussian(jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.zeros((2, 2)))
    x = jnp.ones((2, 2))
    return elbo.elbo_loss(
        lambda z: elbo.log_standard_normal(x[None] - z), q, KEY, 20_000, **options
    )


def test_the_loss_is_the_two_terms():
    loss, metrics = terms()
    # by hand: -E log N(1; z, 1) = (|1 - mean|^2 + 2) / 2 + log(2 pi), KL = |mean|^2 / 2
    np.testing.assert_allclose(metrics["kl_nats"], (1 + 4) / 4, rtol=1e-6)
    np.testing.assert_allclose(
        metrics["reconstruction_nats"], 0.75 + 1 + np.log(2 * np.pi), rtol=0.01
    )
    want = metrics["reconstruction_nats"] + metrics["kl_nats"]
    np.testing.assert_allclose([loss, -metrics["elbo"]], [want, want], rtol=1e-6)


def test_beta_weighs_the_kl_and_free_bits_bound_it():
    loss, metrics = terms()
    doubled, same = terms(beta=2.0)
    np.testing.assert_allclose(doubled - loss, metrics["kl_nats"], rtol=1e-5)
    np.testing.assert_allclose(same["elbo"], metrics["elbo"], rtol=1e-6)
    free, _ = terms(least=1000.0)
    reconstruction = metrics["reconstruction_nats"]
    np.testing.assert_allclose(free, reconstruction + 2 * 1000.0, rtol=1e-5)


def test_the_drawn_elbo_of_an_example_is_the_mean_weight(linear):
    model, x = linear
    mean, logvar = model.posterior(x)
    q = elbo.Gaussian(mean, logvar + 0.5)
    weights = model.weigh(x, q)(KEY, 4000)
    bound = elbo.drawn_elbo(model.log_px(x), q, KEY, 4000)
    np.testing.assert_allclose(bound, weights.mean(axis=0), atol=0.3)
    loss, metrics = elbo.iwae_loss(weights)
    np.testing.assert_allclose(metrics["elbo"], weights.mean(), rtol=1e-6)
    np.testing.assert_allclose(loss, -elbo.importance_bound(weights).mean(), rtol=1e-6)


# --- gradients ------------------------------------------------------------------------


def gradients(linear, shift, k, repeats):
    """(plain, doubly reparameterised) gradients of L_k in the posterior's mean."""
    model, x = linear
    x = x[:8]
    mean, logvar = model.posterior(x)

    def bound(shift, key, doubly):
        moved, spread = mean + shift, logvar + shift
        z = elbo.reparameterize(key, moved, spread, k)
        if doubly:
            moved, spread = jax.lax.stop_gradient((moved, spread))
            return elbo.dreg_surrogate(
                lambda z: model.log_weight(x, z, moved, spread), z
            ).mean()
        weights = model.log_weight(x, z, moved, spread)
        return elbo.importance_bound(weights).mean()

    keys = jax.random.split(KEY, repeats)
    return [
        jax.jit(jax.vmap(lambda key, d=d: jax.grad(bound)(shift, key, d)))(keys)
        for d in (False, True)
    ]


def test_doubly_reparameterised_gradient_has_the_same_mean_and_less_variance(linear):
    plain, doubly = gradients(linear, jnp.full((), 0.3), k=8, repeats=4000)
    error = plain.std() / np.sqrt(len(plain))
    np.testing.assert_allclose(doubly.mean(), plain.mean(), atol=4 * error)
    assert abs(plain.mean()) > 10 * error, "or the comparison says nothing"
    assert doubly.var() < 0.7 * plain.var()


@pytest.mark.parametrize("k", [1, 8])
def test_at_the_true_posterior_it_has_no_noise_at_all(linear, k):
    plain, doubly = gradients(linear, jnp.zeros(()), k=k, repeats=50)
    assert np.abs(doubly).max() < 1e-2 < plain.std()


def test_scale_gradient():
    x, factor = jnp.array([1.0, 2.0]), jnp.array([3.0, 0.5])
    value, vjp = jax.vjp(elbo.scale_gradient, x, factor)
    np.testing.assert_array_equal(value, x)
    np.testing.assert_array_equal(vjp(jnp.ones(2)), [factor, [0.0, 0.0]])


# --- a model with four codes ----------------------------------------------------------


def test_bounds_of_a_discrete_model_against_the_exact_sum():
    """E over all k-tuples of codes, taken exactly: L_1 < L_2 < L_3 < log p(x)."""
    rng = np.random.default_rng(0)
    prior, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
    likelihood = rng.uniform(0.01, 1.0, 4)
    exact = np.log(np.sum(prior * likelihood))
    log_w = np.log(prior) + np.log(likelihood) - np.log(q)
    bounds = []
    for k in (1, 2, 3, 4):
        tuples = np.array(list(itertools.product(range(4), repeat=k)))
        probability = q[tuples].prod(axis=1)
        values = elbo.importance_bound(jnp.asarray(log_w[tuples].T, jnp.float32))
        bounds.append(float(np.sum(probability * np.asarray(values))))
    assert np.all(np.diff(bounds) > 0) and bounds[-1] < exact
    # many samples: the sum itself
    codes = np.random.default_rng(1).choice(4, size=(200_000, 1), p=q)
    many = elbo.importance_bound(jnp.asarray(log_w[codes], jnp.float32))
    np.testing.assert_allclose(many, exact, atol=0.01)


def test_free_bits_by_hand():
    kl = jnp.array([[0.0, 3.0], [0.2, 1.0]])
    np.testing.assert_allclose(elbo.free_bits(kl, 0.5), [0.5, 2.0])
    gradient = jax.grad(lambda kl: elbo.free_bits(kl, 0.5).sum())(kl)
    np.testing.assert_allclose(gradient, [[0.0, 0.5], [0.0, 0.5]])
    np.testing.assert_allclose(elbo.free_bits(kl, 0.0), [0.1, 2.0])


def test_log_densities_against_scipy():
    z = jax.random.normal(KEY, (3, 2, 4))
    mean, logvar = jnp.full((2, 4), 0.3), jnp.full((2, 4), -0.7)
    want = stats.norm(0.3, np.exp(-0.35)).logpdf(z).sum(axis=-1)
    np.testing.assert_allclose(elbo.log_normal(z, mean, logvar), want, rtol=1e-5)
    want = stats.norm.logpdf(z).sum(axis=-1)
    np.testing.assert_allclose(elbo.log_standard_normal(z), want, rtol=1e-5)


def test_a_gaussian_draws_scores_and_diverges_as_it_says():
    q = elbo.Gaussian(jnp.full((4000, 3), 0.3), jnp.full((4000, 3), -0.7))
    z = q.draw(KEY)
    np.testing.assert_allclose(z.mean(axis=0), jnp.full(3, 0.3), atol=0.05)
    np.testing.assert_allclose(z.std(axis=0), jnp.full(3, np.exp(-0.35)), rtol=0.05)
    want = stats.norm(0.3, np.exp(-0.35)).logpdf(z).sum(axis=-1)
    np.testing.assert_allclose(q.log_prob(z), want, rtol=1e-4, atol=1e-5)
    monte_carlo = (q.log_prob(z) - elbo.log_standard_normal(z)).mean()
    np.testing.assert_allclose(q.kl()[0].sum(), monte_carlo, atol=0.1)
