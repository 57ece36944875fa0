"""config.method.sde: the three SDEs of Song et al. 2021 (arXiv:2011.13456) by name."""

import dataclasses
from typing import Literal

from genjax.diffusion import paths
from genjax.diffusion.paths import GaussianPath
from genjax.fields import Positive
from genjax.typing import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SDE:
    """An SDE, of which only the marginals are used: its path."""

    name: Literal["vp", "subvp", "ve"] = "vp"  # how data are noised
    beta_min: Positive = 0.1  # of vp and subvp, at t = 0
    beta_max: Positive = 20.0  # of vp and subvp, at t = 1
    sigma_min: Positive = 0.01  # of ve, near t = 0
    sigma_max: Positive = 50.0  # of ve, at t = 1

    def __post_init__(self) -> None:
        for name in ("beta", "sigma"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if not high > low:
                raise UserError(
                    f"config.method.sde.{name}_max={high} must be more than "
                    f"{name}_min={low}"
                )

    @property
    def path(self) -> GaussianPath:
        """The marginals (`genjax.diffusion.paths`)."""
        match self.name:
            case "vp":
                return paths.vp(self.beta_min, self.beta_max)
            case "subvp":
                return paths.subvp(self.beta_min, self.beta_max)
            case "ve":
                return paths.ve(self.sigma_min, self.sigma_max)
