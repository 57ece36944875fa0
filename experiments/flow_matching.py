"""Flow matching, or rectified flow: a network learns the velocity of straight lines.

Lipman et al. 2023 (arXiv:2210.02747) and Liu et al. 2023 (arXiv:2209.03003). A datum x0
and noise eps are joined by a line. Here t = 0 is data and t = 1 noise; both papers let
t run the other way, from noise to data.

  (1) x_t = (1 - t) x0 + t eps
  (2) d x_t / dt = eps - x0

The network is fitted to (2) at x_t, by the mean squared error over dimensions (Lipman
et al., eq. 23 with sigma_min = 0), so it learns the mean velocity E[eps - x0 | x_t].
The ODE dx/dt = E[eps - x0 | x_t = x], run from noise at t = 1 back to t = 0, gives
samples.

What may vary: how t is drawn (`genjax.diffusion.training_times`), which eps meets which
x0 (`genjax.diffusion.coupling`), and what the error weighs at each t.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from genjax import labels
from genjax.axes import mean_over_dims
from genjax.diffusion import (
    DiffusionModel,
    Sampler,
    Times,
    Weighting,
    as_denoiser,
    coupling,
    ode,
    paths,
    quantity,
)
from genjax.diffusion.as_experiment import DiffusionConfig, as_experiment
from genjax.experiment import Experiment
from genjax.models.backbone import make_network
from genjax.state import TrainState
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Net, Params

PATH = paths.rectified_flow()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the papers leave open."""

    times: Times = Times()  # at which the network is trained
    coupling: Literal["independent", "optimal_transport"] = "independent"  # eps with x0
    weighting: Weighting = Weighting()  # of the error at each t


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DiffusionConfig):
    """The sections of a config for this file."""

    method: Method = Method()
    sampler: Sampler = Sampler(name="heun", num_steps=20, spacing="linear")


def make_experiment(config: Config, spec: DataSpec) -> Experiment[TrainState]:
    """Flow matching on images or points. Raises UserError for what does not fit."""
    method, scale = config.method, config.inputs.scale(spec)
    network = make_network(spec, **config.model)

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        input_key, t_key, eps_key, dropout_key = jax.random.split(key, 4)
        x0, label = config.inputs(input_key, batch, scale, network.num_classes)
        eps = jax.random.normal(eps_key, x0.shape)
        if method.coupling == "optimal_transport":
            eps = coupling.optimal_transport(
                x0, eps, labels.of_batch(batch, network.num_classes)
            )
        t = method.times.draw(t_key, len(x0))
        weight = method.weighting(t, PATH, "velocity")
        error = velocity_error(network.bind(params, label, dropout_key), x0, eps, t)
        return (weight * error).mean(), {}

    def losses(params: Params, x0: Array, label: Array | None, key: Key) -> Metrics:
        """With independent eps and uniform t, however it was trained.

        Of points path_energy too, which is the smaller the straighter the paths.
        """
        t_key, eps_key = jax.random.split(key)
        eps, t = jax.random.normal(eps_key, x0.shape), Times().draw(t_key, len(x0))
        net = network.bind(params, label)
        values = {"loss_velocity": velocity_error(net, x0, eps, t)}
        if not scale.is_image:
            denoise = model.denoise(params, label)
            values["path_energy"] = ode.path_energy(denoise, eps, PATH)
        return values

    model = DiffusionModel(
        denoiser=lambda params, label: as_denoiser(
            network.bind(params, label), PATH, prediction="velocity"
        ),
        path=lambda params: PATH,
        scale=scale,
        shape=spec.shape,
        sampler=config.sampler,
        num_classes=network.num_classes,
        end=1e-5,
    )
    return as_experiment(config, model, network.init, loss_fn=loss_fn, losses=losses)


def velocity_error(net: Net, x0: Array, eps: Array, t: Array) -> Array:
    """The loss of each example, (B,): a mean over its dimensions."""
    xt = PATH.diffuse(x0, eps, t)  # (1)
    target = quantity(x0, eps, t, path=PATH, name="velocity")  # (2)
    return mean_over_dims(jnp.square(target - net(xt, t)))
