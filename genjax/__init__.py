"""genjax: deep generative models in JAX, one contract and one loop for every family.

    import genjax

    run = genjax.train("ddpm_digits:tiny", "runs/tiny")
    run = genjax.load("runs/tiny")
    images = run.sample(16, seed=0)

What is in `__all__` is imported when it is first asked for: `import genjax`
alone loads no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genjax.modes.diffusers import from_diffusers
    from genjax.modes.train import train_config as train
    from genjax.run import Run, load

__version__ = "0.1.0"
__all__ = ["Run", "from_diffusers", "load", "train"]

_HOMES = {
    "Run": ("genjax.run", "Run"),
    "load": ("genjax.run", "load"),
    "from_diffusers": ("genjax.modes.diffusers", "from_diffusers"),
    "train": ("genjax.modes.train", "train_config"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
