"""p(image | z): pixels that are independent given the output of a decoder.

Pixels x lie in [0, 1], level / (num_levels - 1). `out` holds what the decoder says of
them, channel by channel, then the second parameter where there is one.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.distributions import (
    bernoulli_log_prob,
    discretized_logistic_log_prob,
    discretized_normal_log_prob,
    normal_log_prob,
)
from genjax.log_likelihood import LogLikelihood
from genjax.scale import Scale
from genjax.typing import Array, Batch, Key, Params

Pixels = Float[Array, "*#k b h w c"]
Outputs = Float[Array, "*#k b h w o"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelLikelihood:
    """One family of distributions over pixels, summed over an image.

    spread: what `out` holds beside one number a channel, as in
        `genjax.models.vae.PixelDecoder`.
    binary: a pixel is 0 or 1: 1 with its grey as probability, drawn by `see`.
    log_prob(x, out) -> (*k, b) nats: what training maximises.
    log_mass(x, out) -> (*k, b) nats of the discrete levels: what is reported.
    mean(out) -> the expected pixels. draw(key, out) -> random pixels, both in [0, 1].
    note: what log_mass is of, for the protocol of a metric.
    """

    spread: Literal["none", "shared", "pixel"]
    log_prob: Callable[[Pixels, Outputs], Array]
    log_mass: Callable[[Pixels, Outputs], Array]
    mean: Callable[[Outputs], Pixels]
    draw: Callable[[Key, Outputs], Pixels]
    note: str
    binary: bool = False


Family = Literal["bernoulli", "gaussian", "logistic"]


def family(name: Family, num_levels: int) -> PixelLikelihood:
    """The likelihood of that name."""
    if name == "bernoulli":
        return bernoulli()
    return {"gaussian": gaussian, "logistic": logistic}[name](num_levels)


def bernoulli() -> PixelLikelihood:
    """Binary pixels; out: logits."""

    def log_mass(x: Pixels, out: Outputs) -> Array:
        return _total(bernoulli_log_prob(x, out))

    def draw(key: Key, out: Outputs) -> Array:
        return jax.random.bernoulli(key, jax.nn.sigmoid(out)).astype(jnp.float32)

    return PixelLikelihood(
        spread="none",
        log_prob=log_mass,
        log_mass=log_mass,
        mean=jax.nn.sigmoid,
        draw=draw,
        note="Bernoulli pixels, binarised once an image",
        binary=True,
    )


def gaussian(num_levels: int) -> PixelLikelihood:
    """N(mean, std^2); out: mean and log std, both on the scale of [0, 1].

    log_prob is a density at the levels, which can grow without limit where pixels never
    change; log_mass is the mass in the bin of a level, which is at most 1.
    """

    def log_density(x: Pixels, out: Outputs) -> Array:
        mean, log_std = jnp.split(out, 2, axis=-1)
        return _total(normal_log_prob(x, mean, jnp.exp(log_std)))

    def log_mass(x: Pixels, out: Outputs) -> Array:
        mean, log_std = jnp.split(out, 2, axis=-1)
        mean, std = 2.0 * mean - 1.0, 2.0 * jnp.exp(log_std)
        x, mean, std = jnp.broadcast_arrays(2.0 * x - 1.0, mean, std)
        return _total(discretized_normal_log_prob(x, mean, std, num_levels=num_levels))

    def draw(key: Key, out: Outputs) -> Array:
        mean, log_std = jnp.split(out, 2, axis=-1)
        noise = jax.random.normal(key, mean.shape)
        return jnp.clip(mean + jnp.exp(log_std) * noise, 0.0, 1.0)

    return PixelLikelihood(
        spread="shared",
        log_prob=log_density,
        log_mass=log_mass,
        mean=lambda out: jnp.clip(jnp.split(out, 2, axis=-1)[0], 0.0, 1.0),
        draw=draw,
        note="mass of a Gaussian in the bin of each level, no dequantisation",
    )


# A logistic this narrow lies within one of 256 levels: PixelCNN++ (arXiv:1701.05517)
MIN_LOG_SCALE = -7.0


def logistic(num_levels: int) -> PixelLikelihood:
    """A logistic distribution cut into levels; out: mean and log scale, for [-1, 1].

    `genjax.distributions.discretized_logistic_log_prob`. The log scale is at least
    MIN_LOG_SCALE: where pixels never change it would fall for ever.
    """

    def parameters(out: Outputs) -> tuple[Array, Array]:
        mean, log_scale = jnp.split(out, 2, axis=-1)
        return mean, jnp.maximum(log_scale, MIN_LOG_SCALE)

    def log_mass(x: Pixels, out: Outputs) -> Array:
        mean, log_scale = parameters(out)
        return _total(
            discretized_logistic_log_prob(
                2.0 * x - 1.0, mean, log_scale, num_levels=num_levels
            )
        )

    def unit(x: Array) -> Array:
        return (jnp.clip(x, -1.0, 1.0) + 1.0) / 2.0

    def draw(key: Key, out: Outputs) -> Array:
        mean, log_scale = parameters(out)
        noise = jax.random.logistic(key, mean.shape)
        return unit(mean + jnp.exp(log_scale) * noise)

    return PixelLikelihood(
        spread="pixel",
        log_prob=log_mass,
        log_mass=log_mass,
        mean=lambda out: unit(parameters(out)[0]),
        draw=draw,
        note="mass of a logistic in the bin of each level, no dequantisation",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelSampler:
    """config.sampler: which image of p(x|z) a sample is."""

    pixels: Literal["mean", "draw"] = "mean"  # mean or draw of each pixel's p(x|z)

    def __call__(self, key: Key, family: PixelLikelihood, out: Outputs) -> Pixels:
        """In [0, 1]; the key is for "draw"."""
        return family.draw(key, out) if self.pixels == "draw" else family.mean(out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelModel:
    """p(x|z): a decoder, and the family of distributions that its output stands for.

    scale: of pixels in [0, 1]. decode(params, z) -> out, (*k, b, h, w, o).
    """

    family: PixelLikelihood
    scale: Scale
    decode: Callable[[Params, Array], Outputs]

    def see(self, key: Key, image: Array) -> Pixels:
        """An image as the model has it: grey, or a draw of its binary pixels."""
        grey = self.scale.to_model(image)
        if self.family.binary:
            return jax.random.bernoulli(key, grey).astype(jnp.float32)
        return grey

    def log_prob(self, params: Params, x: Pixels) -> Callable[[Array], Array]:
        """(z (k, b, d)) -> (k, b) nats: what training maximises."""
        return lambda z: self.family.log_prob(x[None], self.decode(params, z))

    def log_mass(self, params: Params, x: Pixels) -> Callable[[Array], Array]:
        """(z (k, b, d)) -> (k, b) nats of the discrete levels: what is reported."""
        return lambda z: self.family.log_mass(x[None], self.decode(params, z))

    def mean(self, params: Params, z: Array) -> Pixels:
        """The expected pixels of each code."""
        return self.family.mean(self.decode(params, z))

    def squared_error(self, params: Params, z: Array, image: Array) -> Array:
        """(B,): of the expected pixels and the grey ones, summed over an image."""
        return _total(jnp.square(self.mean(params, z) - self.scale.to_model(image)))

    def lower_bound(
        self, log_prob: Callable[[Any, Pixels, Key, Key], Array], note: str
    ) -> LogLikelihood:
        """Of log_prob(state, x, z_key, q_key) -> (B,) nats, x being what `see` gives.

        z_key: for draws of codes. q_key: for the posterior that they come from.
        """

        def of_batch(state: Any, batch: Batch, key: Key) -> Array:
            pixel_key, *keys = jax.random.split(key, 3)
            return log_prob(state, self.see(pixel_key, batch["image"]), *keys)

        return LogLikelihood(
            log_prob=of_batch,
            kind="lower_bound",
            of="binarized" if self.family.binary else "data",
            note=f"{note}; {self.family.note}",
        )


def _total(values: Array) -> Array:
    """The sum over height, width and channels."""
    return jnp.sum(values, axis=(-3, -2, -1))
