"""Points of the plane coloured by class, in panels side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from genjax.pictures.figures import new_figure, picture_of
from genjax.pictures.grids import Picture

INCHES = 4.5  # a panel's side
MAX_IN_LEGEND = 20


class Panel(NamedTuple):
    """One scatter plot."""

    title: str
    axes: tuple[str, str]
    points: Float[np.ndarray, "n 2"]


def scatter(
    panels: Sequence[Panel], labels: Int[np.ndarray, " n"], num_classes: int
) -> Picture:
    """The panels in a row. The same example has the same colour in each.

    labels: the class of each point, in every panel; num_classes 0 colours none.
    """
    width = INCHES * len(panels) + (0.8 if num_classes else 0.0)
    figure = new_figure(width, INCHES)
    colours = "tab10" if num_classes <= 10 else "nipy_spectral"
    for position, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), position)
        dots = axes.scatter(
            *panel.points.T,
            c=labels if num_classes else None,
            cmap=colours if num_classes else None,
            vmin=-0.5 if num_classes else None,
            vmax=max(num_classes, 10) - 0.5 if num_classes else None,
            s=4,
            linewidths=0,
        )
        axes.set(title=panel.title, xlabel=panel.axes[0], ylabel=panel.axes[1])
        if position == len(panels) and 0 < num_classes <= MAX_IN_LEGEND:
            every: Any = None  # matplotlib's hints leave it out
            handles, names = dots.legend_elements(num=every)
            figure.legend(handles, names, loc="outside right upper")
    return picture_of(figure)
