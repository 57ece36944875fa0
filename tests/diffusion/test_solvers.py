"""Solvers against the exact flow of a Gaussian and of a mixture of Gaussians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from genjax.data.toy import gaussian_mixture
from genjax.diffusion import multistep, ode, solvers, stochastic, times
from genjax.diffusion.denoiser import convert
from tests.diffusion import gaussian, mixture
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(5)
DETERMINISTIC = {
    "euler": ode.euler,
    "ddim": stochastic.ddim,
    "midpoint": ode.midpoint,
    "heun": ode.heun,
    "dpmpp_2m": functools.partial(multistep.dpmpp, order=2),
    "dpmpp_3m": functools.partial(multistep.dpmpp, order=3),
    "unipc_2": functools.partial(multistep.unipc, order=2),
    "unipc_3": functools.partial(multistep.unipc, order=3),
}
ORDERS = {"euler": 1, "ddim": 1, "midpoint": 2, "heun": 2, "dpmpp_2m": 2}


@pytest.mark.parametrize("name", ["vp", "rectified_flow"])
def test_the_mixtures_denoiser_is_exact(name):
    """Its score is the gradient of the diffused mixture's own log density."""
    path, t = PATHS[name], jnp.array(0.3)
    x = jax.random.normal(KEY, (20, 2))
    x0 = mixture.exact_denoiser(path)(x, t)
    score = convert(x0, x, t, path=path, source="x0", target="score")
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    width = np.sqrt(alpha**2 * mixture.SIGMA**2 + sigma**2)
    diffused = gaussian_mixture(alpha * mixture.CENTERS, width)
    np.testing.assert_allclose(score, diffused.score(x), rtol=1e-3, atol=1e-4)


@functools.cache
def fine_flow():
    """Points, where the mixture's flow takes them on the VP path, and log-SNRs."""
    path = PATHS["vp"]
    flow = ode.velocity(mixture.exact_denoiser(path), path)
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 2)))
        run = jax.jit(lambda x: ode.integrate(flow, x, 1.0, 0.02, tolerance=1e-11)[0])
        return x, run(x), path.logsnr(jnp.array([1.0, 0.02]))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_on_a_mixture(name):
    """Half the steps, 2^order times the error; in float64 and even in log-SNR."""
    path, solver = PATHS["vp"], DETERMINISTIC[name]
    x, exact, (first, last) = fine_flow()
    denoise, errors = mixture.exact_denoiser(path), []
    with jax.enable_x64(True):
        for num_steps in (80, 160):
            some = path.time(jnp.linspace(first, last, num_steps + 1))
            y = jax.jit(lambda x, t: solver(denoise, x, t, path=path))(x, some)
            errors.append(float(jnp.abs(y - exact).mean()))
    order = np.log2(errors[0] / errors[1])
    if name in ORDERS:
        np.testing.assert_allclose(order, ORDERS[name], atol=0.05 * (1 + ORDERS[name]))
    else:
        assert order > 2.5  # 3.1-3.3 when measured; UniPC-2's corrector has order 3


@pytest.mark.parametrize("name", ["rectified_flow", "ve"])
def test_every_solver_tends_to_the_exact_flow_of_a_gaussian(name):
    """Which keeps (x - mean_t) / std_t. Also where all is noise at t = 1."""
    path, denoise = PATHS[name], gaussian.exact_denoiser(PATHS[name])
    z = jax.random.normal(KEY, (200, 2))
    mean, std = gaussian.marginal(path, jnp.ones((1, 1)))
    exact = gaussian.MEAN + gaussian.STD * z
    some = times.spaced("karras", 150, path=path, end=1e-5 if name == "ve" else 1e-3)
    x = mean + std * z

    @jax.jit
    def run(x):
        ends = {key: f(denoise, x, some, path=path) for key, f in DETERMINISTIC.items()}
        end = 1e-3 if name != "ve" else 1e-4
        ends["adaptive"] = ode.adaptive(denoise, x, path=path, end=end)[0]
        return ends

    errors = {key: float(jnp.abs(y - exact).max()) for key, y in run(x).items()}
    assert max(errors["euler"], errors["ddim"]) < 0.5, errors
    assert max(v for k, v in errors.items() if k not in ("euler", "ddim")) < 0.02, (
        errors
    )


STOCHASTIC = {
    "ancestral": {},
    "ddim": {"eta": 1.0},
    "heun": {"churn": 40.0},
    "sde_dpmpp_2m": {},
    "predictor_corrector": {"snr": 0.1},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path_name", "name"),
    [*(("vp", name) for name in STOCHASTIC), ("edm", "heun"), ("edm", "sde_dpmpp_2m")],
)
def test_stochastic_samplers_draw_from_the_mixture(path_name, name):
    path = PATHS[path_name]
    end = 1e-3 if path_name == "vp" else 0.002 / 80
    some = times.spaced("logsnr", 200, path=path, end=end)
    noise_key, key = jax.random.split(KEY)
    x = path.sigma(jnp.ones(())) * jax.random.normal(noise_key, (5_000, 2))
    denoise = mixture.exact_denoiser(path)
    x = jax.jit(
        lambda x: (
            solvers.solve(
                name, denoise, x, some, path=path, key=key, **STOCHASTIC[name]
            ).x
        )
    )(x)
    # 5,000 draws: standard errors are 0.013 for the mean, 0.007 for a share
    np.testing.assert_allclose(x.mean(0), mixture.MEAN, atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), mixture.COVARIANCE, atol=0.05)
    np.testing.assert_allclose(mixture.shares(x), mixture.WEIGHTS, atol=0.025)


def test_churn_noises_as_far_as_it_says():
    """A denoiser that keeps the mean: one step of Heun only shrinks the noise added.

    EDM's path, sigma 40 -> sigma_hat = 40 sqrt(2): variance 40^2 is added.
    """
    path = PATHS["edm"]
    now = jnp.array([0.5, 0.499])
    run = functools.partial(ode.heun, lambda x, t: x, path=path, key=KEY)
    x = run(jnp.zeros((20_000, 1)), now, churn=1.0)
    np.testing.assert_allclose(x.std(), 40.0, rtol=0.02)
    outside = run(jnp.ones((4, 1)), now, churn=1.0, churn_range=(0.0, 30.0))
    np.testing.assert_allclose(outside, 1.0, rtol=1e-6)
    louder = run(jnp.zeros((20_000, 1)), now, churn=1.0, churn_noise=1.5)
    np.testing.assert_allclose(louder.std(), 60.0, rtol=0.02)
    never_beyond_1 = run(jnp.ones((4, 1)), jnp.array([1.0, 0.9]), churn=1.0)
    np.testing.assert_allclose(never_beyond_1, 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", solvers.NAMES)
def test_evaluations_are_those_that_happen(name):
    count = 0

    def tick():
        nonlocal count
        count += 1

    exact = gaussian.exact_denoiser(PATHS["vp"])

    def denoise(x, t):
        jax.debug.callback(tick)
        return exact(x, t)

    x, some = jnp.ones((2, 2)), times.spaced("uniform", 5, path=PATHS["vp"])
    options = {"corrector_steps": 2} if name == "predictor_corrector" else {}
    options |= {"path": PATHS["vp"], "key": KEY}
    run = jax.jit(lambda x: solvers.solve(name, denoise, x, some, **options))
    _, evaluations = jax.block_until_ready(run(x))
    jax.effects_barrier()
    assert count == int(evaluations) >= 5


def test_adaptive_steps_meet_their_tolerance():
    path, denoise = PATHS["vp"], mixture.exact_denoiser(PATHS["vp"])
    x = jax.random.normal(KEY, (64, 2))
    run = jax.jit(
        lambda x, tol: ode.adaptive(denoise, x, path=path, tolerance=tol),
        static_argnums=1,
    )
    coarse, few = run(x, 1e-2)
    middle, more = run(x, 1e-4)
    fine, many = run(x, 1e-6)
    assert few < more < many
    assert jnp.abs(middle - fine).mean() < 1e-3 < jnp.abs(coarse - fine).mean() < 0.1


@pytest.mark.parametrize("name", ["vp", "rectified_flow", "edm"])
def test_inversion_then_generation_returns_to_the_start(name):
    path, denoise = PATHS[name], mixture.exact_denoiser(PATHS[name])
    some = times.spaced("logsnr", 200, path=path, end=1e-5 if name == "edm" else 1e-3)
    x = mixture.DENSITY.sample(KEY, 100)

    @jax.jit
    def there_and_back(x):
        noise = ode.invert(denoise, x, some, path=path)
        return noise, ode.heun(denoise, noise, some, path=path)

    noise, back = there_and_back(x)
    np.testing.assert_allclose(back, x, atol=0.01)
    level = path.sigma(jnp.ones(()))
    np.testing.assert_allclose(noise.std(0) / level, 1.0, atol=0.3)


def test_mistakes_are_named():
    path, x, now = PATHS["vp"], jnp.ones((2, 2)), jnp.array([1.0, 0.5])
    with pytest.raises(ValueError, match="churn=2.0 draws noise: give a key"):
        ode.heun(lambda x, t: x, x, now, path=path, churn=2.0)
    with pytest.raises((KeyError, TypeCheckError), match="rk4"):
        solvers.solve("rk4", lambda x, t: x, x, now, path=path, key=KEY)
    with pytest.raises(TypeError, match="eta"):
        solvers.solve("euler", lambda x, t: x, x, now, path=path, key=KEY, eta=1.0)
