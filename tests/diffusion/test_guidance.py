import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion.denoiser import convert
from genjax.diffusion.guidance import classifier_free
from tests.diffusion.test_paths import PATHS

X, T = jnp.array([[0.5]]), jnp.array([0.4])


def with_label(x, t):
    return 2.0 * x


def without_label(x, t):
    return 1.0 * x


@pytest.mark.parametrize(("scale", "factor"), [(0.0, 1.0), (1.0, 2.0), (3.0, 4.0)])
def test_scale(scale, factor):
    guided = classifier_free(with_label, without_label, scale)
    np.testing.assert_allclose(guided(X, T), factor * X)


def test_mixing_x0_is_mixing_eps():
    path = PATHS["vp"]

    def eps(x0):
        return convert(x0, X, T, path=path, source="x0", target="eps")

    with_eps, without_eps = eps(with_label(X, T)), eps(without_label(X, T))
    mixed = without_eps + 3.0 * (with_eps - without_eps)
    guided = classifier_free(with_label, without_label, 3.0)
    np.testing.assert_allclose(eps(guided(X, T)), mixed, rtol=1e-5)
