"""config.likelihood: log p of data by a diffusion model, in one of three ways.

"ode": the density of the probability-flow ODE (`ode_likelihood`). Pixels are first
spread evenly over the width of their level (uniform dequantisation), which makes it a
bound (Theis et al. 2016, arXiv:1511.01844, section 3.1).

"bound": the variational bound of a chain that ends at some log-SNR
(`continuous.logsnr_bound`). Pixels stay what they are: a decoder gives their levels.

"vlb": the variational bound of the chain of a model in discrete time
(`vlb.variational_bound`), with the variances of `config.sampler.variance`.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax import labels
from genjax.diffusion import ode_likelihood, vlb
from genjax.diffusion.continuous import continuous_bound, logsnr_bound
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.model import DiffusionModel
from genjax.diffusion.ode_likelihood import Trace
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.posterior import DenoiseAndSpread, mean_of
from genjax.fields import Count, Positive
from genjax.log_likelihood import Kind, LogLikelihood
from genjax.scale import Scale
from genjax.state import TrainState
from genjax.typing import Array, Batch, Key, UserError

_OWNERS = {
    "trace": ("ode",),
    "tolerance": ("ode",),
    "draws": ("bound", "vlb"),
    "logsnr": ("bound",),
}
"""{option: the methods that take it}."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood:
    """How log p is computed.

    A config may state options of several methods, to choose among by one flag.
    """

    method: Literal["none", "ode", "bound", "vlb"] = "ode"  # none: it is not taken
    trace: Trace = "hutchinson"  # ode: of the flow's Jacobian; exact costs D passes
    tolerance: Positive = 1e-4  # ode: of each step's error
    draws: Count | None = 16  # bound, vlb: evaluations; None: all timesteps of vlb
    logsnr: float = 13.2  # bound: least noise; 256 levels lie 5.8 sigma apart there

    def __post_init__(self) -> None:
        if self.method == "bound" and self.draws is None:
            raise UserError("config.likelihood.draws=None is for method='vlb' only")

    @property
    def ignored(self) -> dict[str, str]:
        """{field: why} of the fields that the method has no use for."""
        return {
            option: f"is of method={' and '.join(map(repr, owners))}, and "
            f"{self.method!r} would not use it"
            for option, owners in _OWNERS.items()
            if self.method not in owners
        }

    def of(self, model: DiffusionModel) -> LogLikelihood[TrainState] | None:
        """The log-likelihood of a model, given labels if it is conditional.

        Raises UserError for "vlb" of a model that has no timesteps.
        """
        if self.method == "none":
            return None
        if self.method == "vlb" and model.num_timesteps is None:
            raise UserError(
                "config.likelihood.method='vlb' is for models in discrete time, like "
                "ddpm: choose 'ode' or 'bound'"
            )

        def log_prob(state: TrainState, batch: Batch, key: Key) -> Array:
            params = state.averaged[0]
            denoise = model.denoise_and_spread(
                params, labels.of_batch(batch, model.num_classes)
            )
            x0, path = model.scale.to_model(batch["image"]), model.path(params)
            if self.method == "vlb":
                return self.by_chain(model, denoise, x0, path=path, key=key)
            return self.log_prob(
                mean_of(denoise),
                x0,
                path=path,
                scale=model.scale,
                key=key,
                end=model.end,
            )

        return LogLikelihood(
            log_prob=log_prob,
            kind=self.kind(model.scale),
            note=self.note(model),
            given="label" if model.num_classes else "nothing",
        )

    def by_chain(
        self,
        model: DiffusionModel,
        denoise: DenoiseAndSpread,
        x0: Float[Array, " b *d"],
        *,
        path: GaussianPath,
        key: Key,
    ) -> Float[Array, " b"]:
        """By method="vlb", in nats; x0 as the model sees it."""
        assert model.num_timesteps is not None
        bound = vlb.variational_bound(
            denoise,
            x0,
            path=path,
            num_timesteps=model.num_timesteps,
            num_levels=model.scale.num_levels,
            variance=model.sampler.variance,
            key=key,
            draws=self.draws,
        )
        return -bound.nats + model.scale.density_log_det(x0[0].size)

    def log_prob(
        self,
        denoise: Denoise,
        x0: Float[Array, " b *d"],
        *,
        path: GaussianPath,
        scale: Scale,
        key: Key,
        end: float = 1e-5,
    ) -> Float[Array, " b"]:
        """By method="ode" or "bound": nats of each example, log p(x).

        x0: as the model sees it. For points it is the density of the points before.
        end: of "ode": the time at which x0 is taken to lie.
        """
        size = x0[0].size
        if self.method == "bound":
            assert self.draws is not None
            bound = logsnr_bound(
                denoise,
                x0,
                path=path,
                num_levels=scale.num_levels,
                key=key,
                draws=self.draws,
                logsnr=self.logsnr,
            )
            return -bound.nats + scale.density_log_det(size)
        pixel_key, trace_key = jax.random.split(key)
        density, _ = ode_likelihood.log_likelihood(
            denoise,
            dequantize(x0, scale, pixel_key) if scale.is_image else x0,
            path=path,
            key=trace_key,
            trace=self.trace,
            tolerance=self.tolerance,
            end=end,
        )
        return density + scale.log_det(size)

    def kind(self, scale: Scale) -> Kind:
        """The ODE's density of points is an estimate: its integral is approximate."""
        return (
            "estimate" if self.method == "ode" and not scale.is_image else "lower_bound"
        )

    def note(self, model: DiffusionModel) -> str:
        """How it is computed, for the protocol of a metric."""
        is_image, levels = model.scale.is_image, model.scale.num_levels
        width = (
            f"log-det D log(2 / {levels - 1})" if is_image else "log-det of point_scale"
        )
        decoder = "Gaussian decoder"
        if self.method == "ode":
            one = ", one probe" if self.trace == "hutchinson" else ""
            parts = [
                "probability-flow ODE, Dormand-Prince 5(4), tolerance "
                f"{self.tolerance}",
                f"{self.trace} trace{one}",
                *(["uniform dequantisation, one draw"] if is_image else []),
                width,
            ]
        elif self.method == "bound":
            parts = [
                f"variational bound in continuous time from log-SNR {self.logsnr}, "
                f"{self.draws} draws an example, stratified in log-SNR",
                "decoder over the levels, no dequantisation"
                if is_image
                else f"{decoder}; {width}",
            ]
        else:
            terms = f"{self.draws} stratified timesteps an example"
            parts = [
                f"variational bound, T={model.num_timesteps}, "
                f"{'all terms' if self.draws is None else terms}",
                model.sampler.variance,
                f"discretized {decoder}, no dequantisation"
                if is_image
                else f"{decoder}; {width}",
            ]
        parts += ["x0 clipped"] if model.sampler.clip else []
        parts += ["moving average of weights"]
        parts += ["given the label"] if model.num_classes else []
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedBound:
    """config.likelihood of a model whose path is learned, ends and all (VDM)."""

    draws: Count = 16  # times at which the bound is evaluated, an example

    def of(self, model: DiffusionModel) -> LogLikelihood[TrainState]:
        """Minus the bound in continuous time, with t in as many strata."""

        def log_prob(state: TrainState, batch: Batch, key: Key) -> Array:
            params, x0 = state.averaged[0], model.scale.to_model(batch["image"])
            label = labels.of_batch(batch, model.num_classes)
            denoise, num = model.denoise(params, label), self.draws
            t_key, noise_key = jax.random.split(key)
            offset = jax.random.uniform(t_key, (num, len(x0)))
            t = (jnp.arange(num)[:, None] + offset) / num

            def add(total: Array, draw: tuple[Array, Key]) -> tuple[Array, None]:
                bound = continuous_bound(
                    denoise,
                    x0,
                    draw[0],
                    path=model.path(params),
                    num_levels=model.scale.num_levels,
                    key=draw[1],
                )
                return total + bound.nats, None

            draws = t, jax.random.split(noise_key, num)
            total, _ = jax.lax.scan(add, jnp.zeros(len(x0)), draws)
            return -total / num + model.scale.density_log_det(x0[0].size)

        decoder = "decoder over the levels, no dequantisation"
        if not model.scale.is_image:
            decoder = f"Gaussian decoder; log-det of the scale 1/{model.scale.unit}"
        return LogLikelihood(
            log_prob=log_prob,
            kind="lower_bound",
            note=f"variational bound in continuous time, {self.draws} stratified times "
            f"an example; {decoder}; moving average of weights",
            given="label" if model.num_classes else "nothing",
        )


def dequantize(
    x0: Float[Array, " b *d"], scale: Scale, key: Key
) -> Float[Array, " b *d"]:
    """Pixels as a network sees them, plus uniform noise of at most half a level."""
    noise = jax.random.uniform(key, x0.shape, x0.dtype, minval=-0.5, maxval=0.5)
    return x0 + jnp.asarray(scale.level_width, x0.dtype) * noise
