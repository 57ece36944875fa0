import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from genjax.data.toy import gaussian_mixture
from genjax.diffusion.ode_likelihood import log_likelihood
from tests.diffusion import gaussian, mixture
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(7)


@pytest.mark.parametrize("name", ["vp", "rectified_flow", "edm"])
def test_of_a_mixture(name):
    """To 1e-3 bits a dimension: the mean with the prior; each point without its error.

    The mixture diffused to t = 1 is a mixture too, so the exact p_1 is known.
    """
    path, one = PATHS[name], jnp.ones(())
    x = mixture.DENSITY.sample(KEY, 200)
    alpha, sigma = float(path.alpha(one)), float(path.sigma(one))
    width = float(np.sqrt(alpha**2 * mixture.SIGMA**2 + sigma**2))
    diffused = gaussian_mixture(alpha * mixture.CENTERS, width)
    denoise = mixture.exact_denoiser(path)
    away = {}
    for prior in (None, diffused.log_prob):
        value, evaluations = jax.jit(
            lambda x, prior=prior: log_likelihood(
                denoise, x, path=path, key=KEY, trace="exact", prior=prior
            )
        )(x)
        assert 50 < evaluations < 5000
        away[prior] = (value - mixture.DENSITY.log_prob(x)) / (2 * np.log(2))
    by_prior, by_truth = away.values()
    assert abs(by_prior.mean()) < 1e-3
    assert np.abs(by_truth).mean() < 1e-3 and np.abs(by_truth).max() < 0.03


def test_hutchinson_is_exact_where_the_jacobian_is_diagonal():
    """The dimensions of this Gaussian do not mix, and a sign squared is 1."""
    path, x = PATHS["rectified_flow"], jax.random.normal(KEY, (20, 2))
    value, _ = jax.jit(
        lambda x: log_likelihood(gaussian.exact_denoiser(path), x, path=path, key=KEY)
    )(x)
    np.testing.assert_allclose(value, gaussian.log_prob(x), rtol=1e-3, atol=3e-3)


def test_hutchinson_is_unbiased():
    path = PATHS["rectified_flow"]
    x = mixture.DENSITY.sample(KEY, 4)
    value, _ = jax.jit(
        lambda x: log_likelihood(mixture.exact_denoiser(path), x, path=path, key=KEY)
    )(jnp.repeat(x, 1000, axis=0))
    value = value.reshape(4, 1000)
    error = value.std(1) / np.sqrt(1000)
    assert (error > 1e-4).all()  # chance, not the exact trace
    away = value.mean(1) - mixture.DENSITY.log_prob(x)
    assert (np.abs(away) < 4 * error + 1e-3).all()


def test_a_trace_that_does_not_exist():
    with pytest.raises((ValueError, TypeCheckError), match="'skilling'"):
        log_likelihood(
            lambda x, t: x,
            jnp.ones((2, 2)),
            path=PATHS["vp"],
            key=KEY,
            trace="skilling",
        )


def test_a_network_that_has_diverged_has_no_likelihood():
    """Its slope has no end, and the solver gives up instead of failing the run."""
    x = jnp.ones((3, 2))
    nats, _ = log_likelihood(
        lambda x, t: jnp.inf * x, x, path=PATHS["rectified_flow"], key=KEY
    )
    assert jnp.isnan(nats).all()


def test_its_program_is_kept_in_the_compilation_cache():
    """JAX keeps none that calls the host, as diffrax does to check unknown times."""
    path = PATHS["rectified_flow"]
    nats = jax.jit(lambda x: log_likelihood(lambda x, t: x, x, path=path, key=KEY))
    assert "callback" not in nats.lower(jnp.ones((3, 2))).as_text()
