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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from genjax import disk
from genjax.data.domains import MAPS, bring, relevel
from genjax.data.folder import picture_set, pictures_below
from genjax.data.picture import ENDINGS, MODES, BadPicture, read_picture
from genjax.data.survey import survey
from genjax.evaluation import extractors
from genjax.fields import LocalPath, PlacePath
from genjax.modes.mode import (
    Mode,
    Trained,
    check_stop,
    data_and_weights,
    report,
    say,
)
from genjax.places import place
from genjax.run import Run
from genjax.training import distributed
from genjax.training.sharding import replicated
from genjax.typing import DataSpec, Direction, UserError

Images = UInt8[np.ndarray, "n h w c"]
DIRECTIONS: tuple[Direction, ...] = ("a_to_b", "b_to_a")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Trained):
    """The flags of --mode=translate."""

    input: LocalPath | None = None  # a picture, or a folder of pictures to any depth
    direction: Direction | None = None  # for --input: from which domain to which
    out: PlacePath | None = None  # for --input: a folder; default <workdir>/translated
    extractor: str | None = None  # instead of --input: classify translated test images

    def __post_init__(self) -> None:
        if self.input is not None and self.direction is None:
            raise UserError("--input needs --direction=a_to_b or --direction=b_to_a")
        if self.input is not None and self.extractor is not None:
            raise UserError(
                "--extractor reads test images, whose labels are known: leave --input "
                "out"
            )


def check(run: Run, options: Options) -> None:
    """Raises UserError for nothing to translate, labels that nobody can read, and bad
    pictures, all of them named.
    """
    if options.input is None and options.extractor is None:
        raise UserError(
            "--mode=translate needs pictures, --input=FOLDER_OR_FILE with "
            "--direction=a_to_b or b_to_a, or --extractor=mnist_lenet512_v1, which "
            "reads the translations of the test images"
        )
    if options.extractor is not None and run.spec.num_classes == 0:
        raise UserError(
            f"the two domains of {run.spec.name} do not have the same classes, so "
            "there are no labels to preserve"
        )
    if options.input is not None:
        source = Path(options.input).expanduser()
        home = source if source.is_dir() else source.parent
        found = files_of(run, options)
        survey(picture_set(home, [str(path.relative_to(home)) for path in found]))


def translate(run: Run, options: Options) -> None:
    """Does what this module's head says.

    Raises UserError for pictures that cannot be read.
    """
    if options.input is not None:
        translate_files(run, options)
        return
    state, weights = run.state(options.weights)
    values, protocol = score(run, options, state)
    protocol = data_and_weights(run, options, weights) | protocol
    report(run, f"translate_{{step}}{options.suffix}", protocol, values)


def compile_translation(
    run: Run, state: Any, direction: Direction
) -> Callable[[np.ndarray], np.ndarray]:
    """Images to translations, whole on every process."""
    translation = run.experiment.translate
    assert translation is not None
    compiled = jax.jit(
        lambda state, images: translation(state, images, direction),
        out_shardings=replicated(run.compiled.mesh),
    )
    return lambda images: np.asarray(compiled(state, images))


# --- the user's pictures --------------------------------------------------------------


def home_of(run: Run, options: Options) -> Path:
    """The folder of what it writes."""
    if options.input is None:
        return run.workdir / "evaluation"
    if options.out is None:
        return run.workdir / "translated"
    return place(options.out, "--out")


def translate_files(run: Run, options: Options) -> None:
    """Each picture of --input to a PNG of the same name below --out."""
    assert options.direction is not None
    files = files_of(run, options)
    state, _ = run.state(options.weights)
    translated = compile_translation(run, state, options.direction)
    first, levels = distributed.is_first(), run.spec.num_levels
    for source, target in tqdm(files.items(), unit="picture", disable=not first):
        check_stop(run, f"before {source} was translated")
        images = translated(read_like(source, run.spec))
        if first:
            save_png(target, relevel(images, levels, 256)[0])
    if first:
        say(f"{len(files)} pictures in {home_of(run, options)}")


def files_of(run: Run, options: Options) -> dict[Path, Path]:
    """`find_pictures` of --input and --out."""
    assert options.input is not None
    return find_pictures(Path(options.input).expanduser(), home_of(run, options))


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


def read_like(path: Path, spec: DataSpec) -> Images:
    """One image (1, H, W, C) as the model's images are. Raises UserError."""
    shape = spec.shape[1:]
    mode = MODES["rgb" if shape[2] == 3 else "gray"]
    try:
        picture = read_picture(path, mode, "white")
    except BadPicture as error:
        raise UserError(f"the picture {path} {error}; mend or remove it") from error
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
    disk.write_atomically(path, content.getvalue())


# --- the test images ------------------------------------------------------------------


def score(
    run: Run, options: Options, state: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    """(metrics, protocol) of the whole test split, as this module's head says."""
    spec = run.spec
    assert options.extractor is not None
    judge = load_judge(options.extractor, spec)
    known = MAPS.get(run.settings.data.known_map or "")
    undo = None if known is None else known.undo

    def read(images: np.ndarray, domain: int) -> np.ndarray:
        """The classes (B,) that the judge sees in images of domain 0 or 1."""
        if domain == 1 and undo is not None:
            images = undo(images, spec.num_levels)
        _, logits = judge.apply(images)
        return np.asarray(logits).argmax(axis=-1)

    whole = jax.jit(lambda tree: tree, out_shardings=replicated(run.compiled.mesh))
    translated = {d: compile_translation(run, state, d) for d in DIRECTIONS}
    right: dict[str, list[np.ndarray]] = {}
    # the shorter domain begins anew until the longer one ends: each image counts once
    sizes = spec.eval_sizes or (spec.num_eval, spec.num_eval)
    for batch, mask in run.test_batches():
        check_stop(run, "while translating the test set")
        fetched = whole((batch["image"], batch["label"], batch["index"], mask))
        images, labels, index, kept = map(np.asarray, fetched)
        for source, direction in enumerate(DIRECTIONS):
            counted = kept & (index < sizes[source])
            target, x, y = 1 - source, images[:, source], labels[:, source]
            again = read(translated[direction](x), target)
            named = {
                f"label_preservation_{direction}": again == y,
                f"label_preservation_untouched_{direction}": read(x, target) == y,
                f"judge_accuracy_{'ab'[source]}": read(x, source) == y,
            }
            for name, value in named.items():
                right.setdefault(name, []).append(value[counted])
    values = {name: float(np.concatenate(v).mean()) for name, v in right.items()}
    return values, {
        "n_test": {d: sum(map(len, right[f"judge_accuracy_{d}"])) for d in "ab"},
        "extractor": f"{judge.name} ({judge.note})",
        "domain_b_read": "as it is" if undo is None else "after the map is undone",
    }


def load_judge(name: str, spec: DataSpec) -> extractors.Extractor:
    """The classifier of one domain's images."""
    return extractors.load(name, dataclasses.replace(spec, shape=spec.shape[1:]))


MODE = Mode(
    name="translate",
    summary="pictures, or the test images, from one domain to the other",
    example="python launch.py --config=configs/cyclegan_digits.py --mode=translate "
    "--input=pictures --direction=a_to_b",
    options=Options,
    needs=("translate",),
    models="models of two domains, like cyclegan",
    check=check,
    writes=home_of,
    run=translate,
)
