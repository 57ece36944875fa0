"""--mode=translate: the user's pictures, or the test images, from domain to domain.

For every experiment with `translate`. With --input and --direction the pictures named
are brought to the size of the model's images (the centered square, resized) and their
translations written as PNG files of the same names to --out.

Without --input the test images are translated both ways, and --extractor, a classifier,
reads what came out. It writes <workdir>/evaluation/translate_<step>.json: {"step",
"protocol", "metrics"}, the last for each direction

  label_preservation_a_to_b            share of translations read as their source is
  label_preservation_untouched_a_to_b  the same of the sources, not translated
  judge_accuracy_b                     share of real images of the target read rightly

The classifier reads domain B of a known map that can be undone after it is undone.
"""

import dataclasses
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from genjax.commandline import Options
from genjax.data.domains import MAPS, bring, relevel
from genjax.data.folder import ENDINGS, MODES, open_picture, pictures_below
from genjax.evaluation import extractors
from genjax.evaluation.runner import choose_weights
from genjax.experiment import MakeExperiment
from genjax.run_setup import Setup, load_trained, test_batches
from genjax.train import distributed, metrics
from genjax.train.sharding import replicated
from genjax.train.stop import StopRequest
from genjax.typing import DataSpec, Direction, Stopped, UserError

Images = UInt8[np.ndarray, "n h w c"]
DIRECTIONS: tuple[Direction, ...] = ("a_to_b", "b_to_a")


def translate(
    options: Options, make_experiment: MakeExperiment, stop: StopRequest
) -> None:
    """Does what this module's head says.

    Raises UserError for a model that does not translate, flags that are missing, and
    pictures that cannot be read.
    """
    check_flags(options)
    setup, state, step = load_trained(options, make_experiment, stop)
    if setup.experiment.translate is None:
        raise UserError(
            f"experiments/{setup.config.experiment}.py does not translate: "
            "--mode=translate is for models of two domains, like cyclegan"
        )
    state, weights = choose_weights(setup.experiment, state, options.weights)
    if options.input is not None:
        translate_files(setup, state)
        return
    values, note = score(setup, state)
    if distributed.is_first():
        result = {"step": step, "protocol": note | {"weights": weights}}
        text = json.dumps(result | {"metrics": values}, indent=2)
        suffix = "_raw" if options.weights == "raw" else ""
        path = setup.workdir / "evaluation" / f"translate_{step}{suffix}.json"
        metrics.write_atomically(path, (text + "\n").encode())
        print(text)
        print(path, file=sys.stderr)


def check_flags(options: Options) -> None:
    """Raises UserError unless the flags say what to translate."""
    if options.input is None and options.extractor is None:
        raise UserError(
            "--mode=translate needs pictures, --input=FOLDER_OR_FILE with "
            "--direction=a_to_b or b_to_a, or --extractor=mnist_lenet512_v1, which "
            "reads the translations of the test images"
        )
    if options.input is not None and options.direction is None:
        raise UserError("--input needs --direction=a_to_b or --direction=b_to_a")
    if options.input is not None and options.extractor is not None:
        raise UserError(
            "--extractor reads test images, whose labels are known: leave --input out"
        )


def compile_translation(
    setup: Setup, state: Any, direction: Direction
) -> Callable[[np.ndarray], np.ndarray]:
    """Images to translations, whole on every process."""
    experiment_translate = setup.experiment.translate
    assert experiment_translate is not None
    compiled = jax.jit(
        lambda state, images: experiment_translate(state, images, direction),
        out_shardings=replicated(setup.compiled.mesh),
    )
    return lambda images: np.asarray(compiled(state, images))


# --- the user's pictures --------------------------------------------------------------


def translate_files(setup: Setup, state: Any) -> None:
    """Each picture of --input to a PNG of the same name below --out."""
    options, spec = setup.options, setup.dataset.spec
    assert options.input is not None and options.direction is not None
    out = options.out or setup.workdir / "translated"
    files = find_pictures(options.input, out)
    run = compile_translation(setup, state, options.direction)
    first = distributed.is_first()
    for source, target in tqdm(files.items(), unit="picture", disable=not first):
        if setup.stop():
            raise Stopped(f"before {source} was translated")
        translated = run(read_picture(source, spec))
        if first:
            save_png(target, relevel(translated, spec.num_levels, 256)[0])
    if first:
        print(f"{len(files)} pictures in {out}", file=sys.stderr)


def find_pictures(source: Path, out: Path) -> dict[Path, Path]:
    """Where each picture lies, and where its translation goes.

    Raises UserError where there is none, or two would go to one file.
    """
    if source.is_file():
        return {source: out / f"{source.stem}.png"}
    if not source.is_dir():
        raise UserError(f"--input={source} is neither a file nor a directory")
    targets: dict[Path, Path] = {}
    for name in pictures_below(source):
        target = out / Path(name).with_suffix(".png")
        if target in targets:
            raise UserError(
                f"{targets[target]} and {source / name} would both be written to "
                f"{target}; rename one of them"
            )
        targets[target] = source / name
    if not targets:
        raise UserError(f"{source} holds no pictures ({', '.join(ENDINGS)})")
    return {path: target for target, path in targets.items()}


def read_picture(path: Path, spec: DataSpec) -> Images:
    """One image (1, H, W, C) as the model's images are. Raises UserError."""
    shape = spec.shape[1:]
    picture = open_picture(path, MODES["rgb" if shape[2] == 3 else "gray"])
    pixels = np.asarray(picture).reshape(1, picture.height, picture.width, shape[2])
    if shape[0] != shape[1] and pixels.shape[1:] != shape:
        raise UserError(
            f"{path} is {picture.width} x {picture.height}, and the model's images "
            f"{shape[1]} x {shape[0]}, no squares: resize it first"
        )
    return bring(pixels, num_levels=256, shape=shape, to_levels=spec.num_levels)


def save_png(path: Path, image: UInt8[np.ndarray, "h w c"]) -> None:
    """The whole file or none."""
    content = io.BytesIO()
    pixels = image[..., 0] if image.shape[2] == 1 else image
    Image.fromarray(pixels).save(content, format="png")
    metrics.write_atomically(path, content.getvalue())


# --- the test images ------------------------------------------------------------------


def score(setup: Setup, state: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """(metrics, protocol) of the whole test split, as this module's head says."""
    spec, options = setup.dataset.spec, setup.options
    assert options.extractor is not None
    judge = load_judge(options.extractor, spec)
    known = MAPS.get(setup.config.data.known_map)
    undo = None if known is None else known.undo

    def read(images: np.ndarray, domain: int) -> np.ndarray:
        """The classes (B,) that the judge sees in images of domain 0 or 1."""
        if domain == 1 and undo is not None:
            images = undo(images, spec.num_levels)
        _, logits = judge.apply(images)
        return np.asarray(logits).argmax(axis=-1)

    whole = jax.jit(lambda tree: tree, out_shardings=replicated(setup.compiled.mesh))
    run = {d: compile_translation(setup, state, d) for d in DIRECTIONS}
    right: dict[str, list[np.ndarray]] = {}
    for batch, mask in test_batches(setup):
        if setup.stop():
            raise Stopped("while translating the test set")
        images, labels, kept = map(
            np.asarray, whole((batch["image"], batch["label"], mask))
        )
        for source, direction in enumerate(DIRECTIONS):
            target, x, y = 1 - source, images[:, source], labels[:, source]
            named = {
                f"label_preservation_{direction}": read(run[direction](x), target) == y,
                f"label_preservation_untouched_{direction}": read(x, target) == y,
                f"judge_accuracy_{'ab'[source]}": read(x, source) == y,
            }
            for name, value in named.items():
                right.setdefault(name, []).append(value[kept])
    values = {name: float(np.concatenate(v).mean()) for name, v in right.items()}
    return values, {
        "data": spec.name,
        "n_test": sum(map(len, right["judge_accuracy_a"])),
        "extractor": f"{judge.name} ({judge.note})",
        "domain_b_read": "as it is" if undo is None else "after the map is undone",
    }


def load_judge(name: str, spec: DataSpec) -> extractors.Extractor:
    """The classifier. Raises UserError where it cannot read these labels."""
    if spec.num_classes == 0:
        raise UserError(
            f"the two domains of {spec.name} do not have the same classes, so there "
            "are no labels to preserve"
        )
    return extractors.load(name, dataclasses.replace(spec, shape=spec.shape[1:]))
