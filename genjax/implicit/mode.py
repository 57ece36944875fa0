"""--mode=implicit: a GAN on the line, frame by frame over training.

For experiments with `decode` and `discriminate`, latent_dim 1, on a density of the line
that is known. Every checkpoint that the run kept (training.keep_every) is a frame: the
data's density p, the generator's q, which is exact, the discriminator beside its
optimum p / (p + q), and the map z -> x. With --beside, a second run's curves are drawn
as well. --step: the last frame.

implicit/<step>_density.gif, .png   all frames, and the last
implicit/<step>_curves.png          the generator's gradient and the distances of p and
                                    q over training, of this run and of --beside
evaluation/<step>_implicit.json     {"step", "protocol", "metrics": of the last frame,
                                    "frames": of all, "beside": of the other run's}
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from genjax.beside import load_beside
from genjax.commandline import Options
from genjax.experiment import MakeExperiment
from genjax.implicit.frames import BINS, Frame
from genjax.implicit.pictures import Curve, draw, draw_curves, window
from genjax.implicit.read import check_line, check_stop, read_frames
from genjax.pictures import grids
from genjax.run_setup import Setup, load_trained
from genjax.train import distributed, metrics
from genjax.train.stop import StopRequest


def implicit(
    options: Options,
    make_experiment: MakeExperiment,
    stop: StopRequest,
    *,
    find_experiment: Callable[[str], MakeExperiment],
) -> None:
    """Draws the frames of a run, and writes what this module's head says.

    With --weights=ema the names end in _ema. Raises UserError for data and models that
    cannot be drawn so, and a --beside that is no run of the same data.
    """
    setup, _, step = load_trained(options, make_experiment, stop)
    check_line(setup)
    beside = load_beside(setup, find_experiment, stop)
    weights = options.weights or "raw"  # those that played against each other
    frames = read_frames(setup, step, weights)
    curves = [curve_of(setup, frames)]
    other: list[Frame] = []
    if beside is not None:
        check_line(beside[0])
        other = read_frames(beside[0], beside[2], weights)
        curves.append(curve_of(beside[0], other))
    if distributed.is_first():
        paint(setup, step, frames, curves)
        report(setup, step, frames, other)


def curve_of(setup: Setup, frames: list[Frame]) -> Curve:
    """Of the frames, and of the metrics that training wrote down."""
    loss = setup.config.method.get("loss")
    name = f"{setup.workdir.name} ({loss})" if loss else setup.workdir.name
    rows = [(frame.step, frame.numbers()) for frame in frames]
    values = {
        number: ([step for step, _ in rows], [row[number] for _, row in rows])
        for number in ("jsd", "wasserstein1")
    }
    last = frames[-1].step
    lines = [
        line
        for line in metrics.read_lines(setup.workdir, "train")
        if "g_grad_norm" in line and line["step"] <= last
    ]
    if lines:
        steps = [line["step"] for line in lines]
        values["g_grad_norm"] = (steps, [line["g_grad_norm"] for line in lines])
    return Curve(name, values)


def suffix_of(setup: Setup) -> str:
    """What tells these files from those of other weights."""
    return "_ema" if setup.options.weights == "ema" else ""


def paint(setup: Setup, step: int, frames: list[Frame], curves: list[Curve]) -> None:
    """The pictures and the film."""
    folder, suffix = setup.workdir / "implicit", suffix_of(setup)
    shown, pictures = window(frames), []
    for frame in frames:
        check_stop(setup)
        pictures.append(draw(frame, shown))
    film = [in_few_colours(picture) for picture in pictures]
    grids.save_gif(folder / f"{step}_density{suffix}.gif", film)
    grids.save_png(folder / f"{step}_density{suffix}.png", pictures[-1])
    grids.save_png(folder / f"{step}_curves{suffix}.png", draw_curves(curves))


def in_few_colours(picture: grids.Picture) -> grids.Picture:
    """Six levels a channel: lines look the same, and a film takes half the bytes."""
    return (np.round(picture / 51.0) * 51.0).astype(np.uint8)


def report(setup: Setup, step: int, frames: list[Frame], other: list[Frame]) -> None:
    """The numbers, in their file; those of the last frame on the standard output."""
    result = {
        "protocol": protocol_of(setup, frames),
        "metrics": frames[-1].numbers(),
        "frames": rows_of(frames),
    }
    if other:
        result["beside"] = rows_of(other)
    path = metrics.write_evaluation(
        setup.workdir, step, result, suffix=f"_implicit{suffix_of(setup)}"
    )
    shown = {name: result[name] for name in ("protocol", "metrics")}
    print(json.dumps({"step": step, **shown}, indent=2))
    print(f"pictures in {setup.workdir / 'implicit'}", file=sys.stderr)
    print(path, file=sys.stderr)


def rows_of(frames: list[Frame]) -> list[dict[str, Any]]:
    """The numbers of each frame, with its step."""
    return [{"step": frame.step, **frame.numbers()} for frame in frames]


def protocol_of(setup: Setup, frames: list[Frame]) -> dict[str, Any]:
    """How the numbers were taken."""
    line = frames[0].line
    return {
        "data": setup.dataset.spec.name,
        "loss": setup.config.method.get("loss"),
        "weights": setup.options.weights or "raw",
        "n_frames": len(frames),
        "bins": f"{BINS} from {line.edges[0]:.4g} to {line.edges[-1]:.4g}",
        "q": f"exact masses of g(z), linear between {len(line.z)} values of z",
        "jsd": "Jensen-Shannon divergence of p and q in nats, at most log 2 = 0.693",
        "discriminator_gap": "mean |D - p / (p + q)| under (p + q) / 2; that optimum "
        "is of the losses minimax and non_saturating",
        "wasserstein1": "of p and q, in the unit of the data",
        "outside": "the mass of q beyond the bins",
    }
