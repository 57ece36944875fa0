import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import paths, vlb
from tests.diffusion import gaussian

KEY = jax.random.key(5)


def even_path(num_timesteps):
    """log SNR falls in equal steps from 9 to -9."""
    logsnr = np.linspace(9.0, -9.0, num_timesteps)
    return paths.discrete(1 / (1 + np.exp(-logsnr)))


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_bound_rises_to_the_exact_likelihood_of_a_gaussian(variance):
    eps = jax.random.normal(jax.random.key(0), (8000, 2))
    x0 = gaussian.MEAN + gaussian.STD * eps
    gaps = []
    for num_timesteps in (10, 40, 160):
        path = even_path(num_timesteps)
        bound = vlb.variational_bound(
            gaussian.exact_denoiser(path),
            x0,
            path=path,
            num_timesteps=num_timesteps,
            num_levels=0,
            variance=variance,
            key=KEY,
        )
        gaps.append(float(jnp.mean(bound.nats + gaussian.log_prob(x0))))
    # measured: 14.7, 1.9, 0.40 (small) and 0.34, 0.07, 0.01 (large); the standard error
    # of the last is 0.015
    assert gaps[0] > 2 * gaps[1] > 2 * gaps[2] > -0.06
    assert gaps[2] < 0.5


def levels_and_denoiser(path, probability):
    """One pixel with so many levels, and its exact posterior mean."""
    levels = jnp.linspace(-1.0, 1.0, len(probability))

    def denoise(x, t):
        t = jnp.reshape(t, (-1, 1))
        square = jnp.square((x - path.alpha(t) * levels[None]) / path.sigma(t))
        weights = jax.nn.softmax(jnp.log(probability)[None] - 0.5 * square, axis=-1)
        return jnp.sum(weights * levels[None], axis=-1, keepdims=True)

    return levels, denoise


PROBABILITY = jnp.array([0.5, 0.2, 0.1, 0.15, 0.05])


def pixel_bound(pixels, draws=None, variance="fixed_small", key=KEY):
    path = paths.ddpm_linear(300, 1e-3, 0.05)
    levels, denoise = levels_and_denoiser(path, PROBABILITY)
    return vlb.variational_bound(
        denoise,
        levels[pixels][:, None],
        path=path,
        num_timesteps=300,
        num_levels=5,
        variance=variance,
        key=key,
        draws=draws,
    )


@pytest.mark.parametrize(
    ("variance", "gap"), [("fixed_small", 0.15), ("fixed_large", 0.4)]
)
def test_bound_of_a_pixel_is_near_its_probability(variance, gap):
    """Over the data it lies above the entropy, 1.3331 nats by hand, and near it.

    Five points are closer to one point, for which the small variance is right.
    """
    pixels = jax.random.categorical(KEY, jnp.log(PROBABILITY), shape=(10_000,))
    bound = pixel_bound(pixels, variance=variance)
    assert 1.29 < bound.nats.mean() < 1.333 + gap
    assert bound.prior.mean() < 0.01
    assert all((term >= -1e-5).all() for term in bound)
    # far beyond a pixel's bin the decoder is sure
    assert bound.decoder.mean() < 1e-3


def test_estimate_has_the_mean_of_the_sum():
    """8,000 estimates of the same three pixels; within 4 standard errors."""
    pixels = jnp.repeat(jnp.array([0, 2, 4]), 8_000)
    whole = pixel_bound(pixels).nats.reshape(3, -1)
    some = pixel_bound(pixels, draws=4, key=jax.random.key(1)).nats.reshape(3, -1)
    error = jnp.sqrt((whole.var(1) + some.var(1)) / 8_000)
    assert (jnp.abs(whole.mean(1) - some.mean(1)) < 4 * error).all()
    assert (error < 0.15).all()


def test_drawn_timesteps_weigh_what_they_should():
    """The estimate of a sum of any f over i = 2 ... 50; each stratum is visited."""
    path = paths.ddpm_linear(50, 1e-3, 0.3)
    i, weight = vlb.draw_timesteps(path, KEY, num_timesteps=50, shape=(4, 20_000))
    assert int(i.min()) == 2 and int(i.max()) == 50
    assert (weight <= 2 * 49).all()
    assert (jnp.diff(i, axis=0) >= 0).all()
    for f in (jnp.ones(51), jnp.arange(51.0), 1.0 / (1.0 + jnp.arange(51.0)) ** 2):
        estimate = jnp.mean(weight * f[i])
        np.testing.assert_allclose(estimate, f[2:].sum(), rtol=0.02)


def test_data_of_one_point_need_no_network():
    """x0 = 0 and denoise = 0: (2) vanishes with "fixed_small" and (1) is the KL."""
    path = paths.ddpm_linear(10, 0.01, 0.3)
    bound = vlb.variational_bound(
        lambda x, t: jnp.zeros_like(x),
        jnp.zeros((2, 3)),
        path=path,
        num_timesteps=10,
        num_levels=0,
        variance="fixed_small",
        key=KEY,
    )
    np.testing.assert_allclose(bound.diffusion, jnp.zeros(2), atol=1e-4)
    variance = 1 - np.prod(1 - np.linspace(0.01, 0.3, 10))
    kl = 3 * 0.5 * (variance - 1 - np.log(variance))
    np.testing.assert_allclose(bound.prior, jnp.full(2, kl), rtol=1e-3)
    # N(0; 0, beta_1) in three dimensions
    nats = 1.5 * np.log(2 * np.pi * 0.01)
    np.testing.assert_allclose(bound.decoder, jnp.full(2, nats), rtol=1e-4)


@pytest.mark.parametrize(
    ("num_timesteps", "draws", "message"),
    [(1, None, "2 timesteps or more, not 1"), (5, 0, "1 draw or more, not 0")],
)
def test_too_few(num_timesteps, draws, message):
    with pytest.raises(ValueError, match=message):
        vlb.variational_bound(
            lambda x, t: x,
            jnp.zeros((2, 3)),
            path=paths.vp(),
            num_timesteps=num_timesteps,
            num_levels=0,
            variance="fixed_small",
            key=KEY,
            draws=draws,
        )
