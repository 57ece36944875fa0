"""Times at which a network is trained."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.diffusion.times import shifted
from genjax.fields import Positive
from genjax.typing import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Random times in (0, 1), shifted towards the noise if shift > 1.

    "logit_normal": log(t / (1 - t)) ~ N(mean, std^2), so that middle times are
    drawn most (Esser et al. 2024, arXiv:2403.03206, section 3.1; t = 0 is data there as
    here). mean > 0 leans towards the noise.
    """

    distribution: Literal["uniform", "logit_normal"] = "uniform"  # of t in training
    mean: float = 0.0  # of "logit_normal"
    std: Positive = 1.0  # of "logit_normal"
    shift: Positive = 1.0  # above 1: more times near the noise (`times.shifted`)

    def draw(self, key: Key, num: int) -> Float[Array, " n"]:
        """(num,) times."""
        if self.distribution == "uniform":
            t = jax.random.uniform(key, (num,))
        else:
            t = jax.nn.sigmoid(self.mean + self.std * jax.random.normal(key, (num,)))
        return jnp.asarray(shifted(t, self.shift))
