"""config.sampler: the solver that leads from noise to a sample, and its times."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from genjax.diffusion import solvers, times
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.posterior import DenoiseAndSpread, Variance
from genjax.diffusion.solvers import SOLVERS, Solution
from genjax.fields import Count, NonNegative, Positive, Share
from genjax.typing import Array, Key, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guidance:
    """Guidance away from a weaker model (`genjax.diffusion.guidance`)."""

    scale: float = 1.0  # classifier-free guidance scale; 1: no guidance
    autoguidance_scale: float = 1.0  # away from the EMA of optim.snapshot_step; 1: none
    classifier_scale: NonNegative = 0.0  # scale of classifier guidance; 0: none
    min_t: Share = 0.0  # smallest t with guidance; t = 0 is data
    max_t: Share = 1.0  # largest t with guidance; t = 1 is noise
    rescale: Share = 0.0  # 1: samples keep the contrast they have without guidance

    def __post_init__(self) -> None:
        if self.min_t > self.max_t:
            raise UserError(
                "config.sampler.guidance needs min_t <= max_t, not "
                f"{self.min_t} and {self.max_t}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """A solver, its times, its options. Refuses an option that the solver ignores."""

    name: solvers.Name = "ddim"  # the solver
    num_steps: Count = 50  # each costs one evaluation; heun and midpoint: two
    spacing: times.Spacing = "uniform"  # of the steps (`times.spaced`)
    rho: Positive = 7.0  # of spacing="karras"
    shift: Positive = 1.0  # above 1: more of the times lie near the noise
    clip: bool = False  # hold x0_hat in the data's range
    guidance: Guidance = Guidance()
    variance: Variance = "fixed_large"  # of ancestral's steps, and of likelihood "vlb"
    eta: Share = 0.0  # ddim: 1 adds as much noise as ancestral, 0 none
    churn: NonNegative = 0.0  # heun: S_churn of EDM, 0 is deterministic
    churn_min: NonNegative = 0.0  # heun: smallest sigma / alpha with churn
    churn_max: Positive = 1000.0  # heun: largest sigma / alpha with churn
    churn_noise: Positive = 1.0  # heun: factor of the churn's noise
    snr: Positive = 0.16  # predictor_corrector: r of the Langevin steps
    corrector_steps: Count = 1  # predictor_corrector: Langevin steps after each step
    tolerance: Positive = 1e-4  # adaptive: tolerated error of each step

    def __post_init__(self) -> None:
        if self.tolerance < 1e-7:
            raise UserError(
                f"config.sampler.tolerance={self.tolerance} is finer than float32: "
                "give at least 1e-7"
            )
        if self.rho != _default("rho") and self.spacing != "karras":
            raise UserError(
                f"config.sampler.rho={self.rho} is of spacing='karras', and "
                f"{self.spacing!r} would not use it: leave it at {_default('rho')}"
            )
        for option, owners in _owners().items():
            if self.name in owners or getattr(self, option) == _default(option):
                continue
            if option == "variance":  # the likelihood has a use for it
                continue
            raise UserError(
                f"config.sampler.{option}={getattr(self, option)} is an option of "
                f"{' and '.join(owners)}, and {self.name!r} would not use it: choose "
                f"another sampler.name, or leave it at {_default(option)}"
            )

    @property
    def options(self) -> dict[str, Any]:
        """The options that the solver takes, by name."""
        return {name: getattr(self, name) for name in SOLVERS[self.name].options}

    @property
    def evaluations(self) -> int | None:
        """Model evaluations per sample; None where they are known only afterwards."""
        count = SOLVERS[self.name].evaluations
        return None if count is None else count(self.num_steps, self.options)

    def turned_to(self, name: solvers.Name, num_steps: int) -> "Sampler":
        """The same with another solver; options that both take keep their values."""
        unused = {o for o, owners in _owners().items() if name not in owners}
        kept = {o: _default(o) for o in unused - {"variance"}}
        return dataclasses.replace(self, name=name, num_steps=num_steps, **kept)

    def times(
        self, path: GaussianPath, *, end: float, num_timesteps: int | None = None
    ) -> Float[np.ndarray, " n"]:
        """num_steps + 1 falling times from 1 to 0 (`times.spaced`).

        Raises UserError for more steps than timesteps, and a shift of discrete time.
        """
        if num_timesteps is not None and self.num_steps > num_timesteps:
            raise UserError(
                f"config.sampler.num_steps must be in 1 ... {num_timesteps} "
                f"(method.num_timesteps), not {self.num_steps}"
            )
        if num_timesteps is not None and self.shift != 1.0:
            raise UserError(
                f"config.sampler.shift={self.shift} would leave the timesteps on which "
                "this network was trained: leave it at 1"
            )
        grid = times.spaced(
            self.spacing,
            self.num_steps,
            path=path,
            end=end,
            num_timesteps=num_timesteps,
            rho=self.rho,
        )
        return grid if self.shift == 1.0 else times.shifted(grid, self.shift)

    def run(
        self,
        denoise: Denoise | DenoiseAndSpread,
        x: Float[Array, " b *d"],
        times: Float[np.ndarray, " n"],
        *,
        path: GaussianPath,
        key: Key,
        end: float,
        along: bool = False,
    ) -> Solution:
        """The solver's x at times[-1], from x at times[0] (`solvers.solve`)."""
        return solvers.solve(
            self.name,
            denoise,
            x,
            times,
            path=path,
            key=key,
            end=end,
            along=along,
            **self.options,
        )


def _owners() -> dict[str, list[str]]:
    """{option: the solvers that take it}."""
    owners: dict[str, list[str]] = {}
    for name, solver in SOLVERS.items():
        for option in solver.options:
            owners.setdefault(option, []).append(name)
    return owners


def _default(option: str) -> object:
    return Sampler.__dataclass_fields__[option].default
