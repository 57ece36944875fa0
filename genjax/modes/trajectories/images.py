"""Pictures of images that become noise, and of noise that becomes images."""

import jax
import numpy as np

from genjax.modes.mode import title_of
from genjax.modes.trajectories.scene import Result, Scene
from genjax.pictures import grids
from genjax.pictures.frame import framed

ROWS = 6  # test images on a strip
SAMPLES = 8  # rows of the trajectories
FILM_SAMPLES, FILM_FRAMES = 25, 60
BAND = 8  # pixels between the two halves of a strip


def strip(scene: Scene) -> Result:
    """A row an image. Left: noise is added to it. Right: the noise becomes an image."""
    batch, num = scene.test_examples(ROWS)
    key = jax.random.fold_in(scene.key, 0)
    up = scene.compiled(scene.process.forward)(batch, key)[:, :num]
    down = scene.compiled(scene.process.reverse, static=(2,))(key, len(batch["image"]))
    down = down[:, :num]
    note = "left: test images are noised; right: the sampler, from the same noise"
    scene.protocol["pictures"]["strip"] = note
    title = "data to noise, and by the sampler from noise to data"
    return Result(pictures={"strip": halves(scene, up, down, title)})


def inversion(scene: Scene) -> Result:
    """Up the probability flow and down again, which leads back to the image."""
    batch, num = scene.test_examples(ROWS)
    up, down = scene.compiled(scene.process.invert)(batch, scene.key)
    levels = scene.run.spec.num_levels - 1
    error = (up[-1, :num].astype(float) - down[-1, :num]) / levels
    scene.protocol["pictures"]["inversion"] = (
        "left: test images, with as much noise as the path has near t = 0, go up the "
        "probability flow; right: down again"
    )
    scene.protocol["inversion_rms"] = (
        f"root mean square over the pixels, in [0, 1], of {num} test images and their "
        "reconstructions; without guidance"
    )
    title = "up the probability flow, and down again"
    picture = halves(scene, up[:, :num], down[:, :num], title)
    rms = float(np.sqrt(np.mean(np.square(error))))
    return Result(pictures={"inversion": picture}, numbers={"inversion_rms": rms})


def samples(scene: Scene) -> Result:
    """A row a sample, from noise on the left to data on the right; and as a film."""
    frames = scene.reverse(FILM_SAMPLES)
    columns = scene.spread(scene.options.num_images)
    rows = frames[columns, :SAMPLES].swapaxes(0, 1)
    times = ", ".join(f"{t:.3g}" for t in scene.times[columns])
    scene.protocol["pictures"]["trajectories"] = f"columns: t = {times}"
    film = [
        scene.titled(grids.image_grid(frames[f], scene.run.spec.num_levels), f)
        for f in scene.spread(FILM_FRAMES)
    ]
    names = [f"{t:.2f}" for t in scene.times[columns]]
    title = title_of(scene.run, scene.run.step, "from noise to samples; t")
    picture = framed(rows_of(scene, rows), title, columns=names)
    return Result(pictures={"trajectories": picture}, films={"trajectories": film})


PAINTERS = (strip, inversion, samples)


def halves(scene: Scene, up: np.ndarray, down: np.ndarray, title: str) -> grids.Picture:
    """Frames (F, num, ...) side by side: data to noise, and noise to data."""
    columns = scene.spread(scene.options.num_images)
    least = grids.MIN_WIDTH // 2
    left = rows_of(scene, up[columns[::-1]].swapaxes(0, 1), least)
    right = rows_of(scene, down[columns].swapaxes(0, 1), least)
    band = np.full((len(left), BAND, 3), 255, np.uint8)
    names = [f"{t:.2f}" for t in scene.times[columns]]
    picture = np.concatenate([left, band, right], axis=1)
    return framed(
        picture,
        title_of(scene.run, scene.run.step, f"{title}; t"),
        columns=[*names[::-1], *names],
    )


def rows_of(
    scene: Scene, rows: np.ndarray, min_width: int = grids.MIN_WIDTH
) -> grids.Picture:
    """(rows, columns, h, w, c) as a grid."""
    images = rows.reshape(-1, *rows.shape[2:])
    levels = scene.run.spec.num_levels
    return grids.image_grid(images, levels, columns=rows.shape[1], min_width=min_width)
