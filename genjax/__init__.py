"""genjax: deep generative models in JAX, one contract and one loop for every family.

    import genjax

    run = genjax.train("ddpm_digits:tiny", "runs/tiny")
    run = genjax.load("runs/tiny")
    images = run.sample(16, seed=0)

`load`, `train` and `Run` are made when they are first asked for: `import genjax` alone
loads no JAX.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

import genjax.train

if TYPE_CHECKING:
    from genjax.modes.train import train_config as train
    from genjax.run import Run, load

__version__ = "0.1.0"
__all__ = ["Run", "load", "train"]

_HOMES = {"Run": "genjax.run", "load": "genjax.run"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Train(types.ModuleType):
    """The package genjax.train, which is a function too: it trains."""

    def __call__(self, *arguments: Any, **options: Any) -> "Run":
        from genjax.modes.train import train_config

        return train_config(*arguments, **options)


# An attribute `train` of this package is its subpackage, whatever is written here, as
# soon as one of its modules is imported.
sys.modules["genjax.train"].__class__ = _Train
