import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genjax.diffusion import paths
from genjax.diffusion.continuous import (
    antithetic_times,
    continuous_bound,
    level_logits,
    levels_of,
)
from tests.diffusion import gaussian

KEY = jax.random.key(0)
SCHEDULES = {  # from 13 to -9
    "linear": lambda t: 13.0 - 22.0 * t,
    "bent": lambda t: 13.0 - 22.0 * (0.3 * t + 0.7 * t**3),
}


def mean_bound(denoise, x0, path, num_levels=0):
    """The mean of each term over times that cover [0, 1]."""

    @jax.jit
    def run(x0):
        t_key, key = jax.random.split(KEY)
        t = antithetic_times(t_key, len(x0))
        return continuous_bound(
            denoise, x0, t, path=path, num_levels=num_levels, key=key
        )

    bound = run(x0)
    return bound._asdict(), float(bound.nats.mean())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_bound_meets_the_exact_log_density_of_a_gaussian(schedule):
    """With the exact denoiser nothing is lost, not even for one point."""
    path = paths.of_logsnr(schedule)
    for point in ([0.6, 0.0], [0.2, -2.5]):
        x0 = jnp.tile(jnp.array([point]), (400_000, 1))
        _, nats = mean_bound(gaussian.exact_denoiser(path), x0, path)
        exact = -gaussian.log_prob(jnp.array([point]))[0]
        np.testing.assert_allclose(nats, exact, atol=0.2)


def test_bound_does_not_depend_on_the_middle_of_the_schedule():
    """For a denoiser that is wrong, as long as it knows the noise, not the time."""
    noise = jax.random.normal(jax.random.key(3), (400_000, 2))
    x0, terms = gaussian.MEAN + gaussian.STD * noise, {}
    for name, schedule in SCHEDULES.items():
        path = paths.of_logsnr(schedule)
        exact = gaussian.exact_denoiser(path)

        def wrong(x, t, path=path, exact=exact):
            sigma = path.sigma(t)[:, None]
            return exact(x, t) + sigma**2 * jnp.cos(x)

        terms[name], _ = mean_bound(wrong, x0, path)
    linear, bent = terms["linear"], terms["bent"]
    np.testing.assert_array_equal(linear["prior"], bent["prior"])
    np.testing.assert_allclose(
        linear["diffusion"].mean(), bent["diffusion"].mean(), rtol=0.01
    )
    exact = -gaussian.log_prob(x0).mean()
    assert sum(term.mean() for term in linear.values()) > exact + 0.4


@pytest.mark.parametrize("level", [0, 2])
def test_a_pixel_whose_levels_are_equally_likely_costs_their_logarithm(level):
    path = paths.of_logsnr(SCHEDULES["linear"])

    def denoise(x, t):
        return jax.nn.softmax(level_logits(x, t, path=path, num_levels=5)) @ values

    values = levels_of(5)
    x0 = jnp.full((40_000, 2, 1, 1), values[level])
    terms, nats = mean_bound(denoise, x0, path, num_levels=5)
    np.testing.assert_allclose(nats, 2 * np.log(5), rtol=0.02)
    assert terms["decoder"].max() < 1e-6  # the levels are 330 sigma apart


def test_decoder_by_hand():
    """Levels -1 and 1 under alpha^2 = sigma^2 = 1/2: log odds 2 x alpha / sigma^2.

    So the mean of -log p is that of log(1 + exp(-2 - 2 eps)), by quadrature.
    """
    path = paths.of_logsnr(lambda t: 0.0 * t)
    x0 = jnp.ones((100_000, 1))
    terms, _ = mean_bound(lambda x, t: x, x0, path, num_levels=2)
    eps = np.linspace(-9, 9, 20_001)
    mean = np.trapezoid(np.log1p(np.exp(-2 - 2 * eps)) * norm.pdf(eps), eps)
    np.testing.assert_allclose(terms["decoder"].mean(), mean, rtol=0.02)
    # KL(N(1/sqrt(2), 1/2) || N(0, 1)), by hand: (1/2 + 1/2 - 1 + log 2) / 2
    np.testing.assert_allclose(terms["prior"], np.log(2) / 2, rtol=1e-5)


def test_level_logits_are_log_densities():
    path = paths.cosine()
    x, t = jnp.array([[0.3], [-0.2]]), jnp.array([0.3, 0.8])
    logits = level_logits(x, t, path=path, num_levels=3)
    for row in range(2):
        alpha, sigma = path.alpha(t[row]), path.sigma(t[row])
        exact = norm.logpdf(x[row, 0], alpha * np.array([-1, 0, 1]), sigma)
        got = logits[row, 0] - logits[row, 0, 0]
        np.testing.assert_allclose(got, exact - exact[0], rtol=1e-4, atol=1e-5)
        one = level_logits(x[row : row + 1], t[row], path=path, num_levels=3)
        np.testing.assert_allclose(one[0], logits[row], rtol=1e-5)


def test_antithetic_times_cover_the_interval():
    t = np.sort(antithetic_times(KEY, 8))
    np.testing.assert_allclose(np.diff(t), 1 / 8, rtol=1e-5)
    assert 0 <= t[0] < 1 / 8
