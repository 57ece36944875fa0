"""What is drawn: a trained model's process, compiled, and some of the test examples."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genjax.data.pipeline import eval_batches
from genjax.evaluation.runner import choose_weights
from genjax.experiment import Process
from genjax.run_setup import Setup
from genjax.train.sharding import batch_sharding, replicated
from genjax.typing import Key, Stopped, UserError

TRAJECTORY_STREAM = 5  # of --seed; 2, 3, 4 and 6 are those of the other modes


@dataclasses.dataclass(frozen=True)
class View:
    """A trained model and its process.

    key: all draws come from it. protocol: filled as the work is done.
    """

    setup: Setup
    state: Any
    process: Process
    key: Key
    protocol: dict[str, Any]

    def compiled(
        self, function: Callable[..., Any], *, static: tuple[int, ...] = ()
    ) -> Callable[..., Any]:
        """function(state, ...) without the state, jitted, and its result as numpy.

        static: places of its arguments, the state's being 0.
        """
        whole = replicated(self.setup.compiled.mesh)
        run = jax.jit(function, static_argnums=static, out_shardings=whole)
        return lambda *inputs: jax.tree.map(np.asarray, run(self.state, *inputs))

    def reverse(self, num: int) -> np.ndarray:
        """(F, num, *shape): samples on their way, with --labels if there are any.

        A run of num samples is the same at every call, and other than one of num + 1.
        """
        labels = self.setup.options.labels
        given = () if labels is None else (np.resize(np.array(labels, np.int32), num),)
        key = jax.random.fold_in(self.key, num)
        return self.compiled(self.process.reverse, static=(2,))(key, num, *given)

    def test_examples(self, num: int) -> tuple[dict[str, Any], int]:
        """(a batch of eval.batch_size rows, how many of them to look at).

        Those are at most num test examples, evenly spaced.
        """
        split, size = self.setup.dataset.eval, self.setup.config.eval.batch_size
        num = min(num, len(split), size)
        rows = np.arange(num) * len(split) // num
        batches = eval_batches(
            split,
            batch_size=size,
            sharding=batch_sharding(self.setup.compiled.mesh),
            rows=rows,
        )
        batch, _ = next(iter(batches))
        return batch, num

    @functools.cached_property
    def times(self) -> np.ndarray:
        """Of the frames, falling."""
        return np.array(self.process.times)

    def some(self, num: int) -> np.ndarray:
        """At most num frames, evenly among the steps, from the first to the last."""
        last = len(self.times) - 1
        return np.unique(np.linspace(0, last, num).round().astype(int))

    def check_stop(self) -> None:
        """Raises Stopped if it was asked for."""
        if self.setup.stop():
            raise Stopped("while drawing the process")


def look(setup: Setup, state: Any) -> View:
    """The view of a state. Raises UserError for a model without a process."""
    process, spec = setup.experiment.process, setup.dataset.spec
    if process is None:
        raise UserError(
            f"experiments/{setup.config.experiment}.py has no process to look at; "
            "--mode=trajectories is for models that make data of noise step by step"
        )
    if spec.dtype != "uint8" and spec.shape != (2,):
        raise UserError(
            "--mode=trajectories draws images and points of the plane, and "
            f"{spec.name} has examples of shape {spec.shape}"
        )
    state, weights = choose_weights(setup.experiment, state, setup.options.weights)
    sampler = setup.config.get("sampler") or {}
    protocol = {
        "data": spec.name,
        "weights": weights,
        "seed": setup.options.seed,
        "sampler": sampler.get("name"),
        "num_steps": len(process.times) - 1,
        "not_available": {},
        "pictures": {},
    }
    if sampler.get("name") == "adaptive":
        protocol["sampler"] = "ddim in the place of adaptive, which has no fixed steps"
    key = jax.random.fold_in(jax.random.key(setup.options.seed), TRAJECTORY_STREAM)
    return View(setup, state, process, key, protocol)
