"""Runs of models that are made by hand, and need no training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from genjax import configs
from genjax.experiment import Experiment
from genjax.run import Run
from genjax.state import TrainState

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
    changes: {"section": {"field": value}}. state: None: as initialised, with some
    noise on the weights, of which many begin at 0.
    """
    stated = configs.load(f"{CONFIGS / config.replace(':', '.py:')}").to_dict()
    changed = configs.complete(configs.merged(stated, changes or {}))
    run = Run(workdir, changed, stop=lambda: stop)
    if experiment is not None:
        run.__dict__["experiment"] = experiment
    state = _noisy(run.compiled.init(0)) if state is None else state
    run.__dict__["trained"] = state, step
    return run


def _noisy(state: Any) -> Any:
    if not isinstance(state, TrainState):
        return state

    def noisy(weights: Any) -> Any:
        leaves, tree = jax.tree.flatten(weights)
        keys = jax.random.split(jax.random.key(1), len(leaves) + 1)
        return tree.unflatten(
            x + 0.1 * jax.random.normal(key, x.shape)
            for x, key in zip(leaves, keys[1:], strict=True)
        )

    weights = {name: noisy(getattr(state, name)) for name in ("params", "ema_params")}
    return state._replace(**weights)
