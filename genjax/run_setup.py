"""A run as every mode sees it: its data, its experiment, its checkpoints."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from genjax.commandline import Options
from genjax.data import datasets
from genjax.data.pipeline import eval_batches, gather
from genjax.data.split import Dataset, Split
from genjax.experiment import Experiment, MakeExperiment
from genjax.train import compile, distributed
from genjax.train import workdir as folder
from genjax.train.checkpoint import Checkpointer
from genjax.train.sharding import batch_sharding, make_mesh
from genjax.train.stop import StopRequest
from genjax.typing import Config, DataSpec, UserError


@dataclasses.dataclass(frozen=True)
class Setup:
    """What every mode needs."""

    options: Options
    config: Config
    dataset: Dataset
    experiment: Experiment
    compiled: compile.CompiledExperiment
    stop: Callable[[], bool]  # asked of all processes together

    @property
    def workdir(self) -> Path:
        """The run folder."""
        return self.options.workdir


def prepare(
    options: Options, make_experiment: MakeExperiment, stop: Callable[[], bool]
) -> Setup:
    """Loads the data, makes the experiment and lays it out on the devices."""
    config = options.config
    mesh = make_mesh(config.mesh.fsdp)
    dataset = datasets.load(**config.data)
    experiment = make_experiment(config, dataset.spec)
    compiled = compile.compile_experiment(experiment, mesh, gather=gather)
    return Setup(
        options,
        config,
        dataset,
        experiment,
        compiled,
        lambda: distributed.any_process(stop()),
    )


def test_batches(setup: Setup) -> Iterator[tuple[dict[str, Any], Any]]:
    """The test split, or its first eval.limit examples: (batch, mask)."""
    return eval_batches(
        setup.dataset.eval,
        batch_size=setup.config.eval.batch_size,
        sharding=batch_sharding(setup.compiled.mesh),
        limit=setup.config.eval.limit,
    )


def num_test(setup: Setup) -> int:
    """How many examples those are."""
    num, limit = len(setup.dataset.eval), setup.config.eval.limit
    return num if limit is None else min(num, limit)


def examples_of(split: Split, chunk: int = 4096) -> Iterator[np.ndarray]:
    """All examples of a split in order, on the host."""
    return split.chunks(chunk)


def load_trained(
    options: Options, make_experiment: MakeExperiment, stop: StopRequest
) -> tuple[Setup, Any, int]:
    """(setup, state, step) of a trained run. Raises UserError if there is none."""
    folder_of_run = options.workdir / "checkpoints"
    if not folder_of_run.is_dir():
        raise UserError(
            f"there is no trained run in {options.workdir}; train first, or name "
            "another --workdir"
        )
    if not options.override_config:
        folder.check_same_config(options.workdir, options.config.to_dict())
    setup = prepare(options, make_experiment, stop)
    with open_checkpoints(setup) as checkpointer:
        restored = restore(setup, checkpointer, step=options.step)
    if restored is None:
        raise UserError(f"{folder_of_run} holds no checkpoint yet; train first")
    return setup, *restored


def open_checkpoints(setup: Setup) -> Checkpointer:
    """The run's checkpoints, which carry what tells one run from another."""
    training = setup.config.training
    return Checkpointer(
        setup.workdir / "checkpoints",
        keep_last=training.keep_last,
        keep_every=training.keep_every,
        best_metric=training.keep_best_by,
        meta={
            "config_hash": folder.config_hash(setup.config.to_dict()),
            "data": setup.dataset.fingerprint,
        },
    )


def restore(
    setup: Setup, checkpointer: Checkpointer, *, step: int | None
) -> tuple[Any, int] | None:
    """(state, step) of the newest intact checkpoint, or of `step`; None without one.

    Raises UserError if it was trained on other data.
    """
    restored = checkpointer.restore(setup.compiled.abstract_state, step)
    if restored is None:
        return None
    stored, given = restored.meta.get("data"), setup.dataset.fingerprint
    if stored != given and not setup.options.override_config:
        raise UserError(
            f"the checkpoints in {setup.workdir} were trained on other data "
            f"(fingerprint {stored}, here {given}); give the same data, another "
            "--workdir, or --override_config"
        )
    return restored.state, restored.step


def initial_state(setup: Setup) -> Any:
    """The state before step 0, with the pretrained parts that the experiment names."""
    state = setup.compiled.init(setup.config.seed)
    if setup.experiment.warm_start is not None:
        state = setup.experiment.warm_start(state)
        state = compile.place(state, setup.compiled.abstract_state)
    return state


def check_labels(labels: tuple[int, ...] | None, spec: DataSpec) -> None:
    """Raises UserError for a class that the data set does not have."""
    wrong = [label for label in labels or () if label >= spec.num_classes]
    if wrong:
        raise UserError(
            f"--labels: {spec.name} has the classes 0 ... {spec.num_classes - 1}, "
            f"not {wrong[0]}"
        )
