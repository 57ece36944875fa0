import functools

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
    gaps = []
    for num_timesteps in (10, 40, 160):
        bound, x0 = gaussian_bound(
            gaussian.exact_denoiser, variance, num_timesteps=num_timesteps
        )
        gaps.append(float(jnp.mean(bound.nats + gaussian.log_prob(x0))))
    # measured: 14.7, 1.9, 0.40 (small) and 0.34, 0.07, 0.01 (large); the standard error
    # of the last is 0.015
    assert gaps[0] > 2 * gaps[1] > 2 * gaps[2] > -0.06
    assert gaps[2] < 0.5


def with_v(denoise, v):
    return lambda x, t: (denoise(x, t), jnp.full_like(x, v))


def gaussian_bound(denoise, variance, num_timesteps=10, num=8000, levels=0):
    path = even_path(num_timesteps)
    x0 = gaussian.MEAN + gaussian.STD * jax.random.normal(jax.random.key(0), (num, 2))
    bound = jax.jit(
        lambda x0: vlb.variational_bound(
            denoise(path),
            jnp.round(jnp.clip(x0, -1, 1) * 100) / 100 if levels else x0,
            path=path,
            num_timesteps=num_timesteps,
            num_levels=levels,
            variance=variance,
            key=KEY,
        )
    )(x0)
    return bound, x0


def exact_spread(path, num_timesteps=10):
    falling = jnp.arange(num_timesteps, -1, -1) / num_timesteps
    return gaussian.exact_spread(path, falling)


def test_with_the_right_variances_the_bound_is_the_likelihood():
    """Every p(x_s | x_t) is then the true one, so ten steps leave no gap.

    But for the prior at a log-SNR of -9, and chance: within 4 standard errors of the
    difference, which is under 0.03. Either fixed choice is above by 0.3 or more.
    """
    bound, x0 = gaussian_bound(exact_spread, "learned")
    gap = bound.nats + gaussian.log_prob(x0)
    assert jnp.abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap)) < 0.1
    for fixed in ("fixed_small", "fixed_large"):
        other, _ = gaussian_bound(gaussian.exact_denoiser, fixed)
        assert bound.nats.mean() + 0.3 < other.nats.mean()


@pytest.mark.parametrize("levels", [0, 201])
@pytest.mark.parametrize(("v", "fixed"), [(0.0, "fixed_small"), (1.0, "fixed_large")])
def test_the_ends_of_learned_variances_are_the_fixed_ones(v, fixed, levels):
    """The decoder has but one fixed variance: small for pixels, large for points."""
    learned, _ = gaussian_bound(
        lambda path: with_v(gaussian.exact_denoiser(path), v),
        "learned",
        num=50,
        levels=levels,
    )
    bound, _ = gaussian_bound(gaussian.exact_denoiser, fixed, num=50, levels=levels)
    np.testing.assert_allclose(learned.prior, bound.prior)
    np.testing.assert_allclose(learned.diffusion, bound.diffusion, rtol=1e-4)
    same_decoder = (v == 0.0) == (levels > 0)
    close = np.allclose(learned.decoder, bound.decoder, rtol=1e-4, atol=1e-6)
    assert close == same_decoder


def one_term(i, x0, x0_hat, v, levels=0, path=None, num_timesteps=10):
    return vlb.learned_variance_loss(
        x0,
        x0_hat,
        v,
        i,
        path=even_path(num_timesteps) if path is None else path,
        num_timesteps=num_timesteps,
        num_levels=levels,
    )


def test_one_random_term_has_the_mean_of_the_bound():
    """In bits per dimension and without the prior; within 4 standard errors."""

    @jax.jit
    def values(key):  # of all ten i, 8,000 times: (8000, 10)
        path, i = even_path(10), jnp.tile(jnp.arange(1, 11), 8000)
        normal = jax.random.normal(key, (2, len(i), 2))
        x0 = gaussian.MEAN + gaussian.STD * normal[0]
        xt = path.diffuse(x0, normal[1], i / 10)
        x0_hat = gaussian.exact_denoiser(path)(xt, i / 10)
        return one_term(i, x0, x0_hat, jnp.full_like(x0, 0.6)).reshape(-1, 10)

    mean = values(jax.random.key(1)).mean(axis=1)
    bound, _ = gaussian_bound(
        lambda path: with_v(gaussian.exact_denoiser(path), 0.6), "learned"
    )
    bits = (bound.diffusion + bound.decoder) / 2 / np.log(2)
    error = np.sqrt((mean.var() + bits.var()) / 8000)
    assert error < 0.06
    assert jnp.abs(mean.mean() - bits.mean()) < 4 * error


@pytest.mark.parametrize("levels", [0, 5])
def test_its_gradient_goes_to_the_variance_alone(levels):
    """And is finite, however far off x0_hat is at the noisy end of the cosine path."""
    path, i = paths.ddpm_cosine(10), jnp.array([1, 2, 10])
    x0, far = jnp.full((3, 2), 0.5), jnp.array([[0.4], [0.0], [1e5]]) * jnp.ones((3, 2))

    def total(x0_hat, v):
        return one_term(i, x0, x0_hat, v, levels, path).sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    to_mean, to_v = gradient(far, jnp.full((3, 2), 0.5))
    np.testing.assert_array_equal(to_mean, 0.0)
    assert np.isfinite(to_v).all() and (to_v != 0.0).all()


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


@functools.partial(jax.jit, static_argnames=("draws", "variance"))
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
    draw = functools.partial(vlb.draw_timesteps, path, num_timesteps=50)
    i, weight = jax.jit(lambda key: draw(key, shape=(4, 20_000)))(KEY)
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
