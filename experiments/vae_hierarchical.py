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

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from genjax.choices import images_only, no_labels, one_of
from genjax.distributions import normal_log_prob
from genjax.experiment import Experiment
from genjax.models.mlp import MLP
from genjax.objectives import elbo, pixels
from genjax.train.optim import make_optimizer
from genjax.typing import (
    Array,
    Batch,
    Config,
    DataSpec,
    Key,
    Metrics,
    Params,
    UserError,
)


class Gaussian(NamedTuple):
    """A diagonal Gaussian, (*batch, D) each."""

    mean: Array
    logvar: Array


class State(NamedTuple):
    """Everything that a restart needs."""

    params: Params  # {"z1_of_x", "z2_of_z1", "z1_of_z2", "x_of_z1"}
    opt_state: optax.OptState


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """A two-layer VAE on images. Raises UserError for a choice that does not exist."""
    check(config, spec)
    method, model = config.method, config.model
    top_level = spec.num_levels - 1
    binary = method.likelihood == "bernoulli"
    likelihood = pixels.family(method.likelihood, spec.num_levels)
    optimizer = make_optimizer(**config.optim)

    num_pixels = spec.shape[0] * spec.shape[1] * spec.shape[2]
    per_pixel = 1 if likelihood.spread == "none" else 2
    first, second = tuple(model.widths), tuple(model.top_widths)
    z1_dim, z2_dim = model.latent_dims
    networks = {
        "z1_of_x": MLP(first, 2 * z1_dim, model.activation),
        "z2_of_z1": MLP(second, 2 * z2_dim, model.activation),
        "z1_of_z2": MLP(second[::-1], 2 * z1_dim, model.activation),
        "x_of_z1": MLP(first[::-1], per_pixel * num_pixels, model.activation),
    }
    inputs = {
        "z1_of_x": num_pixels,
        "z2_of_z1": z1_dim,
        "z1_of_z2": z2_dim,
        "x_of_z1": z1_dim,
    }

    # --- data and networks ------------------------------------------------------------

    def to_model(image: Array, key: Key) -> Array:
        """Pixels in [0, 1]; for binary pixels a draw with the grey as probability."""
        grey = image.astype(jnp.float32) / top_level
        if binary:
            return jax.random.bernoulli(key, grey).astype(jnp.float32)
        return grey

    def to_data(x: Array) -> Array:
        return jnp.round(x * top_level).astype(jnp.uint8)

    def apply(params: Params, name: str, x: Array) -> Array:
        out = networks[name].apply({"params": params[name]}, x)
        assert isinstance(out, jax.Array)
        return out

    def gaussian(params: Params, name: str, x: Array) -> Gaussian:
        """The conditional of that name, given x (*batch, d)."""
        return Gaussian(*jnp.split(apply(params, name, x), 2, axis=-1))

    def pixels_of(params: Params, z1: Array) -> Array:
        """What p(x|z1) is made of, (*batch, H, W, O)."""
        out = apply(params, "x_of_z1", z1)
        height, width, channels = spec.shape
        return out.reshape(*z1.shape[:-1], height, width, per_pixel * channels)

    def init(key: Key) -> State:
        keys = dict(zip(networks, jax.random.split(key, len(networks)), strict=True))
        params = {
            name: network.init(keys[name], jnp.zeros((1, inputs[name])))["params"]
            for name, network in networks.items()
        }
        return State(params, optimizer.init(params))

    # --- training ---------------------------------------------------------------------

    def log_weights(params: Params, x: Array, key: Key, num: int) -> Array:
        """The log w of num draws of both codes, (num, B)."""
        z1_key, z2_key = jax.random.split(key)
        q1 = gaussian(params, "z1_of_x", x.reshape(len(x), -1))
        z1 = elbo.reparameterize(z1_key, *q1, num)
        q2 = gaussian(params, "z2_of_z1", z1)
        z2 = draw(z2_key, q2)
        p1 = gaussian(params, "z1_of_z2", z2)
        log_px = likelihood.log_mass(x[None], pixels_of(params, z1))
        log_p = log_px + log_density(z1, p1) + elbo.log_standard_normal(z2)
        return log_p - elbo.log_normal(z1, *q1) - log_density(z2, q2)

    def loss_fn(params: Params, x: Array, key: Key) -> tuple[Array, Metrics]:
        weights = log_weights(params, x, key, method.num_samples)
        mean = weights.mean()
        if method.objective == "elbo":
            return -mean, {"elbo": mean}
        bound = elbo.importance_bound(weights).mean()
        return -bound, {"iwae_bound": bound, "elbo": mean}

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        pixel_key, z_key = jax.random.split(key)
        x = to_model(batch["image"], pixel_key)
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, x, z_key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        return State(params, opt_state), metrics

    # --- what the model can do --------------------------------------------------------

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        """Images of z2 ~ N(0, I): the mean of p(x|z1), or a draw of its pixels."""
        no_labels(label)
        z2_key, z1_key, pixel_key = jax.random.split(key, 3)
        z2 = jax.random.normal(z2_key, (num, z2_dim))
        z1 = draw(z1_key, gaussian(state.params, "z1_of_z2", z2))
        out = pixels_of(state.params, z1)
        if config.sampler.draw_pixels:
            return to_data(likelihood.draw(pixel_key, out))
        return to_data(likelihood.mean(out))

    def log_likelihood(state: State, batch: Batch, key: Key) -> Array:
        pixel_key, z_key = jax.random.split(key)
        x = to_model(batch["image"], pixel_key)
        return elbo.importance_log_likelihood(
            lambda key, num: log_weights(state.params, x, key, num),
            z_key,
            num_samples=config.eval.importance_samples,
            chunk=50,
        )

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        pixel_key, z_key = jax.random.split(key)
        x = to_model(batch["image"], pixel_key)
        grey = batch["image"].astype(jnp.float32) / top_level
        q1 = gaussian(state.params, "z1_of_x", x.reshape(len(x), -1))
        again = likelihood.mean(pixels_of(state.params, q1.mean))
        return {
            "elbo": log_weights(state.params, x, z_key, 1)[0],
            "squared_error": jnp.square(again - grey).sum(axis=(1, 2, 3)),
        }

    def encode(state: State, batch: Batch, key: Key) -> Array:
        """The mean of q(z1|x): the lower code, from which pixels are decoded."""
        x = to_model(batch["image"], key)
        return gaussian(state.params, "z1_of_x", x.reshape(len(x), -1)).mean

    def decode(state: State, code: Array, key: Key) -> Array:
        """The mean of p(x|z1)."""
        return to_data(likelihood.mean(pixels_of(state.params, code)))

    def images(state: State, batch: Batch, key: Key) -> dict[str, Array]:
        """Each test image and its reconstruction, side by side."""
        seen = to_data(to_model(batch["image"], key))
        again = decode(state, encode(state, batch, key), key)
        pairs = jnp.stack([seen, again], axis=1)
        return {"reconstructions": pairs.reshape(-1, *spec.shape)}

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=log_likelihood,
        likelihood_kind="lower_bound",
        likelihood_of="binarized" if binary else "data",
        likelihood_note=f"L_{config.eval.importance_samples} (importance sampling); "
        f"{likelihood.note}",
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        images=images,
    )


def draw(key: Key, q: Gaussian) -> Array:
    """One draw of each Gaussian."""
    return q.mean + jnp.exp(0.5 * q.logvar) * jax.random.normal(key, q.mean.shape)


def log_density(z: Array, q: Gaussian) -> Array:
    """Of z under q, summed over the last axis."""
    return normal_log_prob(z, q.mean, jnp.exp(0.5 * q.logvar)).sum(axis=-1)


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    one_of("method.likelihood", config.method.likelihood, ["bernoulli", "logistic"])
    one_of("method.objective", config.method.objective, ["elbo", "iwae"])
    images_only("the VAE", spec)
    if len(config.model.latent_dims) != 2:
        raise UserError(
            "model.latent_dims must be two numbers, of z1 and of z2, not "
            f"{config.model.latent_dims}"
        )
    if config.method.num_samples < 1 or config.eval.importance_samples < 1:
        raise UserError(
            "method.num_samples and eval.importance_samples must be at least 1, not "
            f"{config.method.num_samples} and {config.eval.importance_samples}"
        )
