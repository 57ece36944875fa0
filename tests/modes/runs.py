"""Runs of models that are made by hand, and need no training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genjax import configs
from genjax.experiment import Experiment
from genjax.run import Run

CONFIGS = Path(__file__).parents[2] / "configs"


def run_of(
    workdir: Path,
    config: str,
    experiment: Experiment | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    state: Any = None,
    step: int = 2,
    stop: bool = False,
) -> Run:
    """A run with a state at `step`, as if it had been trained.

    config: like "flow_matching_digits:tiny". experiment: in the place of the config's.
    changes: {"section": {"field": value}}. state: None: as initialised.
    """
    stated = configs.load(f"{CONFIGS / config.replace(':', '.py:')}").to_dict()
    changed = configs.complete(configs.merged(stated, changes or {}))
    run = Run(workdir, changed, stop=lambda: stop)
    if experiment is not None:
        run.__dict__["experiment"] = experiment
    state = run.compiled.init(0) if state is None else state
    run.__dict__["trained"] = state, step
    return run
