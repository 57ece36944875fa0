"""--mode=sample: draws samples into a folder of their own.

generated/<step>[_raw][_seed1]/ in the run folder, or --out, gets

    samples.npz    arr_0, like the data
    samples.png    the first of them as a picture
    samples.json   {"step", "weights", "sampler", "labels", "seed", "num", "batch_size"}

A folder that holds samples of another request is left alone, and the next one is taken:
generated/<step>_2.
"""

import dataclasses
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from genjax.disk import from_json, write_atomically
from genjax.fields import Count, PlacePath
from genjax.modes.drawing import class_columns, draw_examples
from genjax.modes.mode import Mode, Trained, check_labels, say, title_of
from genjax.pictures import grids
from genjax.pictures.frame import framed
from genjax.places import place
from genjax.run import Run
from genjax.training import distributed
from genjax.training.metrics import to_json

MAX_IN_PICTURE = 400  # images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Trained):
    """The flags of --mode=sample."""

    num_samples: Count = 64  # number of samples
    labels: tuple[int, ...] | None = None  # their classes, in turn: 3 or 0,1
    out: PlacePath | None = None  # folder; default <workdir>/generated/<step>


def check(run: Run, options: Options) -> None:
    """Raises UserError for labels or weights that are not possible."""
    check_labels(run, options.labels)
    run.check_weights(options.weights)


def home_of(run: Run, options: Options) -> Path:
    """--out, or the folder in which each request has a folder of its own."""
    if options.out is not None:
        return place(options.out, "--out")
    return run.workdir / "generated"


def sample(run: Run, options: Options) -> None:
    """Draws the samples and writes the three files."""
    first, drawn = distributed.is_first(), []
    chunks = run.draw(
        options.num_samples,
        labels=options.labels,
        seed=options.seed,
        weights=options.weights,
    )
    with tqdm(total=options.num_samples, unit="sample", disable=not first) as bar:
        for part in chunks:
            drawn.append(part)
            bar.update(len(part))
    if first:
        write(run, options, np.concatenate(drawn))


def write(run: Run, options: Options, samples: np.ndarray) -> None:
    """The three files of the first process."""
    asked = request(run, options)
    home, own = home_of(run, options), f"{run.step}{options.suffix}"
    folder = free_folder(home / own if options.out is None else home, asked)
    content = io.BytesIO()
    np.savez(content, arr_0=samples)
    write_atomically(folder / "samples.npz", content.getvalue())
    text = to_json(asked, indent=2) + "\n"
    write_atomically(folder / "samples.json", text.encode())
    is_image = run.spec.dtype == "uint8"
    shown = samples[:MAX_IN_PICTURE] if is_image else samples
    columns = class_columns(options.labels)
    picture = draw_examples(shown, run.spec, frame=shown, columns=columns)
    names = [str(label) for label in options.labels or ()] if columns else []
    title = title_of(run, run.step, sample_words(run, options, len(shown)))
    grids.save_png(folder / "samples.png", framed(picture, title, columns=names))
    say(f"step {run.step}: {len(samples)} samples in {folder}")


def sample_words(run: Run, options: Options, num: int) -> str:
    """Like "64 samples by ddim in 50 steps, seed 1"."""
    sampler = run.config.to_dict().get("sampler") or {}
    by = f" by {sampler['name']}" if "name" in sampler else ""
    steps = f" in {sampler['num_steps']} steps" if "num_steps" in sampler else ""
    classes = ", ".join(map(str, options.labels or ()))
    of = f" of class {classes}" if classes else ""
    return f"{num:,} samples{of}{by}{steps}, seed {options.seed}"


def request(run: Run, options: Options) -> dict[str, Any]:
    """What determines the samples, for samples.json."""
    config = run.config.to_dict()
    return {
        "step": run.step,
        "weights": run.state(options.weights)[1],
        "sampler": config.get("sampler"),
        "labels": options.labels and list(options.labels),
        "seed": options.seed,
        "num": options.num_samples,
        "batch_size": run.settings.evaluation.batch_size,
    }


def free_folder(wanted: Path, asked: dict[str, Any]) -> Path:
    """The folder itself, or the next one without the samples of another request."""
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        if not (folder / "samples.npz").exists():
            return folder
        try:
            found = from_json((folder / "samples.json").read_text())
        except (OSError, ValueError):
            continue
        if found == from_json(to_json(asked)):
            return folder
    raise AssertionError("unreachable")


MODE = Mode(
    name="sample",
    summary="draw samples into a folder of their own: .npz, .png, .json",
    example="python launch.py --workdir=runs/ddpm_digits --mode=sample --labels=0,1,2",
    options=Options,
    needs=("sample",),
    check=check,
    writes=home_of,
    run=sample,
)
