"""A model of eight Gaussians on a ring that needs no training: all of it is known."""

import jax
import jax.numpy as jnp

from genjax.data import toy
from genjax.diffusion import paths
from genjax.diffusion.model import DiffusionModel
from genjax.diffusion.sampler import Sampler
from genjax.experiment import Experiment, LogLikelihood
from genjax.scale import Scale
from genjax.state import TrainState

RING = toy.density("gaussians8")
PATH = paths.vp()
SAMPLER = Sampler(name="heun", num_steps=10, spacing="logsnr")


def denoise(x, t):
    """E[x0 | x_t]: each Gaussian's own, weighted by how likely it is given x_t."""
    alpha, sigma = PATH.alpha(t), PATH.sigma(t)
    variance = alpha**2 * RING.sigma**2 + sigma**2
    away = x[:, None] - alpha * RING.centers[None]  # (n, k, 2)
    weight = jax.nn.softmax(-0.5 * jnp.sum(away**2, -1) / variance, axis=-1)
    x0 = RING.centers[None] + alpha * RING.sigma**2 / variance * away
    return jnp.sum(weight[..., None] * x0, axis=1)


def ring_model(sampler=SAMPLER, **options):
    """Its samplers are those of the library, on the exact denoiser."""
    return DiffusionModel(
        denoiser=lambda params, label: denoise,
        path=lambda params: PATH,
        scale=Scale(0),
        shape=(2,),
        sampler=sampler,
        **options,
    )


def make_ring(model=None):
    """The experiment, without weights."""
    model = model or ring_model()
    return Experiment(
        init=lambda key: TrainState({}, {}, None, None, (), jnp.zeros((), jnp.int32)),
        train_step=lambda state, batch, key: (state, {"loss": jnp.zeros(())}),
        sample=lambda state, key, num, label=None: (
            model.solve(state, key, num, label).x
        ),
        likelihood=LogLikelihood(
            log_prob=lambda state, batch, key: RING.log_prob(batch["image"]),
            kind="exact",
        ),
        diffusion=model,
    )
