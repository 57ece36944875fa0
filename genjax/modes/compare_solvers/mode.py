"""--mode=solvers: one checkpoint, every solver, the distance against what it costs.

For every experiment with a `diffusion`. Each solver takes as many steps as each budget
of evaluations allows; everything else, the noise included, stays the same.

evaluation/solvers_<step>.json   {"step", "protocol", "rows"}, written after each row
evaluation/solvers_<step>.md     the table, as it is printed
evaluation/solvers_<step>.png    the distance against evaluations and against seconds
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax
from tqdm import tqdm

from genjax import disk
from genjax.choices import nearest
from genjax.diffusion import solvers
from genjax.diffusion.sampler import Sampler
from genjax.fields import Count
from genjax.modes.compare_solvers.measure import (
    Distance,
    calls_per_evaluation,
    make_distance,
    measure,
    name_of,
    plan,
)
from genjax.modes.compare_solvers.report import Rows, plot, table
from genjax.modes.mode import Mode, Trained, data_and_weights, say
from genjax.pictures import grids
from genjax.run import Run
from genjax.streams import Stream, stream_key
from genjax.training import distributed
from genjax.training.metrics import to_json
from genjax.typing import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Trained):
    """The flags of --mode=solvers."""

    solvers: tuple[str, ...] | None = None  # to compare, like ddim,heun; default all
    evaluations: tuple[Count, ...] = (5, 10, 20, 50)  # model evaluations per sample

    def __post_init__(self) -> None:
        for name in self.solvers or ():
            if name not in solvers.NAMES:
                hint = nearest(name, solvers.NAMES)
                hint = hint or f"; there are {', '.join(solvers.NAMES)}"
                raise UserError(f"--solvers: there is no solver {name!r}{hint}")


def check(run: Run, options: Options) -> None:
    """Raises UserError where there is too little to compare."""
    num = run.settings.evaluation.num_samples
    if num < 2:
        raise UserError(f"evaluation.num_samples must be at least 2 here, not {num}")


def compare_solvers(run: Run, options: Options) -> None:
    """Measures the trials that --solvers and --evaluations name, and writes the files.

    With --weights=raw or another --seed the names end in _raw, _seed1. A run that was
    stopped goes on where it was. Raises UserError where no trial was possible.
    """
    assert run.experiment.diffusion is not None
    names = cast(Sequence[solvers.Name] | None, options.solvers)  # Options holds it
    trials = plan(run.experiment.diffusion.sampler, names, options.evaluations)
    state, weights = run.state(options.weights)
    distance = make_distance(run)
    protocol = data_and_weights(run, options, weights) | describe(run, distance)
    path = run.workdir / "evaluation" / f"solvers_{run.step}{options.suffix}.json"
    rows = unfinished_rows(path, run.step, protocol, trials)
    key, first = stream_key(options.seed, Stream.SOLVERS), distributed.is_first()
    try:
        with tqdm(total=len(trials), unit="solver", disable=not first) as bar:
            for trial in trials:
                bar.set_description(name_of(trial))
                if not any(is_of(row, trial) for row in rows):
                    try:
                        row = measure(run, state, trial, key=key, distance=distance)
                        rows.append(row)
                    except UserError as error:  # too many steps for this model, say
                        protocol["not_available"][name_of(trial)] = str(error)
                    if first:
                        write_rows(path, run.step, protocol, rows)
                bar.update()
        protocol["complete"] = True
    finally:  # also what a stop leaves
        if first and rows:
            write(path, run.step, protocol, rows)
    if not rows:
        why = next(iter(protocol["not_available"].values()), "--evaluations is too low")
        raise UserError(f"no solver could be tried: {why}")


def describe(run: Run, distance: Distance) -> dict[str, Any]:
    """The protocol, for the files."""
    assert run.experiment.diffusion is not None
    sampler = run.experiment.diffusion.sampler
    calls = calls_per_evaluation(sampler.guidance)
    guided = f"at most {calls} network calls an evaluation: guidance"
    changed = ("name", "num_steps", "tolerance")
    return {
        "experiment": run.config.experiment,
        "step": run.step,
        "sampler": {
            name: value
            for name, value in dataclasses.asdict(sampler).items()
            if name not in changed
        },
        "distance": distance.name,
        "distance_note": distance.note,
        "floor": distance.floor,
        "n_generated": run.settings.evaluation.num_samples,
        "sample_chunk": run.settings.evaluation.batch_size,
        "network_calls": "One network call an evaluation" if calls == 1 else guided,
        "noise": "the same for every solver",
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "not_available": {},
        "complete": False,
    }


def unfinished_rows(
    path: Path, step: int, protocol: dict[str, Any], trials: list[Sampler]
) -> Rows:
    """The rows of these trials that a stopped run of the same protocol has measured."""
    try:
        found = disk.from_json(path.read_text())
        before, rows = found["protocol"], found["rows"]
        kept = [row for row in rows if any(is_of(row, trial) for trial in trials)]
        for row in kept:
            if row["distance"] is None:  # JSON's word for one that is not finite
                row["distance"] = math.nan
        complete = before.get("complete")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    asked = disk.from_json(to_json(protocol)) | {"not_available": {}}
    return kept if not complete and asked == before | {"not_available": {}} else []


def is_of(row: dict[str, Any], trial: Sampler) -> bool:
    """Whether a row is that of the trial."""
    if trial.name == "adaptive":
        return row["solver"] == "adaptive" and row["tolerance"] == trial.tolerance
    return (row["solver"], row["num_steps"]) == (trial.name, trial.num_steps)


def write_rows(path: Path, step: int, protocol: dict[str, Any], rows: Rows) -> None:
    """The JSON file."""
    text = to_json({"step": step, "protocol": protocol, "rows": rows}, indent=2)
    disk.write_atomically(path, (text + "\n").encode())


def write(path: Path, step: int, protocol: dict[str, Any], rows: Rows) -> None:
    """All three files, and the table on the standard output."""
    write_rows(path, step, protocol, rows)
    text = table(rows, protocol)
    disk.write_atomically(path.with_suffix(".md"), text.encode())
    grids.save_png(path.with_suffix(".png"), plot(rows, protocol))
    print(text)
    for suffix in (".json", ".md", ".png"):
        say(path.with_suffix(suffix))


MODE = Mode(
    name="solvers",
    summary="compares the solvers of a diffusion model: distance against cost",
    example="python launch.py --config=configs/edm_digits.py --mode=solvers "
    "--solvers=ddim,heun,dpmpp_2m --evaluations=5,10,20",
    options=Options,
    needs=("diffusion",),
    models="diffusion models that choose among genjax/diffusion/solvers.py",
    check=check,
    run=compare_solvers,
)
