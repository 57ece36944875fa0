"""`genjax.diffusion` on a function of one's own: no config, no experiment, no state."""

import numpy as np


def test_a_network_that_is_fitted_here():
    """Flow matching in full: three numbers fitted by least squares, then a solver."""
    import jax
    import jax.numpy as jnp

    from genjax.diffusion import as_denoiser, paths, quantity, solvers, times

    path, key = paths.rectified_flow(), jax.random.key(1)
    x0 = 3.0 + jnp.zeros((512, 1))  # all data are 3
    eps = jax.random.normal(key, x0.shape)
    t = jax.random.uniform(key, (512,), minval=0.1)
    xt = path.diffuse(x0, eps, t)
    velocity = quantity(x0, eps, t, path=path, name="velocity")

    def features(x, t):
        t = jnp.broadcast_to(t, x.shape[:1])[:, None]
        return jnp.concatenate([x, jnp.ones_like(x), t], axis=-1) / t

    weights = jnp.linalg.lstsq(features(xt, t), velocity)[0]
    denoise = as_denoiser(lambda x, t: features(x, t) @ weights, path, "velocity")
    falling = times.spaced("linear", 10, path=path)
    x, calls = solvers.solve("euler", denoise, eps, falling, path=path, key=key)
    assert calls == 10
    np.testing.assert_allclose(x, 3.0, atol=1e-3)
