"""Autoencoders: a code of few numbers from which the image can be drawn again.

An encoder and a decoder are trained together on the squared error of the image, summed
over its pixels, with pixels in [0, 1] (the unit of Hinton & Salakhutdinov 2006,
doi:10.1126/science.1127647, whose 784-1000-500-250-30 is `autoencoder_mnist`):

  loss(x) = |x - decode(encode(x))|^2

- Without hidden layers both are affine maps, and the best of them draws the projection
  on the first principal components (Baldi & Hornik 1989, doi:10.1016/0893-6080(89)
  90014-2): the decoder spans the subspace of PCA, though its axes are any basis of it.
  So the truth is known, and `evaluate` says how far off it is; for that alone the first
  epoch also gathers the covariance of the data, as `experiments/pca.py` does.
- With hidden layers, the paper's layers were trained one by one first; Adam and modern
  activations do without.

It has no `sample`: nothing in the loss says which codes are likely, so there is no
distribution to draw a code from. A variational autoencoder adds just that.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from genjax.axes import sum_over_dims
from genjax.choices import images_only
from genjax.evaluation.subspace import largest_principal_angle
from genjax.experiment import Experiment
from genjax.models.autoencoder import Autoencoder, Model, is_linear
from genjax.moments import Moments, standard_moments, update
from genjax.objectives.codes import as_experiment, unit_scale
from genjax.objectives.ppca import principal_components
from genjax.state import TrainState
from genjax.training.learner import Optim
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sections of a config for this file."""

    model: Model
    optim: Optim = Optim(learning_rate=1e-3)


class State(NamedTuple):
    """Everything that a restart needs."""

    net: TrainState
    moments: Moments | None  # of the training set, where PCA is the answer


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """Any of the autoencoders. Raises UserError for what does not fit."""
    images_only("the autoencoder", spec)
    model, scale = Autoencoder(spec, config.model), unit_scale(spec)
    learner, num_pixels = config.optim.learner(), math.prod(spec.shape)

    def init(key: Key) -> State:
        params = model.networks.init(jax.random.split(key))
        moments = standard_moments(num_pixels) if is_linear(config.model) else None
        return State(learner.init(params), moments)

    def error_of(params: Params, x: Array) -> Array:
        return squared_error(
            lambda x: model.encode(params, x), lambda z: model.decode(params, z), x
        )

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key  # nothing is drawn
        return error_of(params, scale.to_model(batch["image"])).mean(), {}

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        net, metrics = learner.train_step(loss_fn)(state.net, batch, key)
        rows = scale.to_model(batch["image"]).reshape(-1, num_pixels)
        return State(net, gather(state.moments, rows, until=spec.num_train)), metrics

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """Of the network's output as it is, neither clipped nor rounded."""
        del key
        x, (params, _) = scale.to_model(batch["image"]), state.net.averaged
        values = {"squared_error": error_of(params, x)}
        if state.moments is None:
            return values
        span = params["decoder"]["out"]["kernel"]
        return values | beside_pca(span, state.moments, x.reshape(-1, num_pixels))

    return as_experiment(
        spec,
        init=init,
        train_step=train_step,
        encode=lambda state, x, key: model.encode(state.net.averaged[0], x),
        decode=lambda state, code: model.decode(state.net.averaged[0], code),
        evaluate=evaluate,
        raw_weights=learner.raw,
    )


def squared_error(
    encode: Callable[[Array], Array], decode: Callable[[Array], Array], x: Array
) -> Array:
    """The loss of each image, (B,): a sum over its pixels."""
    return sum_over_dims(jnp.square(x - decode(encode(x))))


def gather(moments: Moments | None, rows: Array, *, until: int) -> Moments | None:
    """The moments with these rows, in the first epoch: of the first `until` rows."""
    if moments is None:
        return None
    return jax.lax.cond(
        moments.num_rows < until, lambda: update(moments, rows), lambda: moments
    )


def beside_pca(span: Array, moments: Moments, rows: Array) -> dict[str, Array]:
    """PCA's squared error of each row, and how far its subspace is from `span`.

    span: (d, D), the decoder's weights. pca_angle_degrees: the largest principal angle;
    the same for every example.
    """
    axes = principal_components(moments.cov, len(span)).axes
    centred = rows - moments.mean[None, :]
    left = centred - (centred @ axes) @ axes.T
    angle = largest_principal_angle(span.T, axes)
    return {
        "pca_squared_error": jnp.sum(jnp.square(left), axis=1),
        "pca_angle_degrees": jnp.full(len(rows), angle),
    }
