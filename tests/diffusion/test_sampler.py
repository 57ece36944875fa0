"""config.sampler: what it refuses, its times, and that it is what `solve` runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import fields
from genjax.diffusion import Guidance, Sampler, paths, solvers, times
from genjax.diffusion.solvers import SOLVERS
from genjax.typing import UserError
from tests.diffusion import gaussian
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(5)
OPTIONS = sorted({option for s in SOLVERS.values() for option in s.options})
OTHER = {"variance": "fixed_small", "corrector_steps": 2}  # than the default; else 0.7


# --- options --------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_the_solver_ignores_is_refused(option):
    """But for the variance, which the likelihood "vlb" reads too."""
    value = OTHER.get(option, 0.7)
    for name, solver in SOLVERS.items():
        given = {"name": name, option: value}
        if option in solver.options or option == "variance":
            assert getattr(Sampler(**given), option) == value
            continue
        with pytest.raises(UserError, match=f"{name!r} would not use it"):
            Sampler(**given)


def test_the_sentence_that_refuses_an_option():
    with pytest.raises(UserError) as caught:
        Sampler(name="euler", churn=4.0)
    assert str(caught.value) == (
        "config.sampler.churn=4.0 is an option of heun, and 'euler' would not use it: "
        "choose another sampler.name, or leave it at 0.0"
    )


def test_every_option_of_a_solver_is_a_field():
    assert set(OPTIONS) <= set(fields.fields_of(Sampler))


def test_turned_to_another_solver():
    """What it shares stays, what it ignores goes back to the default."""
    first = Sampler(name="heun", churn=3.0, spacing="karras", variance="fixed_small")
    first = dataclasses.replace(first, guidance=Guidance(scale=2.0))
    second = first.turned_to("ddim", 7)
    assert (second.name, second.num_steps, second.churn) == ("ddim", 7, 0.0)
    assert second.spacing == "karras" and second.guidance.scale == 2.0
    assert second.variance == "fixed_small"
    assert first.turned_to("heun", 7).churn == 3.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "ancestrall"}, "sampler.name='ancestrall'.*did you mean 'ancestral'"),
        ({"name": "rk4"}, "config.sampler.name='rk4'.*known: ancestral, ddim"),
        ({"spacing": "quadratical"}, "did you mean 'quadratic'"),
        ({"variance": "fixedlarge"}, "did you mean 'fixed_large'"),
        ({"num_steps": 0}, "config.sampler.num_steps must be at least 1, not 0"),
        ({"shift": -1.0}, "config.sampler.shift must be more than 0, not -1.0"),
        ({"eta": 1.5}, "config.sampler.eta must be in 0 ... 1, not 1.5"),
        ({"corrector_steps": 0}, "corrector_steps must be at least 1, not 0"),
        ({"tolerance": 0.0}, "config.sampler.tolerance must be more than 0"),
        ({"tolerance": 1e-9}, "1e-09 is finer than float32: give at least 1e-7"),
        ({"guidance": {"rescale": 1.5}}, "guidance.rescale must be in 0 ... 1"),
        ({"guidance": {"min_t": 0.9, "max_t": 0.2}}, "min_t <= max_t, not 0.9 and"),
        ({"guidance": {"scal": 1.0}}, "unknown .* sampler.guidance.scal; did you mean"),
    ],
    ids=str,
)
def test_choices_that_do_not_exist(values, message):
    with pytest.raises(UserError, match=message):
        fields.read(Sampler, values, "sampler.")


# --- times ----------------------------------------------------------------------------


def test_linear_times_reach_the_data_in_equal_strides():
    got = Sampler(num_steps=4, spacing="linear").times(PATHS["vp"], end=1e-3)
    np.testing.assert_allclose(got, [1.0, 0.75, 0.5, 0.25, 0.0])


def test_a_shift_multiplies_the_odds():
    """By hand: 3, 1 and 1/3 become 9, 3 and 1."""
    sampler = Sampler(num_steps=4, spacing="linear", shift=3.0)
    got = sampler.times(PATHS["rectified_flow"], end=1e-3)
    np.testing.assert_allclose(got, [1.0, 0.9, 0.75, 0.5, 0.0], rtol=1e-6)


def test_rho_bends_karras_grid():
    """The grid of EDM by hand: rho 1 even strides of sigma, rho 2 squares of even ones.

    sigma falls from 10 to 2, from 9 to 1, and from 80 to 0.002 with EDM's own rho.
    """

    def grid(num_steps, low, high, rho):
        sampler = Sampler(num_steps=num_steps, spacing="karras", rho=rho)
        return sampler.times(paths.edm(high), end=low / high)

    np.testing.assert_allclose(grid(3, 2.0, 10.0, 1.0), [1.0, 0.6, 0.2, 0.0], rtol=1e-5)
    np.testing.assert_allclose(grid(3, 1.0, 9.0, 2.0), [1, 4 / 9, 1 / 9, 0], rtol=1e-5)
    sigmas = 80.0 * grid(18, 0.002, 80.0, 7.0)
    np.testing.assert_allclose(sigmas[[0, 17, 18]], [80.0, 0.002, 0.0], rtol=1e-4)
    assert (np.diff(sigmas) < 0).all() and len(sigmas) == 19


def test_times_of_discrete_networks():
    path = paths.ddpm_linear(20, 0.005, 0.5)
    got = Sampler(num_steps=5).times(path, end=0.05, num_timesteps=20)
    np.testing.assert_array_equal(got, times.uniform(5, num_timesteps=20))
    with pytest.raises(UserError, match=r"num_steps must be in 1 ... 20 .*, not 21"):
        Sampler(num_steps=21).times(path, end=0.05, num_timesteps=20)
    with pytest.raises(UserError, match="shift=2.0 would leave the timesteps"):
        Sampler(num_steps=5, shift=2.0).times(path, end=0.05, num_timesteps=20)


# --- running --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"name": "ddim", "eta": 0.5},
        {"name": "heun", "churn": 3.0, "churn_noise": 1.1},
        {"name": "ancestral", "variance": "fixed_small"},
        {"name": "predictor_corrector", "snr": 0.1, "corrector_steps": 2},
    ],
    ids=str,
)
def test_a_run_is_the_solvers_with_these_options(options):
    path, denoise = PATHS["vp"], gaussian.exact_denoiser(PATHS["vp"])
    sampler, x = Sampler(num_steps=3, **options), jax.random.normal(KEY, (4, 2))
    falling = sampler.times(path, end=0.01)

    @jax.jit
    def both(x):
        common = {"path": path, "key": KEY}
        mine = sampler.run(denoise, x, falling, end=0.01, **common)
        given = {k: v for k, v in options.items() if k != "name"}
        plain = solvers.solve(sampler.name, denoise, x, falling, **common, **given)
        other = solvers.solve(sampler.name, denoise, x, falling, **common)
        return mine.x, plain.x, other.x

    mine, plain, other = both(x)
    np.testing.assert_array_equal(mine, plain)
    assert jnp.abs(mine - other).max() > 1e-3


def test_rho_is_refused_where_no_spacing_uses_it():
    with pytest.raises(UserError, match="rho=5.0 is of spacing='karras'.*at 7.0"):
        Sampler(rho=5.0)
    assert Sampler(rho=5.0, spacing="karras").rho == 5.0
