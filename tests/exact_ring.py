"""A model of eight Gaussians on a ring that needs no training: all of it is known."""

import jax
import jax.numpy as jnp

from genjax.data import toy
from genjax.diffusion import paths, solvers, times
from genjax.diffusion.process import make_process
from genjax.experiment import Experiment

RING = toy.density("gaussians8")
PATH = paths.vp()


def denoise(x, t):
    """E[x0 | x_t]: each Gaussian's own, weighted by how likely it is given x_t."""
    alpha, sigma = PATH.alpha(t), PATH.sigma(t)
    variance = alpha**2 * RING.sigma**2 + sigma**2
    away = x[:, None] - alpha * RING.centers[None]  # (n, k, 2)
    weight = jax.nn.softmax(-0.5 * jnp.sum(away**2, -1) / variance, axis=-1)
    x0 = RING.centers[None] + alpha * RING.sigma**2 / variance * away
    return jnp.sum(weight[..., None] * x0, axis=1)


def make_ring(config, spec):
    """Its samplers are those of the library, on the exact denoiser."""
    some = times.spaced("logsnr", config.sampler.num_steps, path=PATH, end=1e-3)

    def solve(state, key, num, label, along=False):
        noise_key, solver_key = jax.random.split(key)
        x = jax.random.normal(noise_key, (num, 2))
        return solvers.sample_with(
            config.sampler.name,
            denoise,
            x,
            some,
            path=PATH,
            key=solver_key,
            along=along,
        )

    return Experiment(
        init=lambda key: jnp.zeros(()),
        train_step=lambda state, batch, key: (state + 1, {"loss": state}),
        sample=lambda state, key, num, label=None: solve(state, key, num, label),
        log_likelihood=lambda state, batch, key: RING.log_prob(batch["image"]),
        likelihood_kind="exact",
        process=make_process(
            solve=solve,
            denoiser=lambda state, label: denoise,
            path=lambda state: PATH,
            times=some,
            to_model=lambda data: data,
            to_data=lambda x: x,
            is_image=False,
        ),
    )
