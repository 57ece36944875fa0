"""`genjax.diffusion` on a function of one's own: no config, no experiment, no state.

What stands between the two marks can be pasted as it is.
"""

import numpy as np
from scipy.stats import norm


def test_a_network_of_ones_own():
    # --- from here
    import jax
    import jax.numpy as jnp

    from genjax.diffusion import Sampler, as_denoiser, ode_likelihood, paths

    path, key = paths.vp(), jax.random.key(0)

    def net(x, t):  # yours: what it estimates of noisy data x at times t, here eps
        alpha, sigma = path.alpha(t)[:, None], path.sigma(t)[:, None]
        return sigma * (x - 2 * alpha) / (0.25 * alpha**2 + sigma**2)

    denoise = as_denoiser(net, path, "eps")
    sampler = Sampler(name="dpmpp_2m", num_steps=20, spacing="logsnr")
    noise, times = jax.random.normal(key, (1000, 2)), sampler.times(path, end=1e-3)
    x, calls = sampler.run(denoise, noise, times, path=path, key=key, end=1e-3)
    nats, _ = ode_likelihood.log_likelihood(denoise, x, path=path, key=key)
    # --- to here: that net is exact for data from N(2, 1/4)
    assert calls == 20 and jnp.isfinite(x).all()
    np.testing.assert_allclose(x.mean(axis=0), 2.0, atol=0.06)
    np.testing.assert_allclose(x.std(axis=0), 0.5, rtol=0.08)
    exact = norm.logpdf(np.asarray(x), 2.0, 0.5).sum(axis=1)
    # this path ends with alpha(1) = 0.007, so the prior is off by 0.007 |x|
    np.testing.assert_allclose(nats, exact, atol=0.1)


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
