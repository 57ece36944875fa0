"""--mode=implicit: a GAN on the line, frame by frame over training.

For experiments with a `code` of one number that has a prior, and `discriminate`, on a
density of the line that is known. Every checkpoint that the run kept
(training.keep_every) is a frame: the data's density p, the generator's q, which is
exact, the discriminator beside its optimum p / (p + q), and the map z -> x. With
--beside, a second run's curves are drawn as well. --step is the last frame.

implicit/<step>_density.gif, .png   all frames, and the last
implicit/<step>_curves.png          the generator's gradient and the distances of p and
                                    q over training, of this run and of --beside
evaluation/<step>_implicit.json     {"step", "protocol", "metrics": of the last frame,
                                    "frames": of all, "beside": of the other run's}
"""

import dataclasses
from typing import Any

import numpy as np

from genjax.fields import PlacePath
from genjax.modes.beside import load_beside
from genjax.modes.implicit.frames import BINS, Frame
from genjax.modes.implicit.pictures import Curve, draw, draw_curves, window
from genjax.modes.implicit.read import check_line, read_frames
from genjax.modes.mode import (
    Mode,
    Trained,
    check_stop,
    data_and_weights,
    report,
    say,
)
from genjax.pictures import grids
from genjax.places import place
from genjax.run import Run, Weights
from genjax.training import distributed, metrics
from genjax.typing import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Trained):
    """The flags of --mode=implicit; the default is the raw weights."""

    beside: PlacePath | None = None  # run folder of another model, to show its curves

    @property
    def suffix(self) -> str:
        """The end of file names for other weights; no seed, as nothing is random."""
        return "_ema" if self.weights == "ema" else ""


def check(run: Run, options: Options) -> None:
    """Raises UserError for data and models that have no such picture."""
    check_line(run)
    if run.exported is not None:
        raise UserError(
            "--mode=implicit shows every checkpoint of a run, and "
            f"{run.exported.folder} is an exported model, which has one"
        )


def implicit(run: Run, options: Options) -> None:
    """Draws the frames of a run, and writes what this module's head says.

    With --weights=ema the names end in _ema. Raises UserError for a --beside that is no
    run of a GAN on the same data.
    """
    other = None
    if options.beside is not None:
        other = load_beside(run, place(options.beside, "--beside"))
        MODE.check_model(other)
        check_line(other)
    weights: Weights = options.weights or "raw"
    frames = read_frames(run, weights)
    curves, more = [curve_of(run, frames)], {"frames": rows_of(frames)}
    if other is not None:
        beside = read_frames(other, weights)
        curves.append(curve_of(other, beside))
        more["beside"] = rows_of(beside)
    if distributed.is_first():
        paint(run, options, frames, curves)
    protocol = data_and_weights(run, options, weights) | protocol_of(run, frames)
    name = f"{{step}}_implicit{options.suffix}"
    report(run, name, protocol, frames[-1].numbers(), **more)


def loss_of(run: Run) -> str | None:
    """config.method.loss, where there is one."""
    return run.config.to_dict().get("method", {}).get("loss")


def curve_of(run: Run, frames: list[Frame]) -> Curve:
    """The curves of the frames, and of the metrics that training logged."""
    loss = loss_of(run)
    name = f"{run.workdir.name} ({loss})" if loss else run.workdir.name
    rows = [(frame.step, frame.numbers()) for frame in frames]
    values = {
        number: ([step for step, _ in rows], [row[number] for _, row in rows])
        for number in ("jsd", "wasserstein1")
    }
    last = frames[-1].step
    lines = [
        line
        for line in metrics.read_lines(run.workdir, "train")
        if "g_grad_norm" in line and line["step"] <= last
    ]
    if lines:
        steps = [line["step"] for line in lines]
        values["g_grad_norm"] = (steps, [line["g_grad_norm"] for line in lines])
    return Curve(name, values)


def paint(run: Run, options: Options, frames: list[Frame], curves: list[Curve]) -> None:
    """The pictures and the film."""
    folder, suffix = run.workdir / "implicit", options.suffix
    limits, pictures = window(frames), []
    for frame in frames:
        check_stop(run, "while drawing the frames")
        pictures.append(draw(frame, limits))
    film = [in_few_colours(picture) for picture in pictures]
    grids.save_gif(folder / f"{run.step}_density{suffix}.gif", film)
    grids.save_png(folder / f"{run.step}_density{suffix}.png", pictures[-1])
    grids.save_png(folder / f"{run.step}_curves{suffix}.png", draw_curves(curves))
    say(f"pictures in {folder}")


def in_few_colours(picture: grids.Picture) -> grids.Picture:
    """Six levels a channel: lines look the same, and a film takes half the bytes."""
    return (np.round(picture / 51.0) * 51.0).astype(np.uint8)


def rows_of(frames: list[Frame]) -> list[dict[str, Any]]:
    """The numbers of each frame, with its step."""
    return [{"step": frame.step, **frame.numbers()} for frame in frames]


def protocol_of(run: Run, frames: list[Frame]) -> dict[str, Any]:
    """How the numbers were taken."""
    line = frames[0].line
    return {
        "loss": loss_of(run),
        "n_frames": len(frames),
        "bins": f"{BINS} from {line.edges[0]:.4g} to {line.edges[-1]:.4g}",
        "q": f"exact masses of g(z), linear between {len(line.z)} values of z",
        "jsd": "Jensen-Shannon divergence of p and q in nats, at most log 2 = 0.693",
        "discriminator_gap": "mean |D - p / (p + q)| under (p + q) / 2; that optimum "
        "is of the losses minimax and non_saturating",
        "wasserstein1": "of p and q, in the unit of the data",
        "outside": "the mass of q beyond the bins",
    }


MODE = Mode(
    name="implicit",
    summary="a GAN on the line over training: both densities and the discriminator",
    example="python launch.py --config=configs/gan_1d.py --mode=implicit",
    options=Options,
    needs=("code.prior", "discriminate"),
    models="GANs whose discriminator sees single examples, method.packing=1",
    check=check,
    run=implicit,
)
