"""The images of a picture that `image_grid` made, and perhaps `framed`."""

import numpy as np

from genjax.pictures.grids import BACKGROUND, PADDING


def unframed(picture) -> np.ndarray:
    """The grid in the lower right corner: its border is grey, the paper white."""
    pixels = np.asarray(picture)
    grey = (pixels == BACKGROUND).all(axis=-1)
    width, height = _last_run(grey[-1]), _last_run(grey[:, -1])
    return pixels[-height:, -width:]


def cells(picture, columns: int) -> np.ndarray:
    """(rows, columns, 8, 8) grey values of a grid of enlarged digits."""
    pixels = unframed(picture)[PADDING:, PADDING:, 0]
    side = pixels.shape[1] // columns
    rows, factor = pixels.shape[0] // side, (side - PADDING) // 8
    assert (side - PADDING) % 8 == 0 and pixels.shape[0] % side == 0
    grid = pixels.reshape(rows, side, columns, side)
    grid = grid[:, : 8 * factor : factor, :, : 8 * factor : factor]
    return grid.transpose(0, 2, 1, 3).astype(float)


def _last_run(flags: np.ndarray) -> int:
    return int(np.argmin(flags[::-1])) if not flags.all() else len(flags)
