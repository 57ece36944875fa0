"""A frame as the lecture draws it, and the curves of one or two runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from genjax.modes.implicit.frames import Frame
from genjax.pictures.figures import new_figure, picture_of
from genjax.pictures.grids import Picture

LINES = 24  # from z to x, each with the same share of the mass
FAINT = 0.02  # of the highest density: less is left out at both ends
HEADROOM = 1.6  # over the highest data density, for a q that is narrower


class Curve(NamedTuple):
    """A run's numbers over training: (steps, values) by name."""

    name: str
    values: dict[str, tuple[list[int], list[float]]]


def window(frames: Sequence[Frame]) -> tuple[float, float]:
    """The part of the line where some frame has a density."""
    line = frames[0].line
    high = FAINT * line.p.max()
    dense = np.any([line.p > high, *(frame.q > high for frame in frames)], axis=0)
    places = line.middles[dense]
    margin = 0.05 * (places[-1] - places[0])
    return float(places[0] - margin), float(places[-1] + margin)


def draw(frame: Frame, limits: tuple[float, float]) -> Picture:
    """Densities and D over x, and below them where each z goes.

    Goodfellow et al. 2014 (arXiv:1406.2661), figure 1.
    """
    figure = new_figure(6.4, 5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    line, top = frame.line, HEADROOM * frame.line.p.max()
    above.plot(line.middles, line.p, color="black", label="data p")
    above.plot(line.middles, frame.q, color="C2", label="generator q")
    above.set(xlim=limits, ylim=(0, top), ylabel="density", title=f"step {frame.step}")
    above.tick_params(axis="x", labelbottom=True)
    chance = above.twinx()
    chance.plot(line.middles, frame.d, color="C0", label="D")
    chance.plot(
        line.middles, frame.optimum, color="C3", ls=":", lw=1.2, label="p / (p + q)"
    )
    chance.set(ylim=(0, 1.02), ylabel="D(x)")
    handles = [*above.get_lines(), *chance.get_lines()]
    names = [str(handle.get_label()) for handle in handles]
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize="small")
    mapping(below, frame, limits)
    return picture_of(figure)


def mapping(axes: Any, frame: Frame, limits: tuple[float, float]) -> None:
    """Lines up from z, in units of the window, to x = g(z)."""
    z = ndtri((np.arange(LINES) + 0.5) / LINES)
    x = np.interp(z, frame.line.z, frame.x)
    start = limits[0] + (limits[1] - limits[0]) * (0.5 + z / 8.0)  # z in [-4, 4]
    axes.plot([start, x], [np.zeros(LINES), np.ones(LINES)], color="0.4", lw=0.6)
    axes.set(ylim=(0, 1), yticks=(0, 1), yticklabels=("z", "x"), xlim=limits)
    axes.tick_params(axis="x", labelbottom=False, bottom=False)


AXES = {
    "g_grad_norm": ("norm of the generator's gradient", "log"),
    "jsd": ("JSD of p and q, nats", "linear"),
    "wasserstein1": ("Wasserstein-1 of p and q", "linear"),
}


def draw_curves(curves: Sequence[Curve]) -> Picture:
    """The curves of AXES that all the runs have, in panels side by side."""
    names = [name for name in AXES if all(name in c.values for c in curves)]
    figure = new_figure(3.6 * len(names), 3.4)
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), place)
        for curve in curves:
            axes.plot(*curve.values[name], label=curve.name)
        title, scale = AXES[name]
        axes.set(xlabel="step", title=title, yscale=scale)
        axes.title.set_fontsize("medium")
        if name == "jsd":  # densities that are apart
            axes.axhline(np.log(2.0), color="0.6", ls=":", lw=1.0)
            axes.set_ylim(0.0, 0.75)
    figure.axes[0].legend(fontsize="small")
    return picture_of(figure)
