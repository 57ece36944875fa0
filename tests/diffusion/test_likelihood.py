import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genjax import fields
from genjax.diffusion import LearnedBound, Likelihood, Sampler, as_denoiser, paths
from genjax.diffusion.continuous import level_logits, levels_of, logsnr_bound
from genjax.diffusion.likelihood import dequantize
from genjax.scale import Scale
from genjax.typing import UserError
from tests.diffusion import gaussian
from tests.diffusion.test_model import STATE, model_of
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(5)
NAMES = ["vp", "subvp", "ve", "edm", "rectified_flow"]
POINTS, PIXELS = Scale(0), Scale(17)


# --- the bound ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_bound_of_a_gaussian_is_its_entropy(name):
    """To 1e-3 bits a dimension, without chance in (4).

    A denoiser off by the root of the posterior variance v / (1 + v snr), the least mean
    square error for x0 ~ N(0, v), costs what the exact one costs on average.
    """
    path, variance, cut = PATHS[name], 0.49, 13.0

    def denoise(x, t):
        snr = jnp.exp(path.logsnr(t))[:, None]
        return jnp.sqrt(variance / (1.0 + variance * snr)) * jnp.ones_like(x)

    terms = jax.jit(
        lambda x0: logsnr_bound(
            denoise, x0, path=path, num_levels=0, key=KEY, draws=200, logsnr=cut
        )
    )(jnp.zeros((500, 2)))
    decoder = norm.entropy(0.0, np.exp(-0.5 * cut))
    got = terms.diffusion.mean() / 2 + decoder
    want = norm.entropy(0.0, np.sqrt(variance))
    assert abs(got - want) / np.log(2) < 1e-3
    np.testing.assert_allclose(terms.decoder.mean() / 2, decoder, atol=0.1)
    np.testing.assert_array_equal(terms.prior, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_bound_meets_the_log_density_of_gaussians(name):
    """Nothing is lost with the exact denoiser, on average over the data."""
    path, how = PATHS[name], Likelihood(method="bound", draws=16, logsnr=10.0)
    x0 = gaussian.MEAN + gaussian.STD * jax.random.normal(KEY, (100_000, 2))
    value = jax.jit(
        lambda x0: how.log_prob(
            gaussian.exact_denoiser(path), x0, path=path, scale=POINTS, key=KEY
        )
    )(x0)
    away = np.asarray(value - gaussian.log_prob(x0)) / (2 * np.log(2))
    error = away.std() / np.sqrt(len(away))
    assert error < 0.01
    assert abs(away.mean()) < 4 * error + 1e-3


@pytest.mark.parametrize("cut", [3.0, 8.0])
@pytest.mark.parametrize("name", ["subvp", "rectified_flow"])
def test_bound_of_pixels_does_not_depend_on_where_it_starts(name, cut):
    """Levels that are equally likely: log 5 for each pixel, wherever the decoder is."""
    path = PATHS[name]

    def denoise(x, t):
        return jax.nn.softmax(level_logits(x, t, path=path, num_levels=5)) @ values

    values = levels_of(5)
    x0 = values[jax.random.randint(KEY, (5_000, 2, 1, 1), 0, 5)]
    terms = logsnr_bound(
        denoise, x0, path=path, num_levels=5, key=KEY, draws=8, logsnr=cut
    )
    np.testing.assert_allclose(terms.nats.mean(), 2 * np.log(5), rtol=0.02)
    assert (terms.decoder.mean() > 0.1) == (cut == 3.0)


# --- the ODE --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["subvp", "ve"])
def test_ode_meets_the_log_density_of_gaussians(name):
    """To 1e-3 bits a dimension; the other paths are in test_ode_likelihood."""
    path = PATHS[name]
    how = Likelihood(method="ode", trace="exact", tolerance=1e-5)
    x0 = gaussian.MEAN + gaussian.STD * jax.random.normal(KEY, (400, 2))
    value = jax.jit(
        lambda x0: how.log_prob(
            gaussian.exact_denoiser(path), x0, path=path, scale=POINTS, key=KEY
        )
    )(x0)
    away = (value - gaussian.log_prob(x0)) / (2 * np.log(2))
    assert abs(away.mean()) < 1e-3


def test_pixels_are_spread_over_their_level():
    """17 levels in [-1, 1]: a level is 1/8 wide, and all levels tile the line."""
    x0 = jnp.full((40_000, 1), 0.25)
    spread = dequantize(x0, PIXELS, KEY)
    assert PIXELS.level_width == 0.125
    assert 0.1875 <= spread.min() and spread.max() <= 0.3125
    np.testing.assert_allclose(spread.std(), 0.125 / np.sqrt(12), rtol=0.02)


# --- of a model -----------------------------------------------------------------------


def still(scale, velocity=0.0, **fields):
    """A model on straight lines whose flow has one velocity everywhere."""
    path = PATHS["rectified_flow"]
    move = jnp.asarray(velocity)
    net = as_denoiser(lambda x, t: jnp.broadcast_to(move, x.shape), path, "velocity")
    return model_of(net, "rectified_flow", scale=scale, end=1e-5, **fields)


def log_prob(how, model, image):
    found = jax.jit(how.of(model).log_prob)(STATE, {"image": image}, KEY)
    return np.asarray(found)


def test_density_of_a_constant_velocity_is_the_noise_moved():
    """x at t = 1 is x0 + v, in the model's unit, and nothing is stretched."""
    unit, velocity = 1.5, np.array([[-2.0, 1.0]], np.float32)
    points = 0.7 * jax.random.normal(KEY, (5, 2))
    how = Likelihood(method="ode", trace="exact")
    got = log_prob(how, still(Scale(0, unit), velocity), points)
    moved = np.asarray(points) / unit + velocity
    want = norm.logpdf(moved).sum(axis=1) - 2 * np.log(unit)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert how.of(still(POINTS)).kind == "estimate"


IMAGE = np.random.default_rng(0).integers(0, 17, (64, 8, 8, 1)).astype(np.uint8)


def test_bound_of_pixels_counts_the_width_of_a_level():
    """No velocity: pixels are standard normal, spread over 2 / 16 for each level."""
    model, how = still(PIXELS, shape=(8, 8, 1)), Likelihood(method="ode")
    got = log_prob(how, model, jnp.asarray(IMAGE))
    density = norm.logpdf(IMAGE / 8.0 - 1.0).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(
        got.mean(), (density + 64 * np.log(1 / 8)).mean(), atol=0.3
    )
    assert how.of(model).kind == "lower_bound"


def test_pixels_have_a_bound_without_an_ode_too():
    """No velocity is x0_hat = x_t, so x0 - x0_hat = t (x0 - eps)."""
    how = Likelihood(method="bound", draws=32, logsnr=8.0)
    got = log_prob(how, still(PIXELS, shape=(8, 8, 1)), jnp.asarray(IMAGE))
    # 1/2 int (1 - t)^2 (x0^2 + 1) dl, by quadrature; the decoder makes no mistakes
    logsnr = np.linspace(-12.0, 8.0, 10_001)
    kept = 1.0 / (1.0 + np.exp(-logsnr / 2.0))  # 1 - t
    square = np.square(IMAGE / 8.0 - 1.0).mean() + 1.0
    want = 0.5 * np.trapezoid(kept**2, logsnr) * square * 64
    np.testing.assert_allclose(-got.mean(), want, rtol=0.03)


LINEAR = paths.of_logsnr(lambda t: 13.0 - 22.0 * t)


def test_bound_of_a_learned_path_meets_the_log_density_of_gaussians():
    """Also where the path depends on the weights; points in their own unit."""
    model = model_of(gaussian.exact_denoiser(LINEAR), scale=Scale(0, 2.0))
    model = replaced(model, path=lambda params: LINEAR)
    z = jax.random.normal(jax.random.key(1), (20_000, 2))
    points = 2.0 * (gaussian.MEAN + gaussian.STD * z)
    got = log_prob(LearnedBound(draws=8), model, points)
    away = got - (gaussian.log_prob(points / 2.0) - 2 * np.log(2.0))
    error = away.std() / np.sqrt(len(away))
    assert error < 0.05 and abs(away.mean()) < 4 * error + 1e-3


def test_bound_of_a_discrete_chain_has_the_samplers_variances():
    """With all its terms it rises from the poorer choice to the better one."""
    path, bounds = paths.ddpm_linear(30, 1e-3, 0.5), {}
    points = gaussian.MEAN + gaussian.STD * jax.random.normal(KEY, (1000, 2))
    exact = gaussian.log_prob(points).mean()
    for variance in ("fixed_small", "fixed_large"):
        model = model_of(
            gaussian.exact_denoiser(path),
            sampler=Sampler(variance=variance),
            num_timesteps=30,
        )
        model = replaced(model, path=lambda params: path)
        how = Likelihood(method="vlb", draws=None)
        bounds[variance] = log_prob(how, model, points).mean()
    assert bounds["fixed_small"] + 0.3 < bounds["fixed_large"] < exact + 0.02


def replaced(model, **changes):
    return dataclasses.replace(model, **changes)


# --- words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "scale", "kind", "words"),
    [
        ("ode", PIXELS, "lower_bound", "one draw; log-det D log(2 / 16)"),
        ("ode", POINTS, "estimate", "exact trace"),
        ("bound", PIXELS, "lower_bound", "64 draws"),
        ("bound", PIXELS, "lower_bound", "no dequantisation"),
        ("bound", POINTS, "lower_bound", "log-det of point_scale"),
        ("vlb", PIXELS, "lower_bound", "T=20, 64 stratified timesteps"),
        ("vlb", PIXELS, "lower_bound", "fixed_large; discretized Gaussian decoder"),
        ("vlb", POINTS, "lower_bound", "x0 clipped; moving average"),
    ],
)
def test_kind_and_note(method, scale, kind, words):
    how = Likelihood(method=method, trace="exact", draws=64)
    model = model_of(
        None,
        scale=scale,
        sampler=Sampler(clip=True),
        num_classes=3,
        num_timesteps=20,
    )
    found = how.of(model)
    assert found.kind == kind and found.given == "label"
    assert words in found.note and "given the label" in found.note
    plain = how.of(replaced(model, num_classes=0))
    assert plain.given == "nothing" and "given the label" not in plain.note


def test_words_of_a_learned_bound():
    found = LearnedBound(draws=2).of(model_of(None, scale=PIXELS))
    assert found.kind == "lower_bound" and "2 stratified times" in found.note
    assert "decoder over the levels" in found.note


def test_none_is_none():
    assert Likelihood(method="none").of(model_of(None)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "odd"}, "config.likelihood.method='odd'.*did you mean 'ode'"),
        ({"trace": "skilling"}, "known: hutchinson, exact"),
        ({"tolerance": 0.0}, "likelihood.tolerance must be more than 0"),
        ({"draws": 0}, "likelihood.draws must be at least 1"),
        ({"method": "bound", "draws": None}, "draws=None is for method='vlb' only"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        fields.read(Likelihood, changes, "likelihood.")


def test_the_chain_is_of_models_in_discrete_time():
    with pytest.raises(UserError, match="is for models in discrete time, like ddpm"):
        Likelihood(method="vlb").of(model_of(None))
