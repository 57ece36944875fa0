import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import paths

PATHS = {
    "ddpm": paths.ddpm_linear(),
    "vp": paths.vp(),
    "cosine": paths.cosine(),
    "rectified_flow": paths.rectified_flow(),
    "subvp": paths.subvp(),
    "ve": paths.ve(),
    "edm": paths.edm(),
}
EXPLODING = {"ve": 50.0, "edm": 80.0}  # their standard deviation at t = 1
T = jnp.linspace(0.01, 0.99, 37)


@pytest.mark.parametrize("name", PATHS)
def test_from_data_to_noise(name):
    path, zero, one = PATHS[name], jnp.zeros(()), jnp.ones(())
    assert path.alpha(zero) == 1.0 and path.sigma(zero) == 0.0
    if name in EXPLODING:
        assert path.alpha(one) == 1.0
        np.testing.assert_allclose(path.sigma(one), EXPLODING[name], rtol=1e-5)
    else:
        assert 0.0 <= path.alpha(one) < 0.01 and path.sigma(one) > 0.999
    assert (jnp.diff(path.logsnr(T)) < 0).all()


@pytest.mark.parametrize("name", ["ddpm", "vp", "cosine"])
def test_variance_is_preserved(name):
    path = PATHS[name]
    np.testing.assert_allclose(path.alpha(T) ** 2 + path.sigma(T) ** 2, 1, rtol=1e-6)


INVERTIBLE = PATHS | {
    "ddpm_cosine": paths.ddpm_cosine(),
    "linear_logsnr": paths.linear_logsnr(13.3, -5.0),
}


@pytest.mark.parametrize("path", INVERTIBLE.values(), ids=INVERTIBLE)
def test_time_of_a_log_snr(path):
    t = jnp.array([1e-5, 1e-4, 0.01, 0.3, 0.8, 0.99, 1.0])
    logsnr = path.logsnr(t)
    # a rounding of the log-SNR is one of t by as much as the path is steep there
    slope = jax.vmap(jax.grad(path.logsnr))(t[:-1])
    room = 1e-6 * np.abs(t) + 4e-6 * np.abs(
        np.append((1.0 + np.abs(logsnr[:-1])) / slope, 0.3)
    )
    assert (np.abs(path.time(logsnr) - t) <= room).all()
    bisected = dataclasses.replace(path, inverse=None).time(logsnr)
    assert (np.abs(path.time(logsnr) - bisected) <= room).all()
    assert path.time(jnp.array(-jnp.inf)) == 1.0
    assert path.time(jnp.array([[jnp.inf]])) == 0.0 or path.logsnr(jnp.zeros(())) < 1e3


def test_the_sdes_of_song_et_al():
    """Variances obey dV/dt = 2 f V + g^2 with each SDE's own drift f and diffusion g.

    sub-VP: g^2 = beta (1 - alpha^4), f = -beta / 2; VE: f = 0 and
    g^2 = 2 sigma_min^2 r^(2t) log r.
    """
    beta = 0.1 + 19.9 * T
    path = PATHS["subvp"]
    variance = path.sigma(T) ** 2
    rate = 2 * path.sigma(T) * path.sigma_dot(T)
    want = -beta * variance + beta * (1 - path.alpha(T) ** 4)
    np.testing.assert_allclose(rate, want, rtol=1e-3, atol=1e-4)
    path, ratio = PATHS["ve"], 5000.0
    rate = 2 * path.sigma(T) * path.sigma_dot(T)
    np.testing.assert_allclose(rate, 2e-4 * ratio ** (2 * T) * np.log(ratio), rtol=1e-3)


def test_ddpm_meets_its_table():
    """By hand at i = 1, 2; 4.0358e-5 at i = 1000 is the figure everybody prints."""
    path, i = PATHS["ddpm"], jnp.arange(1, 1001)
    alpha_bar = path.alpha(i / 1000) ** 2
    np.testing.assert_allclose(alpha_bar[:2], [0.9999, 0.9999 * 0.99988008], rtol=1e-6)
    np.testing.assert_allclose(alpha_bar[-1], 4.0358e-5, rtol=1e-4)
    exact = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(alpha_bar, exact, rtol=2e-6)
    # 1 - alpha_bar keeps its digits near the data
    np.testing.assert_allclose(path.sigma(i / 1000) ** 2, 1 - exact, rtol=2e-5)


def test_cosine_schedule_of_improved_ddpm():
    """By hand: at 45 and 60 degrees cos^2 is 1/2 and 1/4, at t = 0 it is 0.99984459."""
    path, i = paths.ddpm_cosine(1000), jnp.arange(1, 1001)
    alpha_bar = path.alpha(i / 1000) ** 2
    want = np.array([0.5, 0.25]) / 0.99984459  # (t + 0.008) / 1.008 is 1/2 and 2/3
    np.testing.assert_allclose(alpha_bar[jnp.array([495, 663])], want, rtol=1e-5)
    betas = 1 - np.asarray(alpha_bar[1:] / alpha_bar[:-1])
    np.testing.assert_allclose(betas[-1], 0.999, rtol=1e-5)
    assert betas[:-1].max() < 0.999
    plain = paths.ddpm_cosine(1000, offset=0.0).alpha(i[:-1] / 1000)
    np.testing.assert_allclose(plain, PATHS["cosine"].alpha(i[:-1] / 1000), atol=1e-5)


def test_ddpm_between_its_steps():
    """Geometric mean of the neighbours, half-way."""
    path = PATHS["ddpm"]
    low, middle, high = path.alpha(jnp.array([0.5, 0.5005, 0.501]))
    np.testing.assert_allclose(middle, jnp.sqrt(low * high), rtol=1e-6)


def test_ddpm_tends_to_the_vp_sde():
    difference = PATHS["ddpm"].alpha(T) - PATHS["vp"].alpha(T)
    assert np.abs(difference).max() < 2e-3
    finer = paths.ddpm_linear(10_000, 1e-5, 2e-3).alpha(T) - PATHS["vp"].alpha(T)
    assert np.abs(finer).max() < 2e-4


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_derivatives_against_differences(path):
    t, h = T[2:-2], 1e-3
    for function, dot in [(path.alpha, path.alpha_dot), (path.sigma, path.sigma_dot)]:
        difference = (function(t + h) - function(t - h)) / (2 * h)
        np.testing.assert_allclose(dot(t), difference, rtol=1e-3, atol=0.03)


def test_diffused_data_have_the_moments_of_the_path():
    path, t = PATHS["cosine"], jnp.full(4000, 1 / 3)
    eps = jax.random.normal(jax.random.key(0), (4000, 2))
    xt = path.diffuse(jnp.full((4000, 2), 2.0), eps, t)
    # cos 30 degrees and sin 30 degrees
    np.testing.assert_allclose(xt.mean(), 2 * 0.8660254, atol=0.02)
    np.testing.assert_allclose(xt.std(), 0.5, atol=0.02)
    one_time = path.diffuse(jnp.full((4000, 2), 2.0), eps, t[0])
    np.testing.assert_allclose(one_time, xt, rtol=1e-6)


def test_edm_only_adds_noise():
    """By hand: sigma runs to 80 in equal strides."""
    path, t = paths.edm(), jnp.array([0.0, 0.25, 1.0])
    np.testing.assert_array_equal(path.alpha(t), 1.0)
    np.testing.assert_allclose(path.sigma(t), [0.0, 20.0, 80.0])
    np.testing.assert_array_equal(path.alpha_dot(t), 0.0)
    np.testing.assert_allclose(path.sigma_dot(t), 80.0)


def test_path_of_a_log_snr():
    """By hand: odds of 3 are alpha^2 = 3/4; and the log-SNR comes back."""
    path = paths.of_logsnr(lambda t: np.log(3.0) * (1.0 - 2.0 * t))
    np.testing.assert_allclose(path.alpha(jnp.zeros(())) ** 2, 0.75, rtol=1e-6)
    np.testing.assert_allclose(path.sigma(jnp.ones(())) ** 2, 0.75, rtol=1e-6)
    np.testing.assert_allclose(
        path.logsnr(T), np.log(3.0) * (1.0 - 2.0 * T), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("alpha_bar", [[0.9, 0.9], [1.0, 0.5], [0.5, 0.0]])
def test_tables_that_do_not_fall_are_refused(alpha_bar):
    with pytest.raises(ValueError, match="must fall strictly"):
        paths.discrete(np.array(alpha_bar))
