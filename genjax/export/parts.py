"""What of a state is exported: one set of weights, by name.

A `TrainState` gives "params/...", "stats/...", "step" and, for autoguidance,
"early_params/...": the average in the place of the weights if it has one, and no
optimizer. Whatever else a state holds goes as it is (codebooks, data moments), except
what `Experiment.training_only` names.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from genjax.state import TrainState
from genjax.training.checkpoint import tree, words
from genjax.typing import UserError


def exported(state: Any, training_only: Sequence[str] = ()) -> dict[str, Any]:
    """{name: array} of a state, whose arrays may be abstract."""
    named = tree.named_leaves(_thin(state))
    return {name: x for name, x in named.items() if not _matches(name, training_only)}


def restored(
    arrays: Mapping[str, np.ndarray],
    abstract_state: Any,
    training_only: Sequence[str] = (),
) -> Any:
    """The state that `exported` gave these arrays of; the rest of it is zeros.

    Raises UserError for arrays that are missing, too many, or of another shape.
    """
    wanted = exported(abstract_state, training_only)
    arrays = {n: x for n, x in arrays.items() if not _matches(n, training_only)}
    differences = tree.differences_of(
        {name: tree.leaf_of(x) for name, x in arrays.items()},
        {name: tree.leaf_of(x) for name, x in wanted.items()},
    )
    if differences:
        raise UserError(
            "the weights are of another model than the config's: "
            + words.some(differences, "; ")
        )
    thin = _thin(abstract_state)
    names, structure = list(tree.named_leaves(thin)), jax.tree.structure(thin)
    leaves = [
        arrays[name] if name in arrays else np.zeros(leaf.shape, leaf.dtype)
        for name, leaf in zip(names, jax.tree.leaves(thin), strict=True)
    ]
    filled = structure.unflatten(leaves)
    return jax.tree.map(_whole, abstract_state, filled, is_leaf=_is_train_state)


def _thin(state: Any) -> Any:
    """With a dictionary in the place of each TrainState."""

    def thin(part: Any) -> Any:
        if not isinstance(part, TrainState):
            return part
        params, stats = part.averaged
        more = {"early_params": part.early_params, "step": part.step}
        return {"params": params, "stats": stats, **more}

    return jax.tree.map(thin, state, is_leaf=_is_train_state)


def _whole(part: Any, found: Any) -> Any:
    """The TrainState of a dictionary, with zeros for the optimizer's."""
    if not isinstance(part, TrainState):
        return found
    averaged = part.ema_params is not None
    return TrainState(
        params=found["params"],
        stats=found["stats"],
        ema_params=found["params"] if averaged else None,
        ema_stats=found["stats"] if averaged else None,
        opt_state=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), part.opt_state),
        step=found["step"],
        early_params=found["early_params"],
    )


def _is_train_state(part: Any) -> bool:
    return isinstance(part, TrainState)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.match(pattern, name) for pattern in patterns)
