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

import math

import jax
import jax.numpy as jnp

from genjax.choices import images_only, no_labels
from genjax.experiment import Experiment
from genjax.moments import Moments, standard_moments, update
from genjax.objectives import ppca
from genjax.typing import Array, Batch, Config, DataSpec, Key, Metrics, UserError


def make_experiment(config: Config, spec: DataSpec) -> Experiment[Moments]:
    """PCA with model.num_components axes. Raises UserError where that cannot be."""
    num_components, num_pixels = config.model.num_components, math.prod(spec.shape)
    check(num_components, num_pixels, spec)

    # --- data -------------------------------------------------------------------------

    def to_unit(image: Array) -> Array:
        """Pixels to rows (B, D) in [0, 1]."""
        return image.reshape(len(image), -1).astype(jnp.float32) / (spec.num_levels - 1)

    def to_image(x: Array) -> Array:
        scaled = jnp.clip(x, 0.0, 1.0) * (spec.num_levels - 1)
        return jnp.round(scaled).astype(jnp.uint8).reshape(-1, *spec.shape)

    def init(key: Key) -> Moments:
        del key
        return standard_moments(num_pixels)

    # --- training ---------------------------------------------------------------------

    def train_step(state: Moments, batch: Batch, key: Key) -> tuple[Moments, Metrics]:
        """`loss`: what the mean alone leaves, as if there were no components."""
        del key  # nothing is drawn
        x = to_unit(batch["image"])
        state = update(state, x)
        left = jnp.sum(jnp.square(x - state.mean[None, :]), axis=1)
        return state, {
            "loss": jnp.mean(left),
            "total_variance": jnp.trace(state.cov),
            "epochs_seen": state.num_rows / spec.num_train,
        }

    # --- what the model can do --------------------------------------------------------

    def axes_of(state: Moments) -> Array:
        return ppca.principal_components(state.cov, num_components).axes

    def encode(state: Moments, batch: Batch, key: Key) -> Array:
        """Coordinates along the axes, the largest variance first."""
        del key
        return (to_unit(batch["image"]) - state.mean[None, :]) @ axes_of(state)

    def reconstruct(state: Moments, code: Array) -> Array:
        """Rows (B, D) near [0, 1], which a projection may leave."""
        return state.mean[None, :] + code @ axes_of(state).T

    def decode(state: Moments, code: Array, key: Key) -> Array:
        del key
        return to_image(reconstruct(state, code))

    def fit(state: Moments) -> ppca.PPCA:
        return ppca.fit(state.mean, state.cov, num_components)

    def sample(state: Moments, key: Key, num: int, label: Array | None = None) -> Array:
        """Raises UserError for a label: the model knows none."""
        no_labels(label)
        z_key, eps_key = jax.random.split(key)
        model = fit(state)
        z = jax.random.normal(z_key, (num, num_components))
        eps = jax.random.normal(eps_key, (num, num_pixels))
        mean = model.mean[None, :] + z @ model.weight.T
        return to_image(mean + jnp.sqrt(model.sigma2) * eps)

    def log_likelihood(state: Moments, batch: Batch, key: Key) -> Array:
        """E[log p(x)] - D log(L - 1) over x, uniform in the bin of each level."""
        del key  # the expectation has a closed form
        scale = spec.num_levels - 1
        variance = 1.0 / (12.0 * scale**2)  # of uniform noise as wide as a bin
        x = to_unit(batch["image"])
        log_density = ppca.expected_log_density(fit(state), x, variance)
        return log_density - num_pixels * math.log(scale)

    def evaluate(state: Moments, batch: Batch, key: Key) -> Metrics:
        """squared_error over [0, 1] pixels; log_density of these in nats, exact."""
        x = to_unit(batch["image"])
        error = x - reconstruct(state, encode(state, batch, key))
        return {
            "squared_error": jnp.sum(jnp.square(error), axis=1),
            "log_density": ppca.log_density(fit(state), x),
        }

    def images(state: Moments, batch: Batch, key: Key) -> Metrics:
        """Each image, and to the right of it what the components keep."""
        drawn = decode(state, encode(state, batch, key), key)
        pairs = jnp.stack([batch["image"], drawn], axis=1)
        return {"reconstructions": pairs.reshape(-1, *spec.shape)}

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=log_likelihood,
        likelihood_kind="lower_bound",
        likelihood_note="probabilistic PCA; pixels in [0, 1], log-det "
        f"-D log {spec.num_levels - 1}; uniform dequantisation, its mean log density "
        "in closed form",
        encode=encode,
        decode=decode,
        evaluate=evaluate,
        images=images,
    )


def check(num_components: int, num_pixels: int, spec: DataSpec) -> None:
    """Raises UserError for data without pixels and a number that is out of range."""
    images_only("PCA", spec)
    if not 0 < num_components < num_pixels:
        raise UserError(
            f"model.num_components must lie in 1 ... {num_pixels - 1}, below the "
            f"{num_pixels} pixels of {spec.name}, not {num_components}"
        )
