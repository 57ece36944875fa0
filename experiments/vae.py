"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114) and IWAE.

An encoder gives a Gaussian q(z|x) over codes, a decoder p(x|z), and p(z) = N(0, I).
Training raises one of the bounds on log p(x) of `genjax.objectives.elbo`, written per
image in nats:

  elbo   (1)  E_q[log p(x|z)] - beta KL(q(z|x) || p(z)), a mean over k draws of z
  iwae   (3)  log of the mean of k importance weights (Burda et al. 2016)
  dreg   (3)  the same with the gradient (4) (Tucker et al. 2019)

The log-likelihood is (3) with `likelihood.importance_samples` draws. Binary pixels are
drawn anew from the grey ones at each step ("dynamic binarisation"), and once for each
test image.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp

from genjax.choices import images_only
from genjax.experiment import Experiment
from genjax.fields import Count, NonNegative, Steps
from genjax.models.vae import Model, make_networks
from genjax.objectives import elbo, pixels
from genjax.objectives.codes import as_vae, unit_scale
from genjax.objectives.elbo import Gaussian, LogPx
from genjax.objectives.gaps import RefinedSampling
from genjax.objectives.pixels import PixelModel, PixelSampler
from genjax.state import TrainState
from genjax.training.learner import Optim
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Params, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the papers leave open."""

    likelihood: pixels.Family = "bernoulli"  # of pixels given a code
    objective: Literal["elbo", "iwae", "dreg"] = "elbo"  # the bound to maximise
    num_samples: Count = 1  # k: draws of the code for each image
    beta: NonNegative = 1.0  # weight of the KL
    beta_warmup_steps: Steps = 0  # steps over which beta rises from 0
    free_bits: NonNegative = 0.0  # a dimension's KL counts as at least this, in nats

    def __post_init__(self) -> None:
        plain = (self.beta, self.beta_warmup_steps, self.free_bits) == (1.0, 0, 0.0)
        if self.objective != "elbo" and not plain:
            raise UserError(
                "method.beta, beta_warmup_steps and free_bits change the ELBO, and "
                f"method.objective={self.objective!r} has no KL of its own: set them "
                "to 1.0, 0 and 0.0, or choose 'elbo'"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sections of a config for this file."""

    model: Model
    method: Method = Method()
    optim: Optim = Optim(learning_rate=1e-3)
    sampler: PixelSampler = PixelSampler()
    likelihood: RefinedSampling = RefinedSampling()


def make_experiment(config: Config, spec: DataSpec) -> Experiment[TrainState]:
    """A VAE on images. Raises UserError for what does not fit."""
    images_only("the VAE", spec)
    method, likelihood = config.method, config.likelihood
    family = pixels.family(method.likelihood, spec.num_levels)
    networks = make_networks(spec, family.spread, **config.model)
    model = PixelModel(
        family=family,
        scale=unit_scale(spec),
        decode=lambda params, z: networks(params, "decoder", z),
    )
    learner = config.optim.learner()

    def encode(params: Params, x: Array) -> Gaussian:
        return Gaussian(*networks(params, "encoder", x))

    def loss_fn(
        params: Params, batch: Batch, key: Key, beta: Array
    ) -> tuple[Array, Metrics]:
        pixel_key, z_key = jax.random.split(key)
        x = model.see(pixel_key, batch["image"])
        log_px, q = model.log_prob(params, x), encode(params, x)
        num, bits = method.num_samples, method.free_bits
        if method.objective == "iwae":
            return elbo.iwae_loss(elbo.weigh(log_px, q)(z_key, num))
        if method.objective == "dreg":
            return dreg_loss(log_px, q, z_key, num=num)
        loss, metrics = elbo.elbo_loss(log_px, q, z_key, num, beta=beta, least=bits)
        return loss, {**metrics, "beta": jnp.asarray(beta, jnp.float32)}

    def train_step(
        state: TrainState, batch: Batch, key: Key
    ) -> tuple[TrainState, Metrics]:
        beta = warmed_up(method.beta, state.step, method.beta_warmup_steps)
        step = learner.train_step(functools.partial(loss_fn, beta=beta))
        return step(state, batch, key)

    def measure(params: Params, x: Array, q: Gaussian, key: Key) -> Metrics:
        """A density where that is what training raises; what the encoder loses."""
        values = {}
        if method.likelihood == "gaussian":
            density = elbo.weigh(model.log_prob(params, x), q)
            values["log_density"] = likelihood(density, key)
        gaps = likelihood.gaps(model.log_mass(params, x), q, key)
        return {**values, **gaps}

    return as_vae(
        spec,
        model,
        latent_dim=config.model["latent_dim"],
        init=lambda key: learner.init(networks.init(jax.random.split(key))),
        train_step=train_step,
        params_of=lambda state: state.averaged[0],
        infer=lambda params, x, key: encode(params, x),
        measure=measure,
        sampler=config.sampler,
        likelihood=likelihood,
        raw_weights=learner.raw,
    )


# --- bounds, of log_px(z): log p(x|z) of k codes of each example ----------------------


def warmed_up(beta: float, step: Array, warmup_steps: int) -> Array:
    """beta, after it rose from near 0 in equal steps."""
    return beta * jnp.minimum((step + 1) / (warmup_steps + 1), 1)


def dreg_loss(
    log_px: LogPx, q: Gaussian, key: Key, *, num: int
) -> tuple[Array, Metrics]:
    """A number with the gradient (4) of (3) for the encoder; the metrics are of (3)."""
    z = elbo.reparameterize(key, *q, num)
    fixed = jax.lax.stop_gradient(q)

    def log_weights(z: Array) -> Array:
        return elbo.log_weights(log_px(z), z, *fixed)

    weights = log_weights(z)  # XLA computes it once, here and in the surrogate
    _, metrics = elbo.iwae_loss(weights)
    return -elbo.dreg_surrogate(log_weights, z).mean(), metrics
