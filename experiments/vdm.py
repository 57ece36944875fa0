"""VDM: a diffusion model trained on its bound (Kingma et al. 2021, arXiv:2107.00630).

The log-SNR falls in a straight line from -gamma_min at t = 0 to -gamma_max at t = 1;
both ends are learned (section 3.2; alpha^2 = sigmoid(-gamma)). The loss is the bound in
continuous time, `genjax.diffusion.continuous`, in nats a dimension. What lies between
the ends changes its variance alone, so the paper's network for gamma is left out.

The network predicts eps as eps_hat = x_t + net(x_t) (the released code), and sees
sin and cos of 2^n pi x_t as well (section 3.4): the last bits of a pixel. Or, for
pixels, "levels": the network gives logits of each level, and Bayes' rule adds what the
pixel's own noisy value says,

  (1) p(x0 = v | x_t) proportional to exp(logits_v) q(x_t | x0 = v),  x0_hat = its mean.

That is not the paper's: before training it is exactly a model of uniform independent
pixels, and the small noise near t = 0 needs no learning.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from genjax.diffusion import (
    Denoise,
    DiffusionModel,
    GaussianPath,
    LearnedBound,
    Sampler,
    as_denoiser,
    continuous,
    paths,
)
from genjax.diffusion.as_experiment import DiffusionConfig, as_experiment
from genjax.experiment import Experiment
from genjax.models.backbone import make_network
from genjax.nn.embeddings import with_fourier
from genjax.state import TrainState
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Params, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the paper leaves open."""

    prediction: Literal["eps", "levels"] = "eps"  # network output; levels is (1)
    gamma_min: float = -13.3  # initial gamma at t = 0: minus the log-SNR
    gamma_max: float = 5.0  # initial gamma at t = 1: minus the log-SNR
    fourier_powers: tuple[int, ...] = (7, 8)  # n of the sin and cos of 2^n pi x_t

    def __post_init__(self) -> None:
        if not self.gamma_max > self.gamma_min:
            raise UserError(
                f"config.method.gamma_max={self.gamma_max} must be more than "
                f"config.method.gamma_min={self.gamma_min}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DiffusionConfig):
    """The sections of a config for this file."""

    method: Method = Method()
    sampler: Sampler = Sampler(
        name="ancestral", num_steps=100, spacing="linear", variance="fixed_small"
    )
    likelihood: LearnedBound = LearnedBound()


class Weights(NamedTuple):
    """What is learned: a network and the two ends of gamma."""

    network: Params
    gamma_min: Array
    gamma_range: Array


def make_experiment(config: Config, spec: DataSpec) -> Experiment[TrainState]:
    """VDM on images or points. Raises UserError for what does not fit."""
    method, scale = config.method, config.inputs.scale(spec)
    by_level = method.prediction == "levels"
    if by_level and not scale.is_image:
        raise UserError(
            f"{spec.name} has no levels: set config.method.prediction='eps'"
        )
    network = make_network(
        spec,
        outputs=spec.num_levels if by_level else 1,
        see=lambda x, t: with_fourier(x, method.fourier_powers),
        **config.model,
    )
    size = math.prod(spec.shape)

    def denoiser(p: Weights, label: Array | None, **dropout: Any) -> Denoise:
        net, path = network.bind(p.network, label, **dropout), path_of(p)
        if by_level:
            return continuous.level_denoiser(net, path, spec.num_levels)
        return as_denoiser(lambda x, t: x + net(x, t), path, "eps")

    def losses(params: Weights, x0: Array, label, key: Key, **dropout: Any) -> Metrics:
        """The three parts of the bound of each example, in nats."""
        t_key, noise_key = jax.random.split(key)
        bound = continuous.continuous_bound(
            denoiser(params, label, **dropout),
            x0,
            continuous.antithetic_times(t_key, len(x0)),
            path=path_of(params),
            num_levels=spec.num_levels,
            key=noise_key,
        )
        return {f"nats_{name}": nats for name, nats in bound._asdict().items()}

    def loss_fn(params: Weights, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        input_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0, label = config.inputs(input_key, batch, scale, network.num_classes)
        nats = losses(params, x0, label, noise_key, dropout_key=dropout_key)
        parts = {f"loss_{k[5:]}": v.mean() / size for k, v in nats.items()}
        low, high = params.gamma_min, params.gamma_min + jnp.abs(params.gamma_range)
        ends = {"gamma_min": low, "gamma_max": high}
        return sum(parts.values(), jnp.zeros(())), parts | ends

    model = DiffusionModel(
        denoiser=denoiser,
        path=path_of,
        scale=scale,
        shape=spec.shape,
        sampler=config.sampler,
        num_classes=network.num_classes,
    )

    def init(key: Key) -> Weights:
        ends = method.gamma_min, method.gamma_max - method.gamma_min
        return Weights(network.init(key), *(jnp.array(v, jnp.float32) for v in ends))

    return as_experiment(config, model, init, loss_fn=loss_fn, losses=losses)


def path_of(params: Weights) -> GaussianPath:
    """The path whose -logsnr rises from gamma_min by |gamma_range|, linearly in t."""
    gamma_max = params.gamma_min + jnp.abs(params.gamma_range)
    return paths.linear_logsnr(-params.gamma_min, -gamma_max)
