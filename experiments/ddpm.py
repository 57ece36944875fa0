"""DDPM: denoising diffusion probabilistic models (Ho et al. 2020, arXiv:2006.11239).

A network learns which noise eps was added to an image at a random time t of a fixed
path (`genjax.diffusion.paths`, equation 1), by the mean squared error over pixels:

  (1) L_simple(x0) = mean over dimensions of (eps - eps_hat(alpha x0 + sigma eps, t))^2

for t uniform on 1/T ... 1. (The paper writes a sum, eq. 14; its code takes the mean.)

Improved DDPM (Nichol & Dhariwal 2021, arXiv:2102.09672): a cosine schedule, and with
variance="learned" further outputs v for the variance of the reverse steps
(`genjax.diffusion.posterior`, 4), taught by the bound at the same t, without a gradient
with respect to the mean:

  (2) L_hybrid = L_simple + lambda L_vlb, in bits per dimension               (eq. 16)
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from genjax.axes import mean_over_dims
from genjax.diffusion import (
    DenoiseAndSpread,
    DiffusionModel,
    GaussianPath,
    Likelihood,
    Sampler,
    Weighting,
    convert,
    paths,
    quantity,
    vlb,
)
from genjax.diffusion.as_experiment import DiffusionConfig, as_experiment
from genjax.experiment import Experiment
from genjax.fields import Count, NonNegative, Positive
from genjax.models.backbone import make_network
from genjax.state import TrainState
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Net, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the papers leave open."""

    num_timesteps: Count = 1000  # T, the timesteps of the chain
    schedule: Literal["linear", "cosine"] = "linear"  # of the noise
    beta_start: Positive = 1e-4  # for "linear": variance of the first step
    beta_end: Positive = 0.02  # for "linear": variance of the last step
    prediction: Literal["eps", "x0", "v"] = "eps"  # what the network estimates
    variance: Literal["fixed", "learned"] = "fixed"  # of the reverse steps
    vlb_weight: NonNegative = 1e-3  # lambda of (2)
    weighting: Weighting = Weighting()  # of the error at each t


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DiffusionConfig):
    """The sections of a config for this file."""

    method: Method = Method()
    sampler: Sampler = Sampler(name="ancestral", num_steps=1000, clip=True)
    likelihood: Likelihood = Likelihood(method="vlb", draws=None)


def make_experiment(config: Config, spec: DataSpec) -> Experiment[TrainState]:
    """DDPM on images or points. Raises UserError for what does not fit together."""
    method, path = config.method, make_path(config.method)
    scale = config.inputs.scale(spec)
    outputs = 2 if method.variance == "learned" else 1
    network = make_network(spec, outputs=outputs, **config.model)

    def terms(params: Params, x0: Array, label: Array | None, key: Key, dropout=None):
        net = network.bind(params, label, dropout)
        return loss_terms(net, x0, key, method, path, spec.num_levels)

    def losses(params: Params, x0: Array, label: Array | None, key: Key) -> Metrics:
        return {f"loss_{k}": v for k, v in terms(params, x0, label, key).items()}

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        input_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0, label = config.inputs(input_key, batch, scale, network.num_classes)
        found = terms(params, x0, label, noise_key, dropout_key)
        loss = found["weighted"] + method.vlb_weight * found.get("vlb", 0.0)  # (2)
        return loss.mean(), {}

    model = DiffusionModel(
        denoiser=lambda p, label: denoiser(network.bind(p, label), method, path),
        path=lambda params: path,
        scale=scale,
        shape=spec.shape,
        sampler=config.sampler,
        num_classes=network.num_classes,
        end=1.0 / method.num_timesteps,
        num_timesteps=method.num_timesteps,
        learns_variance=method.variance == "learned",
    )
    return as_experiment(config, model, network.init, loss_fn=loss_fn, losses=losses)


def make_path(method: Method) -> GaussianPath:
    """The schedule's."""
    if method.schedule == "cosine":
        return paths.ddpm_cosine(method.num_timesteps)
    return paths.ddpm_linear(method.num_timesteps, method.beta_start, method.beta_end)


def loss_terms(
    net: Net, x0: Array, key: Key, method: Method, path: GaussianPath, num_levels: int
) -> dict[str, Array]:
    """Of each example, (B,): (1), also weighted; L_vlb if variances are learned."""
    t_key, eps_key = jax.random.split(key)
    i = jax.random.randint(t_key, x0.shape[:1], 1, method.num_timesteps + 1)
    t, eps = i / method.num_timesteps, jax.random.normal(eps_key, x0.shape)
    xt = path.diffuse(x0, eps, t)
    value, v = split(net(xt, t), method)
    target = quantity(x0, eps, t, path=path, name=method.prediction)
    simple = mean_over_dims(jnp.square(target - value))  # (1)
    weight = method.weighting(t, path, method.prediction)
    terms = {"simple": simple, "weighted": weight * simple}
    if v is not None:
        x0_hat = convert(value, xt, t, path=path, source=method.prediction, target="x0")
        sizes = {"num_timesteps": method.num_timesteps, "num_levels": num_levels}
        terms["vlb"] = vlb.learned_variance_loss(x0, x0_hat, v, i, path=path, **sizes)
    return terms


def denoiser(net: Net, method: Method, path: GaussianPath) -> DenoiseAndSpread:
    """denoise(x, t) -> (x0_hat, v)."""

    def denoise(x: Array, t: Array) -> tuple[Array, Array | None]:
        value, v = split(net(x, t), method)
        return convert(value, x, t, path=path, source=method.prediction, target="x0"), v

    return denoise


def split(out: Array, method: Method) -> tuple[Array, Array | None]:
    """(an estimate of method.prediction, v: 1/2 for an output of 0, as in the code)."""
    if method.variance == "fixed":
        return out, None
    value, spread = jnp.split(out, 2, axis=-1)
    return value, 0.5 * (spread + 1.0)
