"""Several flax modules, by name, as one tree of weights and pure functions of it."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.models import traced
from genjax.models.backbone import check_builds
from genjax.models.fields import Dtype
from genjax.typing import Array, DataSpec, Key, Params


@dataclasses.dataclass(frozen=True)
class Networks:
    """Modules that take one array each.

    parts: {name: (module, the shape of one example of what it takes)}.
    dtype: of the arithmetic.
    """

    parts: Mapping[str, tuple[nn.Module, tuple[int, ...]]]
    dtype: Dtype = "float32"

    @classmethod
    def fitting(
        cls,
        spec: DataSpec,
        dtype: Dtype = "float32",
        **parts: tuple[nn.Module, tuple[int, ...]],
    ) -> "Networks":
        """With these parts. Raises UserError if one cannot be built for the data."""
        networks = cls(parts, dtype)
        check_builds(lambda key: networks.init(jax.random.split(key, len(parts))), spec)
        return networks

    def init(self, keys: Iterable[Key]) -> Params:
        """{name: weights}; keys: one for each part, in order."""
        return {
            name: module.init(key, jnp.zeros((1, *shape)))["params"]
            for key, (name, (module, shape)) in zip(
                keys, self.parts.items(), strict=True
            )
        }

    def only(self, *names: str) -> "Networks":
        """These parts alone."""
        return Networks({name: self.parts[name] for name in names}, self.dtype)

    def __call__(self, params: Params, name: str, x: Array) -> Any:
        """What the part says of x, (B, ...), float32."""
        module, variables = self.parts[name][0], {"params": params[name]}
        return traced.apply(module, variables, x, dtype=self.dtype)
