"""All modes by name. A mode's module is loaded when it is asked for."""

import importlib

from genjax.choices import nearest
from genjax.modes.mode import Mode
from genjax.typing import UserError

MODES = {
    "train": "genjax.modes.train",
    "evaluate": "genjax.modes.evaluate",
    "sample": "genjax.modes.sample",
    "show": "genjax.modes.show",
    "latents": "genjax.modes.latents.mode",
    "classify": "genjax.modes.classify",
    "solvers": "genjax.modes.compare_solvers.mode",
    "trajectories": "genjax.modes.trajectories.mode",
    "implicit": "genjax.modes.implicit.mode",
    "translate": "genjax.modes.translate",
    "export": "genjax.modes.export",
    "import": "genjax.modes.diffusers",
}
"""Each module has a `MODE`."""


def find_mode(name: str) -> Mode:
    """The mode of that name. Raises UserError if there is none."""
    if name not in MODES:
        hint = nearest(name, MODES) or f"; there are {', '.join(MODES)}"
        raise UserError(f"there is no --mode={name}{hint}")
    return importlib.import_module(MODES[name]).MODE
