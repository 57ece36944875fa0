"""Principal component analysis, and the Gaussian that goes with it: no gradients.

A training step merges the batch into the mean and covariance of all images seen so far
(`genjax.moments`), pixels in [0, 1]. After one epoch they are those of the training
set, whatever the order; further epochs change nothing. The axes are taken from the
covariance when they are asked for.

- encode, decode: projection on the first principal axes. No linear code of this size
  has a smaller squared error.
- sample, log_likelihood: probabilistic PCA (`genjax.objectives.ppca`) by maximum
  likelihood, whose density is exact.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from genjax.choices import images_only
from genjax.experiment import Experiment, LogLikelihood
from genjax.fields import Count
from genjax.moments import Moments, standard_moments, update
from genjax.objectives import ppca
from genjax.objectives.codes import as_experiment, unit_scale
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, UserError

NOTE = (
    "probabilistic PCA; pixels in [0, 1], log-det -D log {}; uniform dequantisation, "
    "its mean log density in closed form"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """How much is kept."""

    num_components: Count = 10  # dimension of the code


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sections of a config for this file."""

    model: Model = Model()


def make_experiment(config: Config, spec: DataSpec) -> Experiment[Moments]:
    """PCA with model.num_components axes. Raises UserError where that cannot be."""
    images_only("PCA", spec)
    num_components, num_pixels = config.model.num_components, math.prod(spec.shape)
    check_fits(num_components, spec)

    def rows_of(batch: Batch) -> Array:
        return unit_scale(spec).to_model(batch["image"]).reshape(-1, num_pixels)

    def train_step(state: Moments, batch: Batch, key: Key) -> tuple[Moments, Metrics]:
        """`loss`: what the mean alone leaves, as if there were no components."""
        del key  # nothing is drawn
        x = rows_of(batch)
        state = update(state, x)
        left = jnp.sum(jnp.square(x - state.mean[None, :]), axis=1)
        return state, {
            "loss": jnp.mean(left),
            "total_variance": jnp.trace(state.cov),
            "epochs_seen": state.num_rows / spec.num_train,
        }

    def axes_of(state: Moments) -> Array:
        return ppca.principal_components(state.cov, num_components).axes

    def fit(state: Moments) -> ppca.PPCA:
        return ppca.fit(state.mean, state.cov, num_components)

    def encode(state: Moments, x: Array, key: Key) -> Array:
        """Coordinates along the axes, the largest variance first."""
        return (x.reshape(-1, num_pixels) - state.mean[None, :]) @ axes_of(state)

    def decode(state: Moments, code: Array) -> Array:
        """Rows (B, D) near [0, 1], which a projection may leave."""
        return state.mean[None, :] + code @ axes_of(state).T

    def evaluate(state: Moments, batch: Batch, key: Key) -> Metrics:
        """squared_error over [0, 1] pixels; log_density of these in nats, exact."""
        x = rows_of(batch)
        left = jnp.square(x - decode(state, encode(state, x, key)))
        density = ppca.log_density(fit(state), x)
        return {"squared_error": jnp.sum(left, axis=1), "log_density": density}

    def log_prob(state: Moments, batch: Batch, key: Key) -> Array:
        return log_mass_bound(fit(state), rows_of(batch), spec.num_levels)

    return as_experiment(
        spec,
        init=lambda key: standard_moments(num_pixels),
        train_step=train_step,
        encode=encode,
        decode=decode,
        evaluate=evaluate,
        sample=lambda state, key, num: draw(fit(state), key, num),
        likelihood=LogLikelihood(
            log_prob=log_prob,
            kind="lower_bound",
            note=NOTE.format(spec.num_levels - 1),
        ),
    )


def check_fits(num_components: int, spec: DataSpec) -> None:
    """Raises UserError unless there are more pixels than components."""
    num_pixels = math.prod(spec.shape)
    if num_components >= num_pixels:
        raise UserError(
            f"model.num_components must lie in 1 ... {num_pixels - 1}, below the "
            f"{num_pixels} pixels of {spec.name}, not {num_components}"
        )


def draw(model: ppca.PPCA, key: Key, num: int) -> Array:
    """Rows of the Gaussian: its code and its noise drawn apart."""
    z_key, eps_key = jax.random.split(key)
    z = jax.random.normal(z_key, (num, model.weight.shape[1]))
    eps = jax.random.normal(eps_key, (num, len(model.mean)))
    mean = model.mean[None, :] + z @ model.weight.T
    return mean + jnp.sqrt(model.sigma2) * eps


def log_mass_bound(model: ppca.PPCA, x: Array, num_levels: int) -> Array:
    """E[log p(x)] - D log(L - 1) over x, uniform in the bin of each level; no draw."""
    width = 1.0 / (num_levels - 1)
    density = ppca.expected_log_density(model, x, width**2 / 12.0)
    return density + x.shape[1] * math.log(width)
