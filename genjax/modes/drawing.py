"""Examples of a data set as a picture."""

import numpy as np

from genjax.data import toy
from genjax.pictures import grids
from genjax.pictures.histograms import histogram_picture
from genjax.typing import DataSpec

MAX_COLUMNS = 20


def draw_examples(
    examples: np.ndarray,
    spec: DataSpec,
    *,
    frame: np.ndarray,
    columns: int | None = None,
) -> grids.Picture:
    """A grid of images, points in the plane, or a histogram of points of the line.

    frame: points that decide which part of the plane or the line is shown.
    columns: of the grid; None: as many as make a square.
    """
    if spec.dtype == "uint8":
        return grids.image_grid(examples, spec.num_levels, columns=columns)
    if spec.shape != (1,):
        return grids.point_picture(examples, grids.bounds_of(frame))
    cdf = toy.density(spec.name).cdf if spec.name in toy.NAMES else None
    return histogram_picture(examples, grids.interval_of(frame), cdf=cdf)


def class_columns(labels: tuple[int, ...] | None) -> int | None:
    """A column for each of a few labels; None: as many as make a square."""
    return len(labels) if labels and 1 < len(labels) <= MAX_COLUMNS else None
