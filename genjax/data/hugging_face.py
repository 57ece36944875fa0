"""Image data sets of Hugging Face, through their package `datasets` (extra "hf")."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from genjax.data.crop import Crop
from genjax.data.picture import BadPicture
from genjax.data.picture_split import Numbers, Reading, dataset_of, held_out
from genjax.data.split import Dataset
from genjax.data.survey import PictureSet, read_bytes, sha256
from genjax.typing import DataSpec, UserError

_TEST_SPLITS = ("test", "validation", "valid", "val")


def hugging_face(
    name: str,
    dir: str | None = None,
    *,
    train_split: str | None = None,
    eval_split: str | None = None,
    image_size: int | None = None,
    crop: Crop = "square",
    color: str | None = None,
    background: str = "white",
    eval_fraction: float | None = None,
    skip_bad: bool = False,
    in_memory: bool | None = None,
    cache_dir: str | None = None,
    check: Callable[[DataSpec], None] | None = None,
) -> Dataset:
    """A data set of the hub, or one that was stored by `save_to_disk`.

    name: "hf:OWNER/NAME" or "hf:OWNER/NAME:CONFIG" of the hub, or "hf".
    dir: of "hf", what save_to_disk wrote; else where downloads are kept.
    train_split, eval_split: None: "train", or the only one; and "test" or "validation"
        where there is one, else the eval_fraction (0.1) of the training split.

    The image is the column of the type Image, the label that of the type ClassLabel.
    The other options: see `genjax.data.picture_split.Reading`. Raises UserError.
    """
    found = _splits(name, dir)
    chosen = _chosen(name, found, train_split, eval_split, eval_fraction is not None)
    features = found[chosen[0]].features
    image = _column(features, "Image", "image")
    if image is None:
        raise _no_image(name, features)
    label = _column(features, "ClassLabel", "label")
    parts = [found[part] for part in chosen]

    def split(good: Numbers) -> tuple[Numbers, Numbers]:
        if len(chosen) == 1:
            return held_out(good, pictures.names, eval_fraction)
        return _cut(good, len(parts[0]))

    pictures = _pictures(name, chosen, parts, image)
    return dataset_of(
        name,
        pictures,
        _labels(name, parts, label),
        () if label is None else features[label].names,
        split,
        Reading(
            image_size=image_size,
            crop=crop,
            color=color,
            background=background,
            skip_bad=skip_bad,
            in_memory=in_memory,
            cache_dir=cache_dir,
            check=check,
        ),
        splits="+".join(chosen),
        eval_fraction=eval_fraction,
    )


def _cut(numbers: Numbers, end: int) -> tuple[Numbers, Numbers]:
    return [i for i in numbers if i < end], [i for i in numbers if i >= end]


def _no_image(name: str, features: Mapping[str, Any]) -> UserError:
    shown = ", ".join(f"{k} ({type(v).__name__})" for k, v in features.items())
    return UserError(f"{name} has no column of the type Image; it has {shown}")


def _package(name: str) -> Any:
    """By its name, for a type checker without it takes our data/datasets.py for it."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise UserError(
            f"the data set {name!r} is read by the package datasets, which is not "
            "installed: pip install datasets"
        ) from error


def _splits(name: str, dir: str | None) -> Mapping[str, Any]:
    """The splits by name, on disk or from the hub."""
    datasets = _package(name)
    _, _, address = name.partition(":")
    repository, _, config = address.partition(":")
    if name == "hf" and dir is None:
        raise UserError(
            "the data set 'hf' needs data.dir, a folder that save_to_disk wrote; one "
            "of the hub is named as in data.name=hf:ylecun/mnist"
        )
    try:
        if name == "hf":
            assert dir is not None
            found = datasets.load_from_disk(str(Path(dir).expanduser().absolute()))
        else:
            found = datasets.load_dataset(
                repository,
                config or None,
                cache_dir=dir and str(Path(dir).expanduser()),
            )
    except Exception as error:  # the package and the hub raise all sorts
        first = str(error).strip().split("\n")[0] or type(error).__name__
        where = f"in {dir}" if name == "hf" else "on the hub"
        raise UserError(
            f"{name!r} cannot be opened {where} ({first}); data.name=hf with data.dir "
            "is a folder that save_to_disk wrote, data.name=hf:OWNER/NAME[:CONFIG] a "
            "data set of the hub"
        ) from error
    if not isinstance(found, Mapping):
        return {"train": found}
    return {str(split): part for split, part in found.items()}


def _chosen(
    name: str,
    found: Mapping[str, Any],
    train_split: str | None,
    eval_split: str | None,
    by_fraction: bool,
) -> list[str]:
    """[training split], or [training split, evaluation split]."""
    train = train_split or ("train" if "train" in found else next(iter(found)))
    if eval_split is None and not by_fraction:
        others = [s for s in _TEST_SPLITS if s in found and s != train]
        eval_split = others[0] if others else None
    chosen = [train] if eval_split is None else [train, eval_split]
    for split in chosen:
        if split not in found:
            raise UserError(
                f"{name} has no split {split!r} (it has: {', '.join(found)}); set "
                "data.train_split and data.eval_split"
            )
    return chosen


def _column(features: Mapping[str, Any], kind: str, first: str) -> str | None:
    """The column of that type; of several the one called `first`, or else the first."""
    names = [k for k, feature in features.items() if type(feature).__name__ == kind]
    return first if first in names else next(iter(names), None)


def _labels(name: str, parts: Sequence[Any], column: str | None) -> list[int]:
    """Of all rows; zeros without a column."""
    if column is None:
        return [0] * sum(map(len, parts))
    found = [label for part in parts for label in part[column]]
    num = parts[0].features[column].num_classes
    for i, label in enumerate(found):
        if label is None or not 0 <= label < num:
            raise UserError(
                f"row {i} of {name} has the label {label}, and its classes are 0 ... "
                f"{num - 1}; choose other splits by data.train_split and "
                "data.eval_split"
            )
    return found


def _pictures(
    name: str, chosen: Sequence[str], parts: Sequence[Any], column: str
) -> PictureSet:
    """The column's pictures, of one split behind the other, not yet decoded."""
    kind = _package(name).Image(decode=False)
    stored = [part.select_columns(column).cast_column(column, kind) for part in parts]
    places = [(s, i) for s, part in enumerate(stored) for i in range(len(part))]

    def source(number: int) -> Path | bytes:
        part, row = places[number]
        cell = stored[part][row][column]
        if cell is None or not (cell["bytes"] or cell["path"]):
            raise BadPicture("is missing")
        return cell["bytes"] or read_bytes(Path(cell["path"]))

    return PictureSet(
        where=name,
        names=[f"{chosen[part]}[{row}]" for part, row in places],
        source=source,
        key=_key(name, chosen, parts, column),
    )


def _key(
    name: str, chosen: Sequence[str], parts: Sequence[Any], column: str
) -> str | None:
    """Of the files that hold the rows; None where some are not in files."""
    files = []
    for part in parts:
        if not part.cache_files:
            return None
        for file in part.cache_files:
            stat = Path(file["filename"]).stat()
            files.append((file["filename"], stat.st_size, stat.st_mtime_ns))
    described = [name, list(chosen), column, files, [p._fingerprint for p in parts]]
    return sha256(json.dumps(described))
