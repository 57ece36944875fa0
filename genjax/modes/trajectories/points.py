"""Pictures of points that become noise, and of noise that becomes points."""

from typing import Any

import numpy as np

from genjax.modes.trajectories.density import (
    Grid,
    compare,
    learned_density,
    true_density,
)
from genjax.modes.trajectories.scene import Result, Scene
from genjax.pictures import grids
from genjax.pictures.figures import new_figure, picture_of

POINTS, PATHS = 2000, 60  # samples in the plane, and those with a path
FILM_FRAMES = 60
PANELS = 5
ARROWS = 21  # of the field, on a side
BINS = 128  # of a density, on a side
INVERTED = 100  # test points


def field(scene: Scene) -> Result:
    """At PANELS times: samples, the paths of some so far, and where the flow leads.

    The arrows are those of sampling, from noise to data: against dx/dt.
    """
    frames = scene.reverse(POINTS)
    bounds = frame_of(scene, frames[0])
    panels, grid = scene.spread(PANELS), Grid(bounds, ARROWS)
    velocity = scene.compiled(scene.process.velocity)
    figure = new_figure(4.0 * len(panels), 4.3)
    for place, f in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.scatter(*frames[f].T, s=2, color="0.6", linewidths=0)
        # at t = 0 there is none: that of the time before
        t = scene.times[min(f, len(scene.times) - 2)]
        arrows(axes, grid, velocity(grid.points, np.float32(t)))
        paths = frames[: f + 1, :PATHS].transpose(2, 0, 1)
        axes.plot(*paths, color="C0", linewidth=0.6)
        axes.scatter(*frames[f, :PATHS].T, s=6, color="C3", linewidths=0, zorder=3)
        axes.set(title=f"t = {scene.times[f]:.3g}", aspect="equal")
        axes.set(xlim=bounds[:2], ylim=bounds[2:])
    scene.protocol["pictures"]["field"] = (
        f"{POINTS} samples, {PATHS} of them with their paths; arrows: the probability "
        "flow towards the data, without guidance, of one scale within a panel"
    )
    return Result(pictures={"field": picture_of(figure)})


def arrows(axes: Any, grid: Grid, velocity: np.ndarray) -> None:
    """The field against dx/dt, the longer arrows cut."""
    lengths = np.linalg.norm(velocity, axis=1)
    # a few steep places must not make all other arrows dots
    long = max(float(np.quantile(lengths, 0.9)), 1e-12)
    velocity = velocity * np.minimum(1.0, long / np.maximum(lengths, 1e-12))[:, None]
    across = (grid.bounds[1] - grid.bounds[0]) / grid.side
    axes.quiver(
        *grid.points.T,
        *-velocity.T,
        angles="xy",
        scale_units="xy",
        scale=long / across,
        width=0.003,
        color="0.3",
    )


def film(scene: Scene) -> Result:
    """The density of the samples as they move."""
    frames = scene.reverse(POINTS)
    bounds = frame_of(scene, frames[0])
    pictures = [
        scene.titled(grids.point_picture(frames[f], bounds, bins=64, scale=8), f)
        for f in scene.spread(FILM_FRAMES)
    ]
    scene.protocol["pictures"]["film"] = f"{POINTS} samples as they move"
    return Result(films={"points": pictures})


def densities(scene: Scene) -> Result:
    """The learned density beside the true one, on one scale; and how far they differ.

    A model without a likelihood shows the places of its samples, and no number.
    """
    test = np.concatenate(list(scene.run.dataset.eval.chunks()))
    grid = Grid(grids.bounds_of(test), BINS)
    true = true_density(scene, grid)
    learned, title = learned_density(scene, grid)
    numbers = {}
    if learned is not None and true is not None:
        numbers = compare(learned, true, grid.cell)
        scene.protocol["density"] = (
            f"on {BINS} x {BINS} points; learned_mass: the integral of the learned one "
            "(1 if exact); total_variation (0 to 1) and kl (of learned from true, "
            "nats): of both divided by their sums"
        )
    if learned is None:
        scene.protocol["not_available"]["total_variation"] = title
        learned = histogram(scene.reverse(POINTS)[-1], grid)
    panels = {title: learned}
    panels["true" if true is not None else "test points"] = (
        true if true is not None else histogram(test, grid)
    )
    scene.protocol["pictures"]["density"] = ", ".join(panels)
    return Result(pictures={"density": density_picture(panels, grid)}, numbers=numbers)


def density_picture(panels: dict[str, np.ndarray], grid: Grid) -> grids.Picture:
    """Densities in a row, on the scale of the last."""
    figure = new_figure(4.5 * len(panels) + 0.8, 4.5)
    highest = float(list(panels.values())[-1].max())
    image = None
    for place, (title, density) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        square = density.reshape(grid.side, grid.side)
        image = axes.imshow(
            square, origin="lower", extent=grid.bounds, vmin=0.0, vmax=highest
        )
        axes.set(title=title)
    figure.colorbar(image, ax=figure.axes, label="density")
    return picture_of(figure)


def inversion(scene: Scene) -> Result:
    """Test points up the probability flow to noise, and down again."""
    batch, num = scene.test_examples(INVERTED)
    up, down = scene.compiled(scene.process.invert)(batch, scene.key)
    up, down = up[:, :num], down[:, :num]
    figure = new_figure(8.6, 4.7)
    directions = {"data to noise": up[::-1], "noise to data": down}
    bounds = grids.bounds_of(np.concatenate([up[0], up[-1]]))
    for place, (title, frames) in enumerate(directions.items(), start=1):
        axes = figure.add_subplot(1, 2, place)
        axes.plot(*frames.transpose(2, 0, 1), color="C0", linewidth=0.5)
        axes.scatter(*frames[0].T, s=6, color="0.5", linewidths=0)
        axes.scatter(*frames[-1].T, s=6, color="C3", linewidths=0, zorder=3)
        axes.set(title=title, aspect="equal", xlim=bounds[:2], ylim=bounds[2:])
    distance = np.linalg.norm(up[-1] - down[-1], axis=1)
    scene.protocol["pictures"]["inversion"] = "by the probability flow; red: the end"
    scene.protocol["inversion_rms"] = (
        f"root mean square distance of {num} test points and their reconstructions"
    )
    rms = float(np.sqrt(np.mean(np.square(distance))))
    return Result(
        pictures={"inversion": picture_of(figure)}, numbers={"inversion_rms": rms}
    )


PAINTERS = (field, film, densities, inversion)


def frame_of(scene: Scene, noise: np.ndarray) -> grids.Bounds:
    """A square round the first test points and some of the noise."""
    test = next(scene.run.dataset.eval.chunks())
    return grids.bounds_of(np.concatenate([test, noise[:100]]), margin=0.02)


def histogram(points: np.ndarray, grid: Grid) -> np.ndarray:
    """The density of points in the cells of the grid, (n,), x running fastest."""
    x_min, x_max, y_min, y_max = grid.bounds
    counts, _, _ = np.histogram2d(
        *points.T, bins=grid.side, range=((x_min, x_max), (y_min, y_max))
    )
    return counts.T.ravel() / (len(points) * grid.cell)
