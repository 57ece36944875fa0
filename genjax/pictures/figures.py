"""Figures with axes, drawn without a window, as pictures."""

from typing import Any

import numpy as np

from genjax.pictures.grids import Picture

DOTS = 120  # an inch
TEXT = 1.5  # letters and lines, over matplotlib's: to be read at half the size


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure; width and height in inches."""
    # Late, and without pyplot: nothing global, no window, no display needed.
    from matplotlib.figure import Figure

    size = (width / TEXT, height / TEXT)
    return Figure(figsize=size, dpi=TEXT * DOTS, layout="constrained")


def picture_of(figure: Any) -> Picture:
    """What the figure shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
