import jax
import jax.numpy as jnp
import numpy as np

from genjax.objectives.elbo import Gaussian
from genjax.objectives.gaps import RefinedSampling

KEY = jax.random.key(0)
WEIGHT = np.array([[1.0, 0.6], [0.0, 0.8], [0.5, -0.3]])  # x = W z + noise
NOISE = 0.7


def log_px(x):
    def of(z):
        left = (x[None] - z @ jnp.asarray(WEIGHT.T, jnp.float32)) / NOISE
        return -0.5 * jnp.sum(left**2 + np.log(2 * np.pi * NOISE**2), axis=-1)

    return of


def test_the_gaps_of_a_linear_model_are_known():
    """The posterior is N(m, P^-1); the best diagonal Gaussian has variances 1 / P_ii.

    So the approximation gap is half the sum of log P_ii less log |P|, and the
    amortisation gap that much less than KL(q || posterior).
    """
    x = np.random.default_rng(0).normal(size=(200, 3))
    precision = np.eye(2) + WEIGHT.T @ WEIGHT / NOISE**2
    mean = x @ WEIGHT @ np.linalg.inv(precision) / NOISE**2
    approximation = 0.5 * np.log(np.diag(precision).prod() / np.linalg.det(precision))
    off, variance = np.array([0.4, -0.2]), 0.3
    kl = 0.5 * (
        variance * np.trace(precision)
        + off @ precision @ off
        - 2
        - np.log(variance**2 * np.linalg.det(precision))
    )
    q = Gaussian(
        jnp.asarray(mean + off, jnp.float32), jnp.full((200, 2), np.log(variance))
    )
    sampling = RefinedSampling(
        importance_samples=1000, refine_steps=400, refine_learning_rate=0.03
    )
    gaps = jax.jit(lambda: sampling.gaps(log_px(jnp.asarray(x, jnp.float32)), q, KEY))()
    assert approximation > 0.02
    np.testing.assert_allclose(gaps["inference_gap"].mean(), kl, rtol=0.07)
    np.testing.assert_allclose(
        gaps["approximation_gap"].mean(), approximation, atol=0.02
    )
    np.testing.assert_allclose(
        gaps["amortization_gap"].mean(), kl - approximation, rtol=0.07
    )
    np.testing.assert_allclose(
        gaps["inference_gap"],
        gaps["amortization_gap"] + gaps["approximation_gap"],
        rtol=1e-3,
        atol=1e-4,
    )
    np.testing.assert_allclose(
        gaps["elbo_refined"] - gaps["elbo_amortized"],
        gaps["amortization_gap"],
        rtol=1e-6,
    )


def test_without_steps_nothing_is_measured():
    q = Gaussian(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    assert RefinedSampling(refine_steps=0).gaps(log_px(jnp.zeros((1, 3))), q, KEY) == {}
