"""A picture of points on the line: their histogram, and the density they came from."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from genjax.pictures.figures import new_figure, picture_of
from genjax.pictures.grids import Interval, Picture

BINS = 100

CDF = Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]


def histogram_picture(
    points: Float[np.ndarray, "n 1"],
    bounds: Interval,
    *,
    cdf: CDF | None = None,
) -> Picture:
    """The points' density over an interval, beside that of the data.

    cdf: of the data, P(X <= x), where it is known: drawn as the share of each of BINS
        bins, to be compared with the bars. Points outside the bounds, or not finite,
        are not shown, but count.
    """
    edges = np.linspace(*bounds, BINS + 1)
    width = edges[1] - edges[0]
    inside = points[np.isfinite(points)]
    counts, _ = np.histogram(inside, bins=edges)
    figure = new_figure(5.0, 3.0)
    axes = figure.add_subplot()
    shares = counts / max(len(points), 1)
    axes.stairs(shares / width, edges, fill=True, color="C2", label="samples")
    if cdf is not None:
        known = np.diff(cdf(edges)) / width
        axes.stairs(known, edges, color="black", label="data")
        axes.set_ylim(0.0, 1.6 * known.max())  # the same in every picture of a run
    axes.set(xlim=bounds, xlabel="x", ylabel="density")
    axes.legend(loc="upper right")
    return picture_of(figure)
