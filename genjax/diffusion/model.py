"""A diffusion model, as everything except its training sees it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax import labels
from genjax.diffusion import guidance
from genjax.diffusion.denoiser import Denoise, clipped
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.posterior import DenoiseAndSpread, estimate, mean_of, with_spread
from genjax.diffusion.sampler import Sampler
from genjax.diffusion.solvers import Solution
from genjax.scale import Scale
from genjax.state import TrainState
from genjax.typing import Array, Key, Params, UserError

ClassLogProbs = Callable[[Array, Array], Array]
"""(x_t, t) -> (B, classes): log p_t(y | x_t), in nats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionModel:
    """What sampling, likelihoods, editing and pictures ask of a diffusion model."""

    denoiser: Callable[[Params, Array | None], Denoise | DenoiseAndSpread]
    """(params, label) -> denoise(x, t), as the network has it."""

    path: Callable[[Params], GaussianPath]
    """Of learned paths; a fixed one ignores the params."""

    scale: Scale
    shape: tuple[int, ...]
    sampler: Sampler
    num_classes: int = 0
    end: float = 1e-3
    """The least time above 0 that the network knows."""

    num_timesteps: int | None = None
    """Of a network of discrete time."""

    learns_variance: bool = False
    """Whether its denoiser gives a v, of the variance of the reverse steps."""

    classifier: Callable[[Params], ClassLogProbs] | None = None
    """Of noisy examples, for guidance.classifier_scale."""

    classifier_classes: int = 0

    def __post_init__(self) -> None:
        guide = self.sampler.guidance
        if self.num_classes == 0 and guide.scale != 1.0:
            raise UserError(
                f"config.sampler.guidance.scale={guide.scale} needs labels: train with "
                "model.num_classes > 0, or set it to 1.0"
            )
        if self.sampler.variance == "learned" and not self.learns_variance:
            raise UserError(
                "config.sampler.variance='learned' needs a model that was trained with "
                "method.variance='learned': train ddpm so, or choose fixed_small or "
                "fixed_large"
            )
        if self.classifier is None and guide.classifier_scale:
            raise UserError(
                f"config.sampler.guidance.classifier_scale={guide.classifier_scale} "
                "needs a classifier of noisy examples: train score_sde with "
                "method.classifier_width > 0, or set it to 0.0"
            )

    def with_sampler(self, **changes: Any) -> "DiffusionModel":
        """The same model with some fields of its sampler changed."""
        sampler = dataclasses.replace(self.sampler, **changes)
        return dataclasses.replace(self, sampler=sampler)

    @property
    def asked_classes(self) -> int:
        """The number of classes that samples can be drawn from; 0: no classes."""
        if self.sampler.guidance.classifier_scale:
            return self.classifier_classes
        return self.num_classes

    def times(self, path: GaussianPath) -> Float[np.ndarray, " n"]:
        """The sampler's times, falling from 1 to 0."""
        return self.sampler.times(path, end=self.end, num_timesteps=self.num_timesteps)

    def denoise_and_spread(
        self, params: Params, label: Array | None
    ) -> DenoiseAndSpread:
        """(x0, v) of x and t; x0 is clipped if the sampler clips, not guided."""
        denoise = self.denoiser(params, label)

        def both(x: Array, t: Array) -> tuple[Array, Array | None]:
            return estimate(denoise, x, t)

        return with_spread(both, clipped) if self.sampler.clip else both

    def denoise(self, params: Params, label: Array | None) -> Denoise:
        """E[x0 | x_t = x] of x and t, clipped if the sampler clips, not guided."""
        return mean_of(self.denoise_and_spread(params, label))

    def guided(self, state: TrainState, label: Array | None) -> DenoiseAndSpread:
        """The denoiser of the EMA weights, clipped and guided as the sampler says."""
        params, g = state.averaged[0], self.sampler.guidance
        if g.autoguidance_scale != 1.0 and state.early_params is None:
            raise UserError(
                f"config.sampler.guidance.autoguidance_scale={g.autoguidance_scale} "
                "needs an early snapshot of the weights: train with "
                "optim.snapshot_step > 0, or set it to 1.0"
            )
        seen = label if self.num_classes else None
        null = None if seen is None else jnp.full_like(seen, self.num_classes)
        early = state.early_params

        def guided(denoise: Denoise) -> Denoise:
            denoise = guidance.guided(
                denoise,
                null=None if null is None else self.denoise(params, null),
                guide=None if early is None else self.denoise(early, seen),
                scale=g.scale,
                guide_scale=g.autoguidance_scale,
                interval=(g.min_t, g.max_t),
                rescale=g.rescale,
            )
            return clipped(denoise) if self.sampler.clip else denoise

        denoise = with_spread(self.denoise_and_spread(params, seen), guided)
        if self.classifier is None or label is None or not g.classifier_scale:
            return denoise
        log_probs = self.classifier(params)

        def log_prob(x: Array, t: Array) -> Array:
            of_classes = log_probs(x, jnp.broadcast_to(t, x.shape[:1]))
            return jnp.take_along_axis(of_classes, label[:, None], axis=1)[:, 0]

        return with_spread(
            denoise,
            lambda inner: guidance.classifier(
                inner, log_prob, g.classifier_scale, path=self.path(params)
            ),
        )

    def solve(
        self,
        state: TrainState,
        key: Key,
        num: int,
        label: Array | None = None,
        *,
        along: bool = False,
    ) -> Solution:
        """Samples as the network sees them; along: the states at all the times.

        Raises UserError for labels that the model does not know.
        """
        label_key, noise_key, solver_key = jax.random.split(key, 3)
        label = labels.asked_for(label_key, label, num, self.asked_classes)
        denoise = self.guided(state, label)
        path = self.path(state.averaged[0])
        noise = jax.random.normal(noise_key, (num, *self.shape))
        return self.sampler.run(
            denoise,
            # N(0, I), but on paths that let the variance of the noise explode
            jnp.maximum(path.sigma(jnp.ones(())), 1.0) * noise,
            self.times(path),
            path=path,
            key=solver_key,
            end=self.end,
            along=along,
        )
