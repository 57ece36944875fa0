import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genjax.diffusion.continuous import level_logits, levels_of, logsnr_bound
from genjax.diffusion.likelihood import Likelihood, dequantize, width_of
from genjax.typing import UserError
from tests.diffusion import gaussian
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(5)
NAMES = ["vp", "subvp", "ve", "edm", "rectified_flow"]


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
            gaussian.exact_denoiser(path), x0, path=path, num_levels=0, key=KEY
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
            gaussian.exact_denoiser(path), x0, path=path, num_levels=0, key=KEY
        )
    )(x0)
    away = (value - gaussian.log_prob(x0)) / (2 * np.log(2))
    assert abs(away.mean()) < 1e-3


def test_pixels_are_spread_over_their_level():
    """17 levels in [-1, 1]: a level is 1/8 wide, and all levels tile the line."""
    x0 = jnp.full((40_000, 1), 0.25)
    spread = dequantize(x0, 17, KEY)
    assert width_of(17) == 0.125
    assert 0.1875 <= spread.min() and spread.max() <= 0.3125
    np.testing.assert_allclose(spread.std(), 0.125 / np.sqrt(12), rtol=0.02)


# --- units and words ------------------------------------------------------------------


def test_bound_of_points_is_in_their_own_unit():
    """Twice as wide in two dimensions: a quarter of the density."""
    path, how = PATHS["vp"], Likelihood(method="bound", draws=2)
    values = [
        how.log_prob(
            gaussian.exact_denoiser(path),
            jnp.ones((3, 2)),
            path=path,
            num_levels=0,
            key=KEY,
            point_scale=scale,
        )
        for scale in (1.0, 2.0)
    ]
    np.testing.assert_allclose(values[0] - values[1], 2 * np.log(2), rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "num_levels", "kind", "words"),
    [
        ("none", 17, None, ""),
        ("ode", 17, "lower_bound", "one draw; log-det D log(2 / 16)"),
        ("ode", 0, "estimate", "exact trace"),
        ("bound", 17, "lower_bound", "64 draws"),
        ("bound", 17, "lower_bound", "no dequantisation"),
        ("bound", 0, "lower_bound", "log-det of point_scale"),
    ],
)
def test_kind_and_note(method, num_levels, kind, words):
    how = Likelihood(method=method, trace="exact", draws=64)
    assert how.kind(num_levels) == kind
    note = how.note(num_levels, labels=True)
    assert words in note and ("given the label" in note) == (method != "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "odd"}, "eval.likelihood='odd'.*did you mean 'ode'"),
        ({"method": "ode", "trace": "skilling"}, "known: hutchinson, exact"),
        ({"method": "ode", "tolerance": 0.0}, "likelihood_tolerance must be more"),
        ({"method": "bound", "draws": 0}, "likelihood_draws must be more than 0"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        Likelihood(**changes)
