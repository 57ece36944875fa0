"""Pictures of images on their way: (view) -> what there is to write."""

import jax
import numpy as np

from genjax.pictures import grids
from genjax.trajectories.drawn import Drawn
from genjax.trajectories.view import View

ROWS = 6  # test images on a strip
SAMPLES = 8  # rows of the trajectories
FILM_SAMPLES, FILM_FRAMES = 25, 60
BAND = 8  # pixels between the two halves of a strip


def strip(view: View) -> Drawn:
    """A row an image. Left: noise is added to it. Right: the noise becomes an image."""
    batch, num = view.test_examples(ROWS)
    key = jax.random.fold_in(view.key, 0)
    up = view.compiled(view.process.forward)(batch, key)[:, :num]
    down = view.compiled(view.process.reverse, static=(2,))(key, len(batch["image"]))
    down = down[:, :num]
    note = "left: test images are noised; right: the sampler, from the same noise"
    view.protocol["pictures"]["strip"] = note
    return Drawn(pictures={"strip": halves(view, up, down)})


def inversion(view: View) -> Drawn:
    """The same by the probability flow both ways, which leads back to the image."""
    batch, num = view.test_examples(ROWS)
    up, down = view.compiled(view.process.invert)(batch, view.key)
    levels = view.setup.dataset.spec.num_levels - 1
    error = (up[-1, :num].astype(float) - down[-1, :num]) / levels
    view.protocol["pictures"]["inversion"] = (
        "left: test images, with as much noise as the path has near t = 0, go up the "
        "probability flow; right: down again"
    )
    view.protocol["inversion_rms"] = (
        f"root mean square over the pixels, in [0, 1], of {num} test images and their "
        "reconstructions; without guidance"
    )
    picture = halves(view, up[:, :num], down[:, :num])
    rms = float(np.sqrt(np.mean(np.square(error))))
    return Drawn(pictures={"inversion": picture}, numbers={"inversion_rms": rms})


def samples(view: View) -> Drawn:
    """A row a sample, from noise on the left to data on the right; and as a film."""
    frames = view.reverse(FILM_SAMPLES)
    columns = view.some(view.setup.options.num_images)
    rows = frames[columns, :SAMPLES].swapaxes(0, 1)
    times = ", ".join(f"{t:.3g}" for t in view.times[columns])
    view.protocol["pictures"]["trajectories"] = f"columns: t = {times}"
    film = [
        grids.image_grid(frames[f], view.setup.dataset.spec.num_levels)
        for f in view.some(FILM_FRAMES)
    ]
    return Drawn(
        pictures={"trajectories": rows_of(view, rows)}, films={"trajectories": film}
    )


PAINTERS = (strip, inversion, samples)


def halves(view: View, up: np.ndarray, down: np.ndarray) -> grids.Picture:
    """Frames (F, num, ...) side by side: data to noise, and noise to data."""
    columns = view.some(view.setup.options.num_images)
    left = rows_of(view, up[columns[::-1]].swapaxes(0, 1))
    right = rows_of(view, down[columns].swapaxes(0, 1))
    band = np.full((len(left), BAND, 3), 255, np.uint8)
    return np.concatenate([left, band, right], axis=1)


def rows_of(view: View, rows: np.ndarray) -> grids.Picture:
    """(rows, columns, h, w, c) as a grid."""
    images = rows.reshape(-1, *rows.shape[2:])
    levels = view.setup.dataset.spec.num_levels
    return grids.image_grid(images, levels, columns=rows.shape[1])
