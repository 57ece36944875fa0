from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from genjax.diffusion.denoiser import (
    Quantity,
    as_denoiser,
    clipped,
    convert,
    quantity,
)
from tests.diffusion import gaussian
from tests.diffusion.test_paths import PATHS

QUANTITIES = get_args(Quantity)
X0, EPS = jax.random.normal(jax.random.key(0), (2, 5, 3, 2))
T = jnp.array([0.1, 0.3, 0.5, 0.7, 0.9])


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_round_trips_through_every_quantity(path):
    """x0 -> eps -> v -> velocity -> score -> x0, and every pair both ways."""
    xt = path.diffuse(X0, EPS, T)
    chain = ["x0", "eps", "v", "velocity", "score", "x0"]
    value = X0
    for source, target in zip(chain, chain[1:], strict=False):
        value = convert(value, xt, T, path=path, source=source, target=target)
    np.testing.assert_allclose(value, X0, rtol=1e-3, atol=1e-3)
    for source in QUANTITIES:
        given = quantity(X0, EPS, T, path=path, name=source)
        for target in QUANTITIES:
            there = convert(given, xt, T, path=path, source=source, target=target)
            back = convert(there, xt, T, path=path, source=target, target=source)
            np.testing.assert_allclose(back, given, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_score_of_a_gaussian(path):
    """From the posterior mean to the gradient of the log density of x_t."""
    x = jax.random.normal(jax.random.key(1), (5, 2))

    def log_density(x):
        mean, std = gaussian.marginal(path, T[:, None])
        return jnp.sum(-0.5 * ((x - mean) / std) ** 2)

    x0 = gaussian.exact_denoiser(path)(x, T)
    score = convert(x0, x, T, path=path, source="x0", target="score")
    np.testing.assert_allclose(score, jax.grad(log_density)(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_velocity_moves_quantiles_of_a_gaussian(path):
    """The flow keeps z = (x - mean_t) / std_t: its velocity is d(mean + std z)/dt."""
    z = jax.random.normal(jax.random.key(1), (5, 2))

    def position(t):
        mean, std = gaussian.marginal(path, t[:, None])
        return mean + std * z

    x, motion = jax.jvp(position, (T,), (jnp.ones_like(T),))
    x0 = gaussian.exact_denoiser(path)(x, T)
    velocity = convert(x0, x, T, path=path, source="x0", target="velocity")
    np.testing.assert_allclose(velocity, motion, rtol=1e-3, atol=1e-3)


def test_velocity_is_the_motion_of_a_pair():
    for path in PATHS.values():
        moving = jax.jvp(
            lambda t, path=path: path.diffuse(X0, EPS, t), (T,), (jnp.ones_like(T),)
        )[1]
        velocity = quantity(X0, EPS, T, path=path, name="velocity")
        np.testing.assert_allclose(velocity, moving, rtol=1e-5, atol=1e-5)


def test_known_values():
    """By hand: 30 degrees of the cosine path; rectified flow moves by eps - x0."""
    one, half = jnp.ones((1, 1)), jnp.full((1, 1), 0.5)
    t = jnp.array([1 / 3])
    v = quantity(half, one, t, path=PATHS["cosine"], name="v")
    np.testing.assert_allclose(v, [[0.8660254 - 0.25]], rtol=1e-6)
    velocity = quantity(half, one, t, path=PATHS["rectified_flow"], name="velocity")
    np.testing.assert_allclose(velocity, [[0.5]], rtol=1e-6)


@pytest.mark.parametrize("prediction", QUANTITIES)
def test_denoiser_of_a_network(prediction):
    path = PATHS["vp"]
    exact = gaussian.exact_denoiser(path)

    def net(x, t):
        assert t.shape == x.shape[:1]
        return convert(exact(x, t), x, t, path=path, source="x0", target=prediction)

    denoise = as_denoiser(net, path, prediction)
    x = jax.random.normal(jax.random.key(1), (5, 2))
    np.testing.assert_allclose(denoise(x, T), exact(x, T), rtol=1e-3, atol=1e-3)
    one = jnp.array(0.3)
    np.testing.assert_allclose(denoise(x, one), exact(x, one), rtol=1e-3, atol=1e-3)


def test_clipped():
    denoise = clipped(lambda x, t: x * t)
    np.testing.assert_array_equal(
        denoise(jnp.array([[-3.0, 0.2, 3.0]]), jnp.array(0.5)),
        jnp.array([[-1.0, 0.1, 1.0]]),
    )


def test_unknown_quantity_is_named():
    # a TypeCheckError where the shape checks of the tests see it first
    with pytest.raises((ValueError, TypeCheckError), match="'noise'"):
        convert(X0, X0, T, path=PATHS["vp"], source="noise", target="x0")
