import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.embeddings import sinusoidal_embedding


def test_sines_then_cosines_of_the_timestep():
    """By hand: frequencies 1, 0.01, 1e-4 at the timesteps 0 and 1000 t = 250."""
    got = sinusoidal_embedding(jnp.array([0.0, 0.25]), 6)
    np.testing.assert_allclose(got[0], [0, 0, 0, 1, 1, 1], atol=1e-7)
    want = [-0.97053, 0.59847, 0.024997, 0.24099, -0.80114, 0.99969]
    np.testing.assert_allclose(got[1], want, atol=2e-4)


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="even dim of 4 or more, not 7"):
        sinusoidal_embedding(jnp.zeros(1), 7)
