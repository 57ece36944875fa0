"""Image data sets of TFDS, read without TensorFlow.

`tfds.data_source` reads array_record files by row. What it does not check is checked
here: the shape and type of each image and the range of each label.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genjax.data import cache
from genjax.data.crop import CROPS, Crop
from genjax.data.prepare import prepare
from genjax.data.split import (
    Dataset,
    Examples,
    Labels,
    Rows,
    Split,
    fingerprint_of,
    image_spec,
)
from genjax.typing import UserError


def builder_names() -> list[str]:
    """The names of all data sets that TFDS has code for."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def tfds_images(
    name: str,
    dir: str | None = None,
    *,
    train_split: str = "train",
    eval_split: str | None = None,
    image_size: int | None = None,
    crop: Crop = "square",
    in_memory: bool | None = None,
    cache_dir: str | None = None,
    download: bool = True,
) -> Dataset | None:
    """An image data set of TFDS, or None if TFDS knows no such name.

    name: as TFDS spells it, perhaps with a config and a version ("emnist/letters",
        "mnist:3.0.1").
    dir: where TFDS keeps its data sets. None: $TFDS_DATA_DIR, or else TFDS's own
        default, ~/tensorflow_datasets.
    train_split, eval_split: as TFDS slices them, "train[:50000]". None: "test", or
        where there is none, "validation".
    image_size: cut out a square as `crop` of `genjax.data.crop.CROPS` says, resized to
        this side. None: images as they are, if they all have one size.
    in_memory: decode once into the cache and map it from there. None: splits of up to
        cache.CACHE_BYTES.
    download: download and prepare the data set if dir does not have it.

    Label: the class among the data set's supervised keys, or else its first class; a
    data set without classes has num_classes 0 and label 0. Raises UserError.
    """
    builder = _prepared_builder(name, dir, download)
    if builder is None:
        return None
    columns = _columns(builder, image_size, crop)
    splits = [
        _split(builder, part, columns, in_memory, cache_dir)
        for part in (train_split, eval_split or _default_eval_split(builder))
    ]
    train, held_out = splits
    spec = image_spec(
        name,
        train,
        held_out,
        shape=columns.shape,
        num_classes=columns.num_classes,
    )
    fingerprint = fingerprint_of(
        spec,
        version=builder.info.full_name,
        train_split=train.name,
        eval_split=held_out.name,
        image_size=image_size,
        **({} if crop == "square" else {"crop": crop}),
    )
    return Dataset(spec=spec, train=train, eval=held_out, fingerprint=fingerprint)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Columns:
    """Which features are the image and the label, and what they must look like."""

    image: str
    label: str | None
    num_classes: int
    shape: tuple[int, ...]  # as given out
    stored_shape: tuple[int | None, ...]  # as TFDS declares it
    image_size: int | None
    crop: Crop


def _builder(name: str, dir: str | None) -> Any:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import constants, registered

    # TFDS reads the variable at import, which may be long ago.
    root = dir or os.environ.get("TFDS_DATA_DIR") or constants.DATA_DIR
    root = os.path.abspath(os.path.expanduser(root))
    try:
        return tfds.builder(name, data_dir=root, try_gcs=False)
    except registered.DatasetNotFoundError:
        return None
    except Exception as error:  # TFDS raises all sorts for a name it cannot parse
        first = str(error).strip().split("\n")[0]
        raise UserError(
            f"TFDS cannot open {name!r} ({first}); write its name as TFDS does, "
            "name, name/config or name:version, in data.name"
        ) from error


def _prepared_builder(name: str, dir: str | None, download: bool) -> Any:
    """The builder of a data set that can be read, or None for an unknown name."""
    builder = _builder(name, dir)
    if builder is None or builder.is_prepared():
        return builder
    if not download:
        raise UserError(
            f"{name} is not prepared in {builder.data_path}; set data.dir or "
            "TFDS_DATA_DIR to where it is, or allow data.download"
        )
    prepare(builder)
    return _builder(name, dir)  # this one reads what has been prepared


def _columns(builder: Any, image_size: int | None, crop: Crop) -> _Columns:
    import tensorflow_datasets as tfds

    features = builder.info.features
    is_dict = isinstance(features, tfds.features.FeaturesDict)
    found: dict[str, Any] = dict(features.items()) if is_dict else {}
    # The data set's own choice of (input, target) comes first.
    keys = [k for k in builder.info.supervised_keys or () if isinstance(k, str)]
    keys += [key for key in found if key not in keys]
    images = [k for k in keys if isinstance(found.get(k), tfds.features.Image)]
    labels = [k for k in keys if isinstance(found.get(k), tfds.features.ClassLabel)]
    if not images:
        raise UserError(
            f"{builder.name} has no images (its features: {', '.join(found)}); choose "
            "an image data set in data.name"
        )
    feature = found[images[0]]
    stored = tuple(feature.shape)
    if np.dtype(feature.np_dtype) != np.uint8 or stored[-1] is None:
        raise UserError(
            f"the images of {builder.name} are {np.dtype(feature.np_dtype)}{stored}, "
            "and only 8-bit ones with a fixed number of channels can be read; choose "
            "another data set in data.name"
        )
    if image_size is None and None in stored:
        raise UserError(
            f"the images of {builder.name} differ in size; set data.image_size to the "
            "side that they are cropped and resized to"
        )
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size must be positive, got {image_size}")
    side = (image_size, image_size) if image_size else stored[:2]
    return _Columns(
        image=images[0],
        label=labels[0] if labels else None,
        num_classes=found[labels[0]].num_classes if labels else 0,
        shape=(*side, stored[-1]),
        stored_shape=stored,
        image_size=image_size,
        crop=crop,
    )


def _default_eval_split(builder: Any) -> str:
    for name in ("test", "validation"):
        if name in builder.info.splits:
            return name
    known = ", ".join(builder.info.splits)
    raise UserError(
        f"{builder.name} has no split to evaluate on (it has: {known}); set "
        "data.train_split and data.eval_split, say to 'train[:90%]' and 'train[90%:]'"
    )


def _split(
    builder: Any,
    name: str,
    columns: _Columns,
    keep: bool | None,
    cache_dir: str | None,
) -> Split:
    """One split, streamed or from the cache."""
    try:
        info = builder.info.splits[name]
        source = builder.as_data_source(split=name)
    except NotImplementedError as error:
        raise UserError(
            f"{builder.data_path} holds {builder.info.file_format.value} files, which "
            "cannot be read by row; set data.dir to another directory, and the data "
            "set will be prepared there as array_record"
        ) from error
    except (ValueError, KeyError, AssertionError) as error:
        known = ", ".join(builder.info.splits)
        raise UserError(
            f"{builder.name} has no split {name!r} (it has: {known}, and slices like "
            "'train[:90%]'); set data.train_split and data.eval_split"
        ) from error
    reader = _Reader(
        title=f"{builder.info.full_name} {name}",
        source=source,
        columns=columns,
        files=[(i.filename, i.take) for i in info.file_instructions],
    )
    identities = [_identity(path) for path, _ in reader.files]
    split = Split(
        name=reader.title, num_examples=len(source), read_examples=reader.read
    )
    num_bytes = len(split) * int(np.prod(columns.shape))
    if keep is None:
        keep = num_bytes <= cache.CACHE_BYTES
    if not keep:
        return split
    return cache.in_memory(
        split,
        shape=columns.shape,
        source={
            "files": identities,
            "columns": dataclasses.asdict(columns),
        },
        cache_dir=cache_dir,
    )


def _identity(path: str) -> tuple[str, int, int]:
    try:
        stat = os.stat(path)
    except OSError as error:
        raise UserError(
            f"the data file {path} cannot be read ({error.strerror}); copy the data "
            "set again, or delete its directory to prepare it again"
        ) from error
    return Path(path).name, stat.st_size, stat.st_mtime_ns


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reader:
    """Rows of a TFDS data source, checked."""

    title: str
    source: Any
    columns: _Columns
    files: Sequence[tuple[str, int]]  # (path, number of examples), in the split's order

    def read(self, rows: Rows) -> tuple[Examples, Labels]:
        """Images (n, h, w, c) and labels (n,), 0 where the data set has none."""
        try:
            # Several rows a call: 2 to 3 times faster than one by one.
            examples = self.source.__getitems__(rows.tolist())
        except Exception as error:  # a damaged file raises whatever its decoder does
            raise self._unreadable(rows) from error
        image = np.empty((len(rows), *self.columns.shape), np.uint8)
        label = np.zeros(len(rows), np.int32)
        for i, (row, example) in enumerate(zip(rows.tolist(), examples, strict=True)):
            image[i] = self._checked_image(row, example[self.columns.image])
            if self.columns.label is not None:
                label[i] = self._checked_label(row, int(example[self.columns.label]))
        return image, label

    def _checked_image(self, row: int, image: np.ndarray) -> np.ndarray:
        wanted = self.columns.stored_shape
        fits = len(image.shape) == len(wanted) and all(
            w in (None, s) for s, w in zip(image.shape, wanted, strict=True)
        )
        if not fits or image.dtype != np.uint8:
            raise self._wrong(
                row, f"is an image {image.dtype}{image.shape} instead of uint8{wanted}"
            )
        if self.columns.image_size is None:
            return image
        gray = image.shape[-1] == 1
        picture = Image.fromarray(image[..., 0] if gray else image)
        cut = CROPS[self.columns.crop]
        resized = np.asarray(cut(picture, self.columns.image_size))
        return resized.reshape(self.columns.shape)

    def _checked_label(self, row: int, label: int) -> int:
        num = self.columns.num_classes
        if not 0 <= label < num:
            raise self._wrong(row, f"has the label {label}, outside 0 ... {num - 1}")
        return label

    def _unreadable(self, rows: Rows) -> UserError:
        for row in rows.tolist():
            try:
                self.source.__getitems__([row])
            except Exception as error:
                first = str(error).strip().split("\n")[0]
                return self._wrong(row, f"cannot be decoded ({first})")
        return UserError(
            f"{self.title} could not be read, and then could; check the disk"
        )

    def _wrong(self, row: int, what: str) -> UserError:
        ends = np.cumsum([num for _, num in self.files])
        path = self.files[int(np.searchsorted(ends, row, side="right"))][0]
        return UserError(
            f"example {row} of {self.title}, in {path}, {what}; delete that directory "
            "and prepare the data set again"
        )
