"""Guidance of exact denoisers, whose conditional and class posterior are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import ode
from genjax.diffusion.denoiser import convert
from genjax.diffusion.guidance import classifier, guided
from tests.diffusion import gaussian, mixture
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(3)
X, T = jnp.array([[0.5]]), jnp.array([0.4])
TIMES = (0.02, 0.3, 0.95)


def with_label(x, t):
    return 2.0 * x


def without_label(x, t):
    return 1.0 * x


def weaker(x, t):
    return 0.5 * x


def noisy_points(path, t):
    """Where x_t lies, and some way off."""
    spread = 1.5 * float(path.alpha(t) + path.sigma(t))
    return spread * jnp.asarray(np.random.default_rng(0).normal(size=(64, 2)))


# --- exact answers --------------------------------------------------------------------


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", ["vp", "rectified_flow", "edm"])
def test_classifier_guidance_is_bayes_rule(name, time):
    """At scale 1 the conditional denoiser; at any scale the classifier-free one."""
    path = PATHS[name]
    plain = mixture.exact_denoiser(path)
    with jax.enable_x64(True):
        t = jnp.asarray(time, jnp.float64)
        x = noisy_points(path, t)
        for label in (0, 1):
            log_prob = mixture.class_log_prob(path, label)
            conditional = mixture.exact_denoiser(path, label)
            got = classifier(plain, log_prob, 1.0, path=path)(x, t)
            np.testing.assert_allclose(got, conditional(x, t), rtol=1e-6, atol=1e-6)
            for scale in (0.0, 2.5):
                got = classifier(plain, log_prob, scale, path=path)(x, t)
                want = guided(conditional, null=plain, scale=scale)(x, t)
                np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_samples_guided_by_a_classifier_lie_in_the_class():
    """And have its mixture: 1/2 at each of the two places of class 1."""
    path, x = PATHS["vp"], jax.random.normal(KEY, (2000, 2))
    denoise = classifier(
        mixture.exact_denoiser(path), mixture.class_log_prob(path, 1), 1.0, path=path
    )
    times = path.time(jnp.linspace(*path.logsnr(jnp.array([1.0, 0.01])), 60))
    samples = np.asarray(jax.jit(lambda x: ode.heun(denoise, x, times, path=path))(x))
    shares = mixture.shares(samples)
    assert shares[0] == 0.0
    np.testing.assert_allclose(shares[1:], 0.5, atol=0.05)  # 4 standard errors
    distance = np.linalg.norm(samples[:, None] - mixture.CENTERS[2:], axis=-1).min(1)
    # two dimensions of SIGMA each, and x is still noisy by a little
    np.testing.assert_allclose(np.mean(distance**2), 2 * mixture.SIGMA**2, rtol=0.15)


def test_autoguidance_of_gaussians_multiplies_their_densities():
    """The score of p^w q^(1 - w): precisions add up, by hand for one dimension each."""
    path, t, scale = PATHS["vp"], jnp.array(0.4), 2.5
    x = jax.random.normal(KEY, (20, 2))
    alpha, sigma = path.alpha(t), path.sigma(t)
    widths = {"own": 0.3, "weak": 0.8}

    def denoiser(width):
        gain = alpha * width**2 / (alpha**2 * width**2 + sigma**2)
        return lambda x, t: 1.0 + gain * (x - alpha)

    denoise = guided(
        denoiser(widths["own"]), guide=denoiser(widths["weak"]), guide_scale=scale
    )
    score = convert(denoise(x, t), x, t, path=path, source="x0", target="score")
    own, weak = (1 / (alpha**2 * w**2 + sigma**2) for w in widths.values())
    precision = scale * own + (1 - scale) * weak
    np.testing.assert_allclose(score, -precision * (x - alpha), rtol=1e-4, atol=1e-5)


# --- laws -----------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "factor"), [(0.0, 1.0), (1.0, 2.0), (3.0, 4.0)])
def test_scale(scale, factor):
    """0 is the unconditional denoiser, 1 the conditional one."""
    guide = guided(with_label, null=without_label, scale=scale)
    np.testing.assert_allclose(guide(X, T), factor * X)


@pytest.mark.parametrize("target", ["eps", "v", "velocity", "score"])
def test_mixing_x0_is_mixing_any_quantity(target):
    path = PATHS["vp"]

    def of(x0):
        return convert(x0, X, T, path=path, source="x0", target=target)

    parts = [of(model(X, T)) for model in (with_label, without_label, weaker)]
    mixed = parts[0] + 2.0 * (parts[0] - parts[1]) + 0.5 * (parts[0] - parts[2])
    denoise = guided(
        with_label, null=without_label, guide=weaker, scale=3.0, guide_scale=1.5
    )
    np.testing.assert_allclose(of(denoise(X, T)), mixed, rtol=1e-5)


def test_a_model_that_guides_itself_is_itself():
    path, t = PATHS["rectified_flow"], jnp.array([0.1, 0.5, 0.9])
    model = gaussian.exact_denoiser(path)
    x = jax.random.normal(KEY, (3, 2))
    denoise = guided(model, guide=model, guide_scale=4.0, rescale=0.7)
    np.testing.assert_allclose(denoise(x, t), model(x, t), rtol=1e-5)


def test_interval():
    """Both ends count; each example has its own time."""
    t = jnp.array([0.0, 0.2, 0.4, 0.6, 1.0])
    x = jnp.arange(1.0, 6.0)[:, None]
    models = {"null": without_label, "scale": 3.0}
    everywhere = guided(with_label, **models)(x, t)
    np.testing.assert_array_equal(
        guided(with_label, **models, interval=(0.0, 1.0))(x, t), everywhere
    )
    empty = guided(with_label, **models, interval=(0.5, 0.4))
    np.testing.assert_array_equal(empty(x, t), with_label(x, t))
    some = guided(with_label, **models, interval=(0.2, 0.4))
    np.testing.assert_allclose(some(x, t)[:, 0] / x[:, 0], [2, 4, 4, 2, 2])
    for time, factor in [(0.3, 4.0), (0.7, 2.0)]:
        np.testing.assert_allclose(some(x, jnp.array(time)), factor * x)


def test_outside_of_the_interval_a_broken_model_does_no_harm():
    broken = guided(
        with_label, null=lambda x, t: x * jnp.nan, scale=3.0, interval=(0.0, 0.1)
    )
    np.testing.assert_array_equal(broken(X, T), with_label(X, T))


def test_what_is_not_needed_is_never_evaluated():
    def refuse(x, t):
        raise AssertionError("evaluated")

    assert guided(with_label, null=refuse, guide=refuse) is with_label
    denoise = guided(with_label, null=without_label, guide=refuse, scale=3.0)
    np.testing.assert_allclose(denoise(X, T), 4.0 * X)


def test_rescaling_gives_each_example_the_contrast_of_the_conditional():
    x = jax.random.normal(KEY, (4, 5, 5, 2))
    t = jnp.full(4, 0.3)

    def conditional(x, t):
        return x**2 + jnp.arange(4.0)[:, None, None, None]

    def at(amount):
        denoise = guided(
            conditional, null=lambda x, t: jnp.cos(x), scale=5.0, rescale=amount
        )
        return np.asarray(denoise(x, t))

    plain = np.asarray(conditional(x, t))
    wanted, axes = plain.std((1, 2, 3)), (1, 2, 3)
    np.testing.assert_allclose(at(1.0).std(axes), wanted, rtol=1e-5)
    assert (at(0.0).std(axes) > 2 * wanted).all()
    np.testing.assert_allclose(at(0.25), 0.75 * at(0.0) + 0.25 * at(1.0), rtol=1e-4)
    # a factor for each example, so no pixel changes its sign
    np.testing.assert_allclose(np.ptp(at(1.0) / at(0.0), axis=axes), 0.0, atol=1e-4)
    plainly = guided(conditional, null=lambda x, t: jnp.cos(x), scale=5.0)(x, t)
    np.testing.assert_array_equal(at(0.0), plainly)


@pytest.mark.parametrize("name", ["null", "guide"])
def test_a_scale_needs_its_model(name):
    scale = {"null": "scale", "guide": "guide_scale"}[name]
    with pytest.raises(ValueError, match=f"a scale of 2.0 needs the denoiser '{name}'"):
        guided(with_label, **{scale: 2.0})
