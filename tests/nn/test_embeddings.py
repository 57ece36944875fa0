import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.embeddings import (
    embed_label,
    fourier_embedding,
    sinusoidal_embedding,
)


def test_sines_then_cosines_of_the_timestep():
    """By hand: frequencies 1, 0.01, 1e-4 at the timesteps 0 and 1000 t = 250."""
    got = sinusoidal_embedding(jnp.array([0.0, 0.25]), 6)
    np.testing.assert_allclose(got[0], [0, 0, 0, 1, 1, 1], atol=1e-7)
    want = [-0.97053, 0.59847, 0.024997, 0.24099, -0.80114, 0.99969]
    np.testing.assert_allclose(got[1], want, atol=2e-4)


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="even dim of 4 or more, not 7"):
        sinusoidal_embedding(jnp.zeros(1), 7)
    with pytest.raises(ValueError, match="even dim, not 7"):
        fourier_embedding(jnp.zeros(1), 7)


def test_fourier_features_of_two_times_depend_on_their_difference():
    """cos a cos b + sin a sin b = cos(a - b); its mean over N(0, s^2) is Gaussian.

    E cos(2 pi f d) = exp(-(2 pi s d)^2 / 2).
    """
    t = jnp.array([0.3, 0.35, 0.8, 0.85])
    x = fourier_embedding(t, 2 * 4096, scale=3.0)
    inner = x @ x.T / 4096
    want = np.exp(-0.5 * (2 * np.pi * 3.0 * (t[:, None] - t[None, :])) ** 2)
    np.testing.assert_allclose(inner, want, atol=0.03)
    np.testing.assert_allclose(inner[0, 1], inner[2, 3], rtol=1e-4)


def test_fourier_frequencies_never_change():
    """NumPy's documented promise for seed 0: 1.764052, 0.400157 standard deviations."""
    got = fourier_embedding(jnp.array([0.01]), 4, scale=1.0)[0]
    angles = 2 * np.pi * 0.01 * np.array([1.764052, 0.400157])
    np.testing.assert_allclose(got, [*np.sin(angles), *np.cos(angles)], atol=1e-5)


class Told(nn.Module):
    """Nothing but the embedding of a label."""

    num_classes: int = 0
    num_features: int = 0

    @nn.compact
    def __call__(self, label):
        return embed_label(
            label,
            num_classes=self.num_classes,
            num_features=self.num_features,
            width=5,
            dtype=jnp.dtype("float32"),
        )


def test_classes_are_rows_and_vectors_are_linear():
    net, label = Told(num_classes=3), jnp.array([0, 3, 0])
    rows, variables = net.init_with_output(jax.random.key(0), label)
    assert variables["params"]["label"]["embedding"].shape == (4, 5)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert (rows[0] != rows[1]).all()

    net, a = Told(num_features=2), jnp.array([[1.0, 2.0], [0.0, 0.0]])
    out, variables = net.init_with_output(jax.random.key(0), a)
    np.testing.assert_array_equal(out[1], jnp.zeros(5))
    np.testing.assert_allclose(net.apply(variables, 3.0 * a), 3.0 * out, rtol=1e-5)


@pytest.mark.parametrize(
    ("made", "label", "message"),
    [
        ({"num_classes": 3, "num_features": 2}, None, "a class or a vector"),
        ({"num_features": 2}, None, "num_features=2 and no label do not go"),
        ({}, jnp.zeros((1, 2)), "num_classes=0 and a label do not go"),
        ({"num_features": 2}, jnp.zeros((1, 3)), r"\(B, 2\), not \(1, 3\)"),
        ({"num_features": 2}, jnp.zeros(1, jnp.int32), r"\(B, 2\), not \(1,\)"),
        ({"num_classes": 3}, jnp.zeros((1, 2)), "for vectors there is num_features"),
    ],
)
def test_labels_that_do_not_fit_are_refused(made, label, message):
    with pytest.raises(ValueError, match=message):
        Told(**made).init(jax.random.key(0), label)
