"""Where training begins: at a checkpoint, at random weights, or at another run's."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from genjax.places import place
from genjax.run import Run, load
from genjax.training import metrics, transfer
from genjax.training import workdir as folder
from genjax.training.checkpoint import Checkpointer
from genjax.typing import UserError


class Beginning(NamedTuple):
    """A state and its step.

    notes: those of its checkpoint. init_from: for config.json, see `workdir.Stored`.
    resumed: whether it is from a checkpoint of this run.
    """

    state: Any
    step: int = 0
    notes: Mapping[str, Any] = {}
    init_from: Mapping[str, Any] | None = None
    resumed: bool = False


def begin(run: Run, checkpointer: Checkpointer, init_from: str | None) -> Beginning:
    """From the newest checkpoint if there is one; only else with the other's weights.

    init_from: a run folder; None: the one with which this run began, if any.
    Raises UserError if none of its weights fits.
    """
    before = None
    if (run.workdir / "config.json").exists():
        before = folder.read_run(run.workdir).init_from
    restored = run.restore(checkpointer, step=None)
    if restored is not None:
        if init_from is not None:
            run.say(
                f"the run goes on from its own step {restored.step}: --init_from is "
                "for its first step alone"
            )
        return Beginning(restored.state, restored.step, restored.notes, before, True)
    lines = metrics.read_lines(run.workdir, "train")
    if lines:
        run.say(
            f"{run.workdir} has metrics up to step {lines[-1]['step']}, but no "
            "checkpoint: training starts anew, at step 0"
        )
    run.say("initialising the weights")
    state = run.initial_state()
    if init_from is None and before is not None:
        init_from = str(before["run"])
    if init_from is None:
        return Beginning(state)
    return with_weights_of(run, state, init_from)


def with_weights_of(run: Run, state: Any, source: str) -> Beginning:
    """The state with the weights of the run in the folder `source`; says which."""
    other = open_source(run, source)
    found = transfer.weights_of(other.state()[0])
    state, done = transfer.with_weights(state, found)
    if not done.taken:
        here = next(iter(done.left), "nothing")
        raise UserError(
            f"--init_from={source}: none of its {len(found)} arrays has the path and "
            f"the shape of one of this model's, like {here} {done.left.get(here, '')}"
        )
    run.say(f"weights of {other.workdir}, step {other.step}: {done}")
    record = {"run": str(other.workdir), "step": other.step, "taken": len(done.taken)}
    return Beginning(state, init_from=record | {"left": list(done.left)})


def open_source(run: Run, source: str) -> Run:
    """The run in the folder `source`. Raises UserError if there is none."""
    try:
        if place(source, "--init_from") == run.workdir:
            raise UserError("it names another run, not this one's --workdir")
        return load(source, {"mesh": run.config.to_dict()["mesh"]}, stop=run.stop)
    except UserError as error:
        raise UserError(f"--init_from: {error}") from error
