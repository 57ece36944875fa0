"""--mode=trajectories: how noise becomes data, in pictures, films and a few numbers.

For every experiment with a `diffusion`. <workdir>/trajectories/<step>_<name>.png holds

of images   strip         test images noised, and sampling from the same noise
            inversion     test images up the probability flow to noise, and back
            trajectories  samples at several times, also as .gif
of points   field         the flow, the samples and their paths at several times
            points (.gif) the samples as they move
            density       the learned beside the true density
            inversion     as for images

and evaluation/<step>_trajectories.json the numbers: inversion_rms, learned_mass,
total_variation, kl; its protocol says what they are.
"""

import jax.numpy as jnp
from tqdm import tqdm

from genjax import labels
from genjax.modes.mode import Mode, check_labels, report, say
from genjax.modes.trajectories import images, points
from genjax.modes.trajectories.scene import Options, Result, make_scene
from genjax.pictures import grids
from genjax.run import Run
from genjax.training import distributed
from genjax.typing import UserError


def check(run: Run, options: Options) -> None:
    """Raises UserError for data that cannot be drawn, and labels that are not known."""
    spec, model = run.spec, run.experiment.diffusion
    assert model is not None
    if spec.dtype != "uint8" and spec.shape != (2,):
        raise UserError(
            "--mode=trajectories draws images and points of the plane, and "
            f"{spec.name} has examples of shape {spec.shape}"
        )
    check_labels(run, options.labels)
    if options.labels is not None:
        wanted = jnp.asarray(options.labels)
        labels.check_labels(wanted, len(wanted), model.asked_classes)


def trajectories(run: Run, options: Options) -> None:
    """Draws the process of a checkpoint, and writes what this module's head says.

    With --weights=raw or another --seed the names end in _raw, _seed1. Each picture is
    written when it is done, so a stop keeps what there is.
    """
    scene = make_scene(run, options)
    painters = images.PAINTERS if run.spec.dtype == "uint8" else points.PAINTERS
    first = distributed.is_first()
    numbers: dict[str, float] = {}
    with tqdm(painters, disable=not first) as bar:
        for paint in bar:
            scene.check_stop()
            bar.set_description(paint.__name__)
            result = paint(scene)
            numbers |= result.numbers
            if first:
                save(run, options, result)
    if first:
        say(f"pictures in {run.workdir / 'trajectories'}")
    report(run, f"{{step}}_trajectories{options.suffix}", scene.protocol, numbers)


def save(run: Run, options: Options, result: Result) -> None:
    """The files of one painter."""
    folder, suffix = run.workdir / "trajectories", options.suffix
    for name, picture in result.pictures.items():
        grids.save_png(folder / f"{run.step}_{name}{suffix}.png", picture)
    for name, pictures in result.films.items():
        grids.save_gif(folder / f"{run.step}_{name}{suffix}.gif", pictures)


MODE = Mode(
    name="trajectories",
    summary="from data to noise and back, as strips, films and densities",
    example="python launch.py --config=configs/flow_matching_toy2d.py "
    "--mode=trajectories",
    options=Options,
    needs=("diffusion",),
    models="models that make data of noise step by step",
    check=check,
    run=trajectories,
)
