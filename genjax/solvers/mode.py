"""--mode=solvers: one checkpoint, every solver, the distance against what it costs.

For every experiment whose config has sampler.name and sampler.num_steps. For each
solver and each budget of evaluations the experiment is made anew with a config that
takes as many steps as the budget allows; all else, and the noise, stay as they are.

evaluation/solvers_<step>.json   {"step", "protocol", "rows"}, written after each row
evaluation/solvers_<step>.md     the table, as it is printed
evaluation/solvers_<step>.png    the distance against evaluations and against seconds
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from genjax.commandline import Options
from genjax.evaluation.runner import choose_weights
from genjax.experiment import MakeExperiment
from genjax.pictures import grids
from genjax.run_setup import Setup, load_trained
from genjax.solvers.measure import (
    Distance,
    Trial,
    calls_per_evaluation,
    check_sampler,
    make_distance,
    measure,
    plan,
)
from genjax.solvers.report import Rows, plot, table
from genjax.train import distributed, metrics
from genjax.train.stop import StopRequest
from genjax.typing import UserError

SOLVER_STREAM = 6  # of --seed; 2 to 5 are those of the other modes


def compare_solvers(
    options: Options, make_experiment: MakeExperiment, stop: StopRequest
) -> None:
    """Measures the trials that --solvers and --evaluations name, and writes the files.

    With --weights=raw or another --seed the names end in _raw, _seed1. A run that was
    stopped goes on where it was. Raises UserError for a model without a choice of
    samplers, or where no trial was possible.
    """
    check_sampler(options.config)
    trials = plan(options.config, options.solvers, options.evaluations)
    setup, state, step = load_trained(options, make_experiment, stop)
    if setup.experiment.sample is None:
        raise UserError(f"experiments/{setup.config.experiment}.py has no sampler")
    state, weights = choose_weights(setup.experiment, state, options.weights)
    distance = make_distance(setup)
    protocol = describe(setup, step, weights, distance)
    first, path = distributed.is_first(), result_path(setup, step)
    rows = unfinished_rows(path, step, protocol, trials)
    key = jax.random.fold_in(jax.random.key(options.seed), SOLVER_STREAM)
    try:
        with tqdm(total=len(trials), unit="solver", disable=not first) as bar:
            for trial in trials:
                bar.set_description(trial.name)
                if not any(is_of(row, trial) for row in rows):
                    try:
                        row = measure(
                            setup,
                            make_experiment,
                            state,
                            trial,
                            key=key,
                            distance=distance,
                        )
                        rows.append(row)
                    except UserError as error:  # too many steps for this model, say
                        protocol["not_available"][trial.name] = str(error)
                    if first:
                        write_rows(path, step, protocol, rows)
                bar.update()
        protocol["complete"] = True
    finally:  # also what a stop leaves
        if first and rows:
            write(path, step, protocol, rows)
    if not rows:
        why = next(iter(protocol["not_available"].values()), "--evaluations is too low")
        raise UserError(f"no solver could be tried: {why}")


def describe(
    setup: Setup, step: int, weights: str, distance: Distance
) -> dict[str, Any]:
    """How it is done, for the files."""
    config = setup.config
    calls = calls_per_evaluation(config)
    guided = f"at most {calls} network calls an evaluation: guidance"
    return {
        "experiment": config.experiment,
        "data": setup.dataset.spec.name,
        "step": step,
        "weights": weights,
        "seed": setup.options.seed,
        "sampler": {
            name: value
            for name, value in config.sampler.items()
            if name not in ("name", "num_steps", "tolerance")
        },
        "distance": distance.name,
        "distance_note": distance.note,
        "floor": distance.floor,
        "n_generated": config.eval.num_samples,
        "sample_chunk": config.eval.batch_size,
        "network_calls": "One network call an evaluation" if calls == 1 else guided,
        "noise": "the same for every solver",
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "not_available": {},
        "complete": False,
    }


def result_path(setup: Setup, step: int) -> Path:
    """Of the JSON file; the others lie beside it."""
    suffix = "_raw" if setup.options.weights == "raw" else ""
    suffix += f"_seed{setup.options.seed}" if setup.options.seed else ""
    return setup.workdir / "evaluation" / f"solvers_{step}{suffix}.json"


def unfinished_rows(
    path: Path, step: int, protocol: dict[str, Any], trials: list[Trial]
) -> Rows:
    """The rows of these trials that a stopped run of the same protocol has measured."""
    try:
        found = json.loads(path.read_text())
        before, rows = found["protocol"], found["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    asked = json.loads(json.dumps(protocol)) | {"not_available": {}}
    if before.get("complete") or asked != before | {"not_available": {}}:
        return []
    return [row for row in rows if any(is_of(row, trial) for trial in trials)]


def is_of(row: dict[str, Any], trial: Trial) -> bool:
    """Whether a row is that of the trial."""
    if trial.solver == "adaptive":
        return row["solver"] == "adaptive" and row["tolerance"] == trial.tolerance
    return (row["solver"], row["num_steps"]) == (trial.solver, trial.num_steps)


def write_rows(path: Path, step: int, protocol: dict[str, Any], rows: Rows) -> None:
    """The JSON file."""
    text = json.dumps({"step": step, "protocol": protocol, "rows": rows}, indent=2)
    metrics.write_atomically(path, (text + "\n").encode())


def write(path: Path, step: int, protocol: dict[str, Any], rows: Rows) -> None:
    """All three files, and the table on the standard output."""
    write_rows(path, step, protocol, rows)
    text = table(rows, protocol)
    metrics.write_atomically(path.with_suffix(".md"), text.encode())
    grids.save_png(path.with_suffix(".png"), plot(rows, protocol))
    print(text)
    for suffix in (".json", ".md", ".png"):
        print(path.with_suffix(suffix), file=sys.stderr)
