"""The experiment of a model that codes images: what it can do follows from its parts.

`as_experiment` is for any encoder and decoder, `as_vae` for a decoder p(x|z) with
p(z) = N(0, I) and a Gaussian q(z|x), however that is found.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from genjax.choices import no_labels
from genjax.experiment import Code, Experiment, LogLikelihood
from genjax.objectives import elbo
from genjax.objectives.elbo import Gaussian, ImportanceSampling
from genjax.objectives.pixels import PixelModel, PixelSampler
from genjax.scale import Scale
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Params

StateT = TypeVar("StateT")


def unit_scale(spec: DataSpec) -> Scale:
    """Pixels in [0, 1], as all of these models have them."""
    return Scale(spec.num_levels, low=0.0)


@dataclasses.dataclass(frozen=True)
class _View:
    """Images of the data as x, and back. see: of `as_experiment`."""

    spec: DataSpec
    see: Callable[[Key, Array], Array] | None

    def seen(self, batch: Batch, key: Key) -> tuple[Array, Key]:
        """(x, a key for the rest)."""
        pixel_key, key = jax.random.split(key)
        image = batch["image"]
        if self.see is None:
            return unit_scale(self.spec).to_model(image), key
        return self.see(pixel_key, image), key

    def to_data(self, x: Array) -> Array:
        """(B, *spec.shape)."""
        return unit_scale(self.spec).to_data(x).reshape(-1, *self.spec.shape)


def as_experiment(
    spec: DataSpec,
    *,
    init: Callable[[Key], StateT],
    train_step: Callable[[StateT, Batch, Key], tuple[StateT, Metrics]],
    encode: Callable[[StateT, Array, Key], Array],
    decode: Callable[[StateT, Array], Array],
    evaluate: Callable[[StateT, Batch, Key], Metrics],
    see: Callable[[Key, Array], Array] | None = None,
    sample: Callable[[StateT, Key, int], Array] | None = None,
    prior: Callable[[Key, int], Array] | None = None,
    likelihood: LogLikelihood[StateT] | None = None,
    **layout: Any,
) -> Experiment[StateT]:
    """A code, reconstructions side by side and a sampler, beside its training.

    x are pixels near [0, 1], (B, H, W, C); a decoder or sampler may leave that range,
    or give them as rows.

    encode: (state, x, key) -> (B, D). decode: (state, code) -> x. sample: (state, key,
    num) -> x. see: (key, images) -> x, where it is more than a matter of scale.
    layout: what `Experiment` says of the state: raw_weights, sharding_rules and so on.
    """
    view = _View(spec, see)

    def images(state: StateT, batch: Batch, key: Key) -> Metrics:
        """Each image as the model sees it, and to its right what it makes of it."""
        x, key = view.seen(batch, key)
        again = view.to_data(decode(state, encode(state, x, key)))
        pairs = jnp.stack([view.to_data(x), again], axis=1)
        return {"reconstructions": pairs.reshape(-1, *spec.shape)}

    def sample_images(
        state: StateT, key: Key, num: int, label: Array | None = None
    ) -> Array:
        """Raises UserError for labels: none of these models knows any."""
        no_labels(label)
        assert sample is not None
        return view.to_data(sample(state, key, num))

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample_images if sample else None,
        likelihood=likelihood,
        code=Code(
            decode=lambda state, code, key: view.to_data(decode(state, code)),
            encode=lambda state, batch, key: encode(state, *view.seen(batch, key)),
            prior=prior,
        ),
        evaluate=evaluate,
        images=images,
        **layout,
    )


def as_vae(
    spec: DataSpec,
    model: PixelModel,
    *,
    latent_dim: int,
    init: Callable[[Key], StateT],
    train_step: Callable[[StateT, Batch, Key], tuple[StateT, Metrics]],
    params_of: Callable[[StateT], Params],
    infer: Callable[[Params, Array, Key], Gaussian],
    sampler: PixelSampler,
    likelihood: ImportanceSampling,
    num_samples: int = 1,
    measure: Callable[[Params, Array, Gaussian, Key], Metrics] | None = None,
    note: str = "",
    **layout: Any,
) -> Experiment[StateT]:
    """Codes, samples, the importance-sampled likelihood and the terms of the ELBO.

    params_of: the weights to use. infer: (params, x, key) -> q(z|x). num_samples: draws
    of the code for `evaluate`, which reports what `measure` says too. note: of infer.
    layout: of `as_experiment`.
    """

    def prior(key: Key, num: int) -> Array:
        return jax.random.normal(key, (num, latent_dim))

    def sample(state: StateT, key: Key, num: int) -> Array:
        z_key, pixel_key = jax.random.split(key)
        out = model.decode(params_of(state), prior(z_key, num))
        return sampler(pixel_key, model.family, out)

    def log_prob(state: StateT, x: Array, z_key: Key, q_key: Key) -> Array:
        params = params_of(state)
        q = infer(params, x, q_key)
        return likelihood(elbo.weigh(model.log_mass(params, x), q), z_key)

    def evaluate(state: StateT, batch: Batch, key: Key) -> Metrics:
        params, image = params_of(state), batch["image"]
        pixel_key, z_key, q_key = jax.random.split(key, 3)
        x = model.see(pixel_key, image)
        q = infer(params, x, q_key)
        more = measure(params, x, q, z_key) if measure else {}
        return {**elbo_terms(model, params, image, x, q, z_key, num_samples), **more}

    return as_experiment(
        spec,
        init=init,
        train_step=train_step,
        encode=lambda state, x, key: infer(params_of(state), x, key).mean,
        decode=lambda state, code: model.mean(params_of(state), code),
        evaluate=evaluate,
        see=model.see,
        sample=sample,
        prior=prior,
        likelihood=model.lower_bound(log_prob, likelihood.note + note),
        **layout,
    )


def elbo_terms(
    model: PixelModel,
    params: Params,
    image: Array,
    x: Array,
    q: Gaussian,
    z_key: Key,
    num_samples: int,
) -> Metrics:
    """The two terms of the ELBO, (B,) nats, and the error of the mean code.

    image: of the data, (B, H, W, C); x: the same as the model sees it; q: q(z|x).
    """
    log_px = model.log_prob(params, x)
    log_px, kl = elbo.drawn_terms(log_px, q, z_key, num_samples)
    log_px, kl = log_px.mean(axis=0), kl.sum(axis=-1)
    return {
        "elbo": log_px - kl,
        "reconstruction_nats": -log_px,
        "kl_nats": kl,
        "squared_error": model.squared_error(params, q.mean, image),
    }
