"""EDM: a denoiser with preconditioning (Karras et al. 2022, arXiv:2206.00364).

Noise of standard deviation sigma is added to data of standard deviation sigma_data, and
nothing is shrunk: x = x0 + sigma eps. The denoiser mixes x with what a network F says:

  (1) D(x; sigma) = c_skip x + c_out F(c_in x, c_noise)                    (eq. 7)
  (2) c_skip = sigma_data^2 / s^2,    c_out = sigma sigma_data / s,
      c_in = 1 / s,    c_noise = log(sigma) / 4                           (table 1)

with s^2 = sigma^2 + sigma_data^2. Then F sees unit variance, and its target

  (3) (x0 - c_skip x) / c_out

has unit variance too, at every sigma. Training weighs the error of D by lambda(sigma) =
1 / c_out^2, that is the error of F by 1 (eq. 8), with log sigma ~ N(P_mean, P_std^2);
or otherwise (`genjax.diffusion.preconditioning`). Samples come from Heun's method, with
a little noise added before each step where churn > 0 (algorithm 2), or another solver.

t of this repository is sigma / sigma_max: 0 for data, 1 where sampling starts.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from genjax.augment import edm as augmentation
from genjax.axes import mean_over_dims, per_example
from genjax.diffusion import DiffusionModel, Sampler, paths, weighting
from genjax.diffusion.as_experiment import DiffusionConfig, as_experiment
from genjax.diffusion.preconditioning import (
    ErrorWeighting,
    precondition,
    preconditioned,
)
from genjax.experiment import Experiment
from genjax.fields import Positive, Share
from genjax.models.backbone import make_network
from genjax.state import TrainState
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Net, Params, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the paper leaves open."""

    sigma_data: Positive = 0.5  # the data's standard deviation
    p_mean: float = -1.2  # mean of log sigma in training
    p_std: Positive = 1.2  # standard deviation of log sigma in training
    sigma_min: Positive = 0.002  # smallest noise level of a sampler
    sigma_max: Positive = 80.0  # noise level that samplers start from
    weighting: ErrorWeighting = ErrorWeighting()  # of the error at each sigma
    augment_probability: Share = 0.0  # of each kind of change (`augment.edm`); 0: none

    def __post_init__(self) -> None:
        if not self.sigma_max > self.sigma_min:
            raise UserError(
                f"config.method.sigma_max={self.sigma_max} must be more than "
                f"config.method.sigma_min={self.sigma_min}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DiffusionConfig):
    """The sections of a config for this file."""

    method: Method = Method()
    sampler: Sampler = Sampler(
        name="heun", num_steps=18, spacing="karras", variance="fixed_small"
    )


def make_experiment(config: Config, spec: DataSpec) -> Experiment[TrainState]:
    """EDM on images or points. Raises UserError for what does not fit."""
    method, path = config.method, paths.edm(config.method.sigma_max)
    augments, inputs = method.augment_probability > 0, config.inputs
    scale, fields = inputs.scale(spec), dict(config.model)
    if augments:  # the network is conditioned on flips too, so inputs must not flip
        augmentation.check_images(spec)
        inputs = dataclasses.replace(inputs, flip=False)
        fields["num_augment"] = augmentation.NUM_PARAMETERS
    network = make_network(spec, **fields)

    def init(key: Key) -> Params:
        params = network.init(key)
        if method.weighting.name != "learned":
            return params
        return {**params, "uncertainty": weighting.initial_uncertainty()}

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        input_key, augment_key, noise_key, dropout_key = jax.random.split(key, 4)
        x0, label = inputs(input_key, batch, scale, network.num_classes)
        how: dict[str, Any] = {}
        if augments:
            x0, how["augment"] = augmentation.augment(
                augment_key,
                x0,
                probability=method.augment_probability,
                x_flip_probability=1.0 if config.inputs.flip else None,
            )
        net = network.bind(params, label, dropout_key, **how)
        error, sigma = error_of(net, x0, noise_key, method)
        u = params.get("uncertainty")
        options = {"path": path, "sigma_data": method.sigma_data, "uncertainty": u}
        return method.weighting(error, sigma, **options).mean(), {}

    def losses(params: Params, x0: Array, label: Array | None, key: Key) -> Metrics:
        """By EDM's weights, however it was trained."""
        net = network.bind(params, label)
        return {"loss_weighted": error_of(net, x0, key, method)[0]}

    diffusion = DiffusionModel(
        denoiser=lambda params, label: preconditioned(
            in_unit_time(network.bind(params, label)), path, method.sigma_data
        ),
        path=lambda params: path,
        scale=scale,
        shape=spec.shape,
        sampler=config.sampler,
        num_classes=network.num_classes,
        end=method.sigma_min / method.sigma_max,
    )
    return as_experiment(config, diffusion, init, loss_fn=loss_fn, losses=losses)


def in_unit_time(net: Net) -> Net:
    """F of (1), a function of c_noise, from a network of times in [0, 1].

    sigma from 0.002 to 80 is c_noise from -1.6 to 1.1.
    """
    return lambda x, noise: net(x, (noise + 2.0) / 4.0)


def error_of(net: Net, x0: Array, key: Key, method: Method) -> tuple[Array, Array]:
    """The squared error of F, a mean over dimensions, and sigma; each (B,)."""
    sigma_key, eps_key = jax.random.split(key)
    log_sigma = jax.random.normal(sigma_key, x0.shape[:1])
    sigma = jnp.exp(method.p_mean + method.p_std * log_sigma)
    c = precondition(sigma, method.sigma_data)
    x = x0 + per_example(sigma, x0) * jax.random.normal(eps_key, x0.shape)
    target = (x0 - per_example(c.skip, x) * x) / per_example(c.out, x)  # (3)
    f = in_unit_time(net)(per_example(c.scale, x) * x, c.noise)
    return mean_over_dims(jnp.square(target - f)), sigma
