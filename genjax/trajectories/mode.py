"""--mode=trajectories: how noise becomes data, in pictures, films and a few numbers.

For every experiment with a `process`. <workdir>/trajectories/<step>_<name>.png holds

of images   strip         test images noised, and sampling from the same noise
            inversion     test images up the probability flow to noise, and back
            trajectories  samples at several times, also as .gif
of points   field         the flow, the samples and their ways at several times
            points (.gif) the samples as they move
            density       the learned beside the true density
            inversion     as for images

and evaluation/<step>_trajectories.json the numbers: inversion_rms, learned_mass,
total_variation, kl; its protocol says what they are.
"""

import json
import math
import sys
from typing import Any

from tqdm import tqdm

from genjax.commandline import Options
from genjax.experiment import MakeExperiment
from genjax.pictures import grids
from genjax.run_setup import check_labels, load_trained
from genjax.train import distributed, metrics
from genjax.train.stop import StopRequest
from genjax.trajectories import images, points
from genjax.trajectories.drawn import Drawn
from genjax.trajectories.view import View, look


def trajectories(
    options: Options, make_experiment: MakeExperiment, stop: StopRequest
) -> None:
    """Draws the process of a checkpoint, and writes what this module's head says.

    With --weights=raw or another --seed the names end in _raw, _seed1. Each picture is
    written when it is done, so a stop keeps what there is.
    Raises UserError for a model without a process, and for data of neither kind.
    """
    setup, state, step = load_trained(options, make_experiment, stop)
    check_labels(options.labels, setup.dataset.spec)
    view = look(setup, state)
    is_image = setup.dataset.spec.dtype == "uint8"
    painters = images.PAINTERS if is_image else points.PAINTERS
    first = distributed.is_first()
    numbers: dict[str, Any] = {}
    with tqdm(painters, disable=not first) as bar:
        for paint in bar:
            view.check_stop()
            bar.set_description(paint.__name__)
            drawn = paint(view)
            numbers |= drawn.numbers
            if first:
                save(view, step, drawn)
    if first:
        report(view, step, numbers)


def suffix_of(view: View) -> str:
    """What tells these files from those of other weights and seeds."""
    options = view.setup.options
    suffix = "_raw" if options.weights == "raw" else ""
    return suffix + (f"_seed{options.seed}" if options.seed else "")


def save(view: View, step: int, drawn: Drawn) -> None:
    """The files of one painter."""
    folder, suffix = view.setup.workdir / "trajectories", suffix_of(view)
    for name, picture in drawn.pictures.items():
        grids.save_png(folder / f"{step}_{name}{suffix}.png", picture)
    for name, pictures in drawn.films.items():
        grids.save_gif(folder / f"{step}_{name}{suffix}.gif", pictures)


def report(view: View, step: int, numbers: dict[str, Any]) -> None:
    """The numbers, in their file and on the standard output."""
    workdir = view.setup.workdir
    bad = [name for name, value in numbers.items() if not math.isfinite(value)]
    view.protocol["not_finite"] = bad
    result = {"protocol": view.protocol, "metrics": numbers}
    path = metrics.write_evaluation(
        workdir, step, result, suffix=f"_trajectories{suffix_of(view)}"
    )
    print(json.dumps({"step": step, **result}, indent=2))
    print(f"pictures in {workdir / 'trajectories'}", file=sys.stderr)
    print(path, file=sys.stderr)
