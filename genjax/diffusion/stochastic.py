"""Samplers: from noise to data along falling times, each one `lax.scan`.

All take `denoise(x, t) -> E[x0 | x_t = x]` and a path. Whatever else
sampling needs is a wrapper around denoise: guidance, clipping to the data's range
(`denoiser.clipped`), moving averages of weights.

along: the x at all the times, (n, B, ...), that at times[0] being x itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.diffusion.denoiser import Denoise, convert
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.posterior import (
    DenoiseAndSpread,
    Variance,
    estimate,
    model_variance,
    posterior,
)
from genjax.diffusion.steps import States, scan_steps
from genjax.typing import Array, Key


def ancestral(
    denoise: Denoise | DenoiseAndSpread,
    x: Float[Array, " b *d"],
    times: Float[Array | np.ndarray, " n"],
    *,
    path: GaussianPath,
    key: Key,
    variance: Variance = "fixed_large",
    along: bool = False,
) -> States:
    """Samples at times[-1], from x at times[0], by DDPM's reverse chain.

    Ho et al. 2020 (arXiv:2006.11239, algorithm 2), between any times, so respaced too
    (Nichol & Dhariwal 2021, arXiv:2102.09672, section 4). times fall; no noise is added
    by a step that ends at 0. The variance "learned" takes a denoiser of (x0, v).
    """

    def step(xt: Array, now: tuple[Array, Array, Key]) -> tuple[Array, None]:
        t, s, step_key = now
        q = posterior(path, t, s)
        x0, v = estimate(denoise, xt, t)
        mean = q.from_xt * xt + q.from_x0 * x0
        std = jnp.where(s > 0.0, jnp.sqrt(model_variance(q, variance, v)), 0.0)
        return mean + std * jax.random.normal(step_key, xt.shape, xt.dtype), None

    return _scan(step, x, times, key, along)


def ddim(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Float[Array | np.ndarray, " n"],
    *,
    path: GaussianPath,
    key: Key | None = None,
    eta: float = 0.0,
    along: bool = False,
) -> States:
    """Samples at times[-1], from x at times[0], by DDIM.

    Song et al. 2021 (arXiv:2010.02502, eqs. 12 and 16). eta = 0 is deterministic, an
    Euler method for the probability-flow ODE, and needs no key; eta = 1 is `ancestral`
    with "fixed_small". Raises ValueError if eta > 0 comes without a key.
    """
    if eta > 0.0 and key is None:
        raise ValueError(f"ddim with eta={eta} draws noise: give a key")

    def step(xt: Array, now: tuple[Array, Array, Key | None]) -> tuple[Array, None]:
        t, s, step_key = now
        x0 = denoise(xt, t)
        eps = (xt - path.alpha(t) * x0) / path.sigma(t)
        added = eta**2 * posterior(path, t, s).small
        # rounding must not make the difference negative: at eta = 1 it can be near 0
        kept = jnp.sqrt(jnp.maximum(jnp.square(path.sigma(s)) - added, 0.0))
        xs = path.alpha(s) * x0 + kept * eps
        if step_key is not None and eta > 0.0:
            xs = xs + jnp.sqrt(added) * jax.random.normal(step_key, xt.shape, xt.dtype)
        return xs, None

    return _scan(step, x, times, key, along)


def predictor_corrector(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Float[Array | np.ndarray, " n"],
    *,
    path: GaussianPath,
    key: Key,
    snr: float = 0.16,
    corrector_steps: int = 1,
    along: bool = False,
) -> States:
    """Samples at times[-1], from x at times[0]; Langevin steps after each step.

    Song et al. 2021 (arXiv:2011.13456, algorithms 2, 4 and 5): the predictor is
    `ancestral` with "fixed_large", one of the paper's predictors; the corrector moves x
    by e score + sqrt(2e) noise at the new time, with e = 2 alpha_ts^2 (snr |noise| /
    |score|)^2 and norms averaged over the batch. No correction at t = 0. Not theirs: e
    is at most sigma^2, twenty times what the score of the data takes at snr 0.16; that
    of an untrained network is 0 but for rounding, and would throw x away.

    snr: the paper's r; it takes 0.16 for the VE path.
    """

    def predict(xt: Array, t: Array, s: Array, key: Key) -> Array:
        q = posterior(path, t, s)
        mean = q.from_xt * xt + q.from_x0 * denoise(xt, t)
        std = jnp.where(s > 0.0, jnp.sqrt(q.large), 0.0)
        return mean + std * jax.random.normal(key, xt.shape, xt.dtype)

    def correct(xs: Array, t: Array, s: Array, key: Key) -> Array:
        x0 = denoise(xs, s)
        score = convert(x0, xs, s, path=path, source="x0", target="score")
        noise = jax.random.normal(key, xs.shape, xs.dtype)
        ratio = snr * _mean_norm(noise) / _mean_norm(score)
        size = 2.0 * jnp.square(ratio * path.alpha(t) / path.alpha(s))
        size = jnp.minimum(size, jnp.square(path.sigma(s)))
        return xs + size * score + jnp.sqrt(2.0 * size) * noise

    def step(xt: Array, now: tuple[Array, Array, Key]) -> tuple[Array, None]:
        t, s, step_key = now
        predict_key, correct_key = jax.random.split(step_key)
        xs = predict(xt, t, s, predict_key)

        def corrected(xs: Array) -> Array:
            def body(xs: Array, key: Key) -> tuple[Array, None]:
                return correct(xs, t, s, key), None

            keys = jax.random.split(correct_key, corrector_steps)
            return jax.lax.scan(body, xs, keys)[0]

        return jax.lax.cond(s > 0.0, corrected, lambda xs: xs, xs), None

    return _scan(step, x, times, key, along)


def _mean_norm(x: Array) -> Array:
    return jnp.mean(jnp.linalg.norm(x.reshape(len(x), -1), axis=-1))


def _scan(
    step, x: Array, times: Array | np.ndarray, key: Key | None, along: bool
) -> Array:
    """Run step over (t, s, key of the step) for neighbouring times t > s."""
    times = jnp.asarray(times, x.dtype)
    keys = None if key is None else jax.random.split(key, len(times) - 1)
    return scan_steps(step, x, (times[:-1], times[1:], keys), along=along)
