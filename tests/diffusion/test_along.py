"""The states that a sampler passes, and the sample they end in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import ode, solvers, times
from tests.diffusion import gaussian
from tests.diffusion.test_paths import PATHS

PATH = PATHS["vp"]
DENOISE = gaussian.exact_denoiser(PATH)
KEY = jax.random.key(2)
X = jax.random.normal(jax.random.key(1), (7, 2))
TIMES = times.spaced("uniform", 6, path=PATH, end=0.05)
CHANCE = {"ancestral", "sde_dpmpp_2m", "predictor_corrector"}


def run(name, some, **options):
    return jax.jit(
        lambda x: solvers.solve(name, DENOISE, x, some, path=PATH, key=KEY, **options).x
    )(X)


@pytest.mark.parametrize("name", [*solvers.NAMES, "churn"])
def test_states_begin_with_x_and_end_with_the_sample(name):
    options = {"churn": 3.0} if name == "churn" else {}
    name = "heun" if name == "churn" else name
    states = run(name, TIMES, along=True, **options)
    assert states.shape == (len(TIMES), *X.shape)
    np.testing.assert_array_equal(states[0], X)
    same = "ddim" if name == "adaptive" else name  # adaptive does not stop there
    np.testing.assert_array_equal(states[-1], run(same, TIMES, **options))


@pytest.mark.parametrize("name", sorted(set(solvers.NAMES) - CHANCE - {"adaptive"}))
def test_states_are_those_of_the_first_times_alone(name):
    """The law of prefixes: where a solver stands does not depend on where it goes."""
    states = run(name, TIMES, along=True)
    for i in (1, 3):
        np.testing.assert_allclose(
            states[i], run(name, TIMES[: i + 1]), rtol=1e-5, atol=1e-6
        )


def test_states_of_an_ancestral_chain_have_the_paths_marginals():
    x = jax.random.normal(KEY, (5_000, 2))
    some = times.spaced("logsnr", 160, path=PATH)
    states = jax.jit(
        lambda x: (
            solvers.solve(
                "ancestral", DENOISE, x, some, path=PATH, key=KEY, along=True
            ).x
        )
    )(x)
    for i in (40, 80, 120):
        mean, std = gaussian.marginal(PATH, jnp.array(some[i]))
        np.testing.assert_allclose(states[i].mean(0), mean[0], atol=0.06)
        np.testing.assert_allclose(states[i].std(0), std[0], rtol=0.08)


def test_inversion_rises_from_the_data():
    up = ode.invert(DENOISE, X, TIMES, path=PATH, along=True)
    assert up.shape == (len(TIMES), *X.shape)
    np.testing.assert_array_equal(up[0], X)
    np.testing.assert_array_equal(up[1], X)  # t = 0 is left out
    last = ode.invert(DENOISE, X, TIMES, path=PATH)
    np.testing.assert_array_equal(up[-1], last)


def test_adaptive_says_how_often_it_evaluated():
    """An array, known when it has run; along, where ddim is taken, its own number."""
    options = {"path": PATH, "key": KEY, "tolerance": 1e-3}
    draw = jax.jit(lambda x: solvers.solve("adaptive", DENOISE, x, TIMES, **options))
    _, used = ode.adaptive(DENOISE, X, path=PATH, tolerance=1e-3)
    assert int(draw(X).evaluations) == int(used) > 20
    along = solvers.solve("adaptive", DENOISE, X, TIMES, **options, along=True)
    assert along.evaluations == len(TIMES) - 1
