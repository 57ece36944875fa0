"""Pictures of samples: a grid of images, or the density of points in the plane."""

import io
import math
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from genjax.disk import write_atomically
from genjax.places import place

PADDING = 2  # pixels between the cells of a grid and around it
BACKGROUND = 96  # grey, which differs from black and from white images
MIN_CELL = 32  # 8x8 digits must be recognisable
MIN_WIDTH = 512  # of a picture

Bounds = tuple[float, float, float, float]
"""(x_min, x_max, y_min, y_max)"""

Interval = tuple[float, float]
"""(x_min, x_max)"""

Picture = UInt8[np.ndarray, "rows columns 3"]


def image_grid(
    images: UInt8[np.ndarray, "n h w c"],
    num_levels: int,
    *,
    columns: int | None = None,
    min_width: int = MIN_WIDTH,
) -> Picture:
    """The images row by row in a grid, small ones enlarged.

    images: c = 1 (grey) or 3, values 0 ... num_levels - 1, shown as 0 ... 255. They
        grow by a whole factor until their longer side is MIN_CELL and the grid is
        min_width pixels wide; each pixel becomes a square.
    columns: images in a row; None for a near-square grid.
    Raises ValueError if there is no image or c is another number.
    """
    count, height, width, channels = images.shape
    if count == 0 or channels not in (1, 3):
        raise ValueError(
            f"a grid takes (n >= 1, h, w, 1 or 3) images, got {images.shape}"
        )
    columns = columns or math.ceil(math.sqrt(count))
    room = (min_width - PADDING) / columns - PADDING  # for a cell
    factor = math.ceil(max(MIN_CELL / max(height, width), room / width))
    levels = np.arange(num_levels) * (255.0 / (num_levels - 1))
    cells = levels.round().astype(np.uint8)[images]
    cells = cells.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = height * factor + PADDING, width * factor + PADDING
    rows = math.ceil(count / columns)
    shape = (rows * height + PADDING, columns * width + PADDING, 3)
    grid = np.full(shape, BACKGROUND, np.uint8)
    for i, cell in enumerate(cells):
        top = i // columns * height + PADDING
        left = i % columns * width + PADDING
        grid[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return grid


def point_picture(
    points: Float[np.ndarray, "n 2"],
    bounds: Bounds,
    *,
    bins: int = 96,
    scale: int = 6,
) -> Picture:
    """The log of the points' density over a rectangle, x to the right and y upwards.

    Each of bins x bins cells is scale x scale pixels; dark is none, yellow the fullest
    cell. Points outside the bounds, or not finite, are not shown.
    """
    x_min, x_max, y_min, y_max = bounds
    counts, _, _ = np.histogram2d(
        *points[np.isfinite(points).all(axis=1)].T,
        bins=bins,
        range=((x_min, x_max), (y_min, y_max)),
    )
    shade = np.log1p(counts) / np.log1p(max(counts.max(), 1.0))
    upright = shade.T[::-1]  # histogram2d has x first; row 0 of a picture is the top
    return _viridis(upright).repeat(scale, axis=0).repeat(scale, axis=1)


def bounds_of(points: Float[np.ndarray, "n 2"], margin: float = 0.1) -> Bounds:
    """A square round the finite points, wider by `margin` of its side on each side.

    Raises ValueError if no point is finite.
    """
    finite = points[np.isfinite(points).all(axis=1)]
    if len(finite) == 0:
        raise ValueError("no point is finite: there is nothing to frame")
    low, high = finite.min(axis=0), finite.max(axis=0)
    side = float((high - low).max()) or 1.0
    half = side * (0.5 + margin)
    x, y = (float(c) for c in (low + high) / 2)
    return (x - half, x + half, y - half, y + half)


def interval_of(points: Float[np.ndarray, "n 1"], margin: float = 0.1) -> Interval:
    """Round the finite points of the line, as `bounds_of` in the plane.

    Raises ValueError if no point is finite.
    """
    return bounds_of(np.repeat(points, 2, axis=1), margin)[:2]


def save_png(path: str | os.PathLike, picture: Picture) -> None:
    """Writes the whole file or none. Raises `genjax.typing.SaveError`."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="png")
    write_atomically(place(path), content.getvalue())


def save_gif(
    path: str | os.PathLike,
    pictures: Sequence[Picture],
    *,
    seconds: float = 6.0,
    pause: float = 2.0,
) -> None:
    """A film that begins anew for ever; the last picture stays for `pause` seconds.

    Writes the whole file or none. Raises `genjax.typing.SaveError`.
    """
    from PIL import Image

    frames = [Image.fromarray(picture) for picture in pictures]
    each = max(round(1000 * seconds / len(frames)), 20)  # less is shown as 100
    content = io.BytesIO()
    frames[0].save(
        content,
        format="gif",
        save_all=True,
        append_images=frames[1:],
        duration=[each] * (len(frames) - 1) + [round(1000 * pause)],
        loop=0,
    )
    write_atomically(place(path), content.getvalue())


def _viridis(shade: Float[np.ndarray, "h w"]) -> Picture:
    """Colours of values in [0, 1]."""
    from matplotlib import colormaps  # late: it takes a while to import

    return colormaps["viridis"](shade, bytes=True)[..., :3]
