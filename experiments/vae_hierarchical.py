"""A VAE with two layers of codes (Burda et al. 2016, arXiv:1509.00519, Table 1).

  p(x, z1, z2) = p(x|z1) p(z1|z2) p(z2),   p(z2) = N(0, I)
  q(z1, z2|x)  = q(z1|x) q(z2|z1)

All conditionals of codes are diagonal Gaussians whose means and log variances are
networks of their conditions. Training raises a bound of `genjax.objectives.elbo` with
the weight of both codes,

  log w = log p(x|z1) + log p(z1|z2) + log p(z2) - log q(z1|x) - log q(z2|z1)

as its mean over k draws ("elbo") or as log of the mean of k weights ("iwae"). Binary
pixels are drawn anew from the grey ones at each step, and once for each test image.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from genjax.choices import images_only
from genjax.experiment import Experiment
from genjax.fields import Count
from genjax.models.fields import Dtype
from genjax.models.mlp import MLP, Activation
from genjax.models.networks import Networks
from genjax.objectives import elbo, pixels
from genjax.objectives.codes import as_experiment, unit_scale
from genjax.objectives.elbo import Gaussian, ImportanceSampling, LogPx
from genjax.objectives.pixels import PixelModel, PixelSampler
from genjax.state import TrainState
from genjax.training.learner import Optim
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """Four multilayer perceptrons."""

    widths: tuple[Count, ...] = (200, 200)  # hidden layers between x and z1
    top_widths: tuple[Count, ...] = (100, 100)  # hidden layers between z1 and z2
    latent_dim: Count = 100  # numbers in z1, the code of an image
    top_latent_dim: Count = 50  # numbers in z2
    activation: Activation = "tanh"  # of the hidden layers
    dtype: Dtype = "float32"  # of the arithmetic; parameters and losses are float32

    def networks(self, spec: DataSpec, outputs: int) -> Networks:
        """One for each conditional. outputs: numbers for each value of an image."""
        size, z1, z2 = math.prod(spec.shape), self.latent_dim, self.top_latent_dim
        low, top, activation = self.widths, self.top_widths, self.activation
        return Networks.fitting(
            spec,
            self.dtype,
            z1_of_x=(MLP(low, 2 * z1, activation), (size,)),
            z2_of_z1=(MLP(top, 2 * z2, activation), (z1,)),
            z1_of_z2=(MLP(top[::-1], 2 * z1, activation), (z2,)),
            x_of_z1=(MLP(low[::-1], outputs * size, activation), (z1,)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the paper leaves open."""

    likelihood: Literal["bernoulli", "logistic"] = "bernoulli"  # of pixels given z1
    objective: Literal["elbo", "iwae"] = "elbo"  # the bound to maximise
    num_samples: Count = 1  # k: draws of the codes for each image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sections of a config for this file."""

    model: Model = Model()
    method: Method = Method()
    optim: Optim = Optim(learning_rate=1e-3)
    sampler: PixelSampler = PixelSampler()
    likelihood: ImportanceSampling = ImportanceSampling()


class Conditionals(NamedTuple):
    """The Gaussians of codes, each given what it is conditioned on, (*b, d)."""

    z1_of_x: Callable[[Array], Gaussian]  # q(z1|x), of the pixels in a row
    z2_of_z1: Callable[[Array], Gaussian]  # q(z2|z1)
    z1_of_z2: Callable[[Array], Gaussian]  # p(z1|z2)


def make_experiment(config: Config, spec: DataSpec) -> Experiment[TrainState]:
    """A two-layer VAE on images. Raises UserError for what does not fit."""
    images_only("the VAE", spec)
    method, learner = config.method, config.optim.learner()
    family = pixels.family(method.likelihood, spec.num_levels)
    outputs = 1 if family.spread == "none" else 2
    networks = config.model.networks(spec, outputs)
    decode = functools.partial(pixels_of, networks, spec.shape[:2])
    model = PixelModel(family=family, scale=unit_scale(spec), decode=decode)

    def weights(params: Params, x: Array, key: Key, num: int) -> Array:
        codes, log_px = conditionals(networks, params), model.log_mass(params, x)
        return log_weights(codes, log_px, x, key, num)

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        pixel_key, z_key = jax.random.split(key)
        x = model.see(pixel_key, batch["image"])
        log_w = weights(params, x, z_key, method.num_samples)
        if method.objective == "iwae":
            return elbo.iwae_loss(log_w)
        return -log_w.mean(), {"elbo": log_w.mean()}

    def encode(state: TrainState, x: Array, key: Key) -> Array:
        """The mean of q(z1|x): the lower code, from which pixels are decoded."""
        codes = conditionals(networks, state.averaged[0])
        return codes.z1_of_x(x.reshape(len(x), -1)).mean

    def sample(state: TrainState, key: Key, num: int) -> Array:
        z2_key, z1_key, pixel_key = jax.random.split(key, 3)
        params, _ = state.averaged
        z2 = jax.random.normal(z2_key, (num, config.model.top_latent_dim))
        z1 = conditionals(networks, params).z1_of_z2(z2).draw(z1_key)
        return config.sampler(pixel_key, family, decode(params, z1))

    def log_prob(state: TrainState, x: Array, z_key: Key, q_key: Key) -> Array:
        log_w = functools.partial(weights, state.averaged[0], x)
        return config.likelihood(log_w, z_key)

    def evaluate(state: TrainState, batch: Batch, key: Key) -> Metrics:
        pixel_key, z_key = jax.random.split(key)
        params, x = state.averaged[0], model.see(pixel_key, batch["image"])
        z1 = encode(state, x, z_key)
        return {
            "elbo": weights(params, x, z_key, 1)[0],
            "squared_error": model.squared_error(params, z1, batch["image"]),
        }

    return as_experiment(
        spec,
        init=lambda key: learner.init(networks.init(jax.random.split(key, 4))),
        train_step=learner.train_step(loss_fn),
        encode=encode,
        decode=lambda state, z1: model.mean(state.averaged[0], z1),
        evaluate=evaluate,
        see=model.see,
        sample=sample,
        likelihood=model.lower_bound(log_prob, config.likelihood.note),
        raw_weights=learner.raw,
    )


def pixels_of(
    networks: Networks, size: tuple[int, ...], params: Params, z1: Array
) -> Array:
    """What p(x|z1) is made of, (*b, H, W, O)."""
    return networks(params, "x_of_z1", z1).reshape(*z1.shape[:-1], *size, -1)


def conditionals(networks: Networks, params: Params) -> Conditionals:
    """Each by the network of its name, whose output is a mean and a log variance."""

    def gaussian(name: str, x: Array) -> Gaussian:
        return Gaussian(*jnp.split(networks(params, name, x), 2, axis=-1))

    names = Conditionals._fields
    return Conditionals(*(functools.partial(gaussian, name) for name in names))


def log_weights(
    codes: Conditionals, log_px: LogPx, x: Array, key: Key, num: int
) -> Array:
    """The log w of `num` draws of both codes of each image, (num, B)."""
    z1_key, z2_key = jax.random.split(key)
    q1 = codes.z1_of_x(x.reshape(len(x), -1))
    z1 = elbo.reparameterize(z1_key, *q1, num)
    q2 = codes.z2_of_z1(z1)
    z2 = q2.draw(z2_key)
    p1 = codes.z1_of_z2(z2)
    log_p = log_px(z1) + p1.log_prob(z1) + elbo.log_standard_normal(z2)
    return log_p - elbo.log_normal(z1, *q1) - q2.log_prob(z2)
