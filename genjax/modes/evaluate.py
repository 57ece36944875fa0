"""--mode=evaluate: all scores of a checkpoint.

It writes evaluation/<step>.json, as training does, with the panel, and
<step>_neighbours.png, which training leaves out: the samples nearest to a training
image, each followed by the nearest ones. With --weights=raw or another --seed the files
are <step>_raw.json, <step>_seed1.json.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from genjax.evaluation.likelihood_table import likelihood_table
from genjax.evaluation.runner import Result
from genjax.fields import Seed, Steps
from genjax.modes.mode import Mode, Trained, check_labels, say, title_of
from genjax.modes.results import score_lines
from genjax.pictures import grids
from genjax.pictures.frame import framed
from genjax.run import Run, Weights
from genjax.training import distributed, metrics
from genjax.typing import DataSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of --mode=evaluate."""

    step: Steps | None = None  # checkpoint to use; default: the newest
    weights: Literal["ema", "raw", "both"] | None = None  # both: one after the other
    seed: Seed = 0  # seed of everything that is drawn
    labels: tuple[int, ...] | None = None  # classes of the samples, in turn: 3 or 0,1
    extractor: str | None = (
        None  # network to compare samples in (evaluation/extractors.py)
    )


def check(run: Run, options: Options) -> None:
    """Raises UserError for labels and weights that the model does not have."""
    check_labels(run, options.labels)
    run.check_weights("ema" if options.weights == "both" else options.weights)


def evaluate(run: Run, options: Options) -> None:
    """Writes the scores, and prints them; the likelihood among its baselines."""
    found: dict[str, Result] = {}
    asked: list[Weights | None] = [None]
    if options.weights == "both":
        asked = ["ema", "raw"]
    elif options.weights is not None:
        asked = [options.weights]
    request = {
        "labels": options.labels,
        "seed": options.seed,
        "extractor": options.extractor,
        "full": True,
    }
    for weights in asked:
        result = run.evaluate(weights=weights, **request)
        found[weights or ""] = result
        if distributed.is_first():
            suffix = Trained(weights=weights, seed=options.seed).suffix
            write(run, result, suffix, run.evaluator(**request).nearest_training)
    if distributed.is_first():
        shown = found if len(found) > 1 else next(iter(found.values()))
        print(metrics.to_json({"step": run.step, **shown}, indent=2))


def write(run: Run, result: Result, suffix: str, nearest: np.ndarray | None) -> None:
    """The files, and the likelihoods on stderr."""
    path = metrics.write_evaluation(run.workdir, run.step, result, suffix=suffix)
    if nearest is not None:
        picture = path.with_name(f"{run.step}{suffix}_neighbours.png")
        title = title_of(run, run.step, "samples nearest to a training image")
        draw_neighbors(picture, nearest, run.spec, title)
    if table := likelihood_table(result):
        say(table)
    for line in score_lines(result):
        say(line)
    say(path)


def draw_neighbors(
    path: Path, examples: np.ndarray, spec: DataSpec, title: str
) -> None:
    """A picture of images (n, 1 + k, h, w, c), two of n in a row; none of points."""
    if spec.dtype == "uint8":
        images = examples.reshape(-1, *spec.shape)
        names = 2 * ["sample", *(f"near {i}" for i in range(1, examples.shape[1]))]
        grid = grids.image_grid(images, spec.num_levels, columns=len(names))
        grids.save_png(path, framed(grid, title, columns=names))


MODE = Mode(
    name="evaluate",
    summary="score a checkpoint: likelihood, distances of samples to the data, a panel",
    example="python launch.py --workdir=runs/ddpm_digits --mode=evaluate",
    options=Options,
    check=check,
    run=evaluate,
)
