"""Examples from anywhere: a folder of pictures or an .npz, as one split."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from genjax.data.folder import pictures
from genjax.data.npz import as_images, read_arrays
from genjax.data.split import Split, split_from_arrays
from genjax.places import in_bucket
from genjax.typing import DataSpec, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """What `read_files` found: one split, and a fingerprint of its content."""

    split: Split
    spec: DataSpec
    fingerprint: str


def read_files(
    path: Path, *, image_size: int | None = None, like: DataSpec | None = None
) -> Files:
    """All examples of a folder of pictures, or of arr_0 (or `images`) of an .npz.

    An .npz holds uint8 images (n, h, w, c) or (n, h, w), or points (n, d); it may lie
    in a bucket, which a folder may not.
    image_size: pictures are cropped to a square and resized to this side.
    like: the data that they will be compared with: pictures are read as gray or color
        like these (None: gray where all are), and an example must have their shape.
    Raises UserError for files that are missing, damaged or of another shape.
    """
    if not path.exists():
        raise UserError(f"there is no folder or file {path}")
    if path.is_dir() and in_bucket(path):
        raise UserError(
            f"{path} is a folder of a bucket: copy it to a disk (gcloud storage cp "
            "-r), or name an .npz in it"
        )
    if path.is_dir():
        color = None
        if like is not None:
            color = "gray" if like.shape[-1] == 1 else "rgb"
        split, fingerprint = pictures(str(path), image_size=image_size, color=color)
    elif image_size is not None:
        raise UserError(f"{path} is no folder of pictures, so it cannot be resized")
    else:
        split, fingerprint = _read_npz(path)
    first = split.read(np.arange(1))["image"]
    is_image = first.dtype == np.uint8
    spec = DataSpec(
        name=path.name,
        shape=first.shape[1:],
        dtype="uint8" if is_image else "float32",
        num_levels=256 if is_image else 0,
        num_train=len(split),
        num_eval=0,
        num_classes=0,
    )
    if like is not None and (spec.shape, spec.dtype) != (like.shape, like.dtype):
        raise UserError(
            f"{path} holds {spec.dtype} of shape {spec.shape}, and {like.name} "
            f"{like.dtype} of shape {like.shape}: both must be the same"
        )
    return Files(split=split, spec=spec, fingerprint=fingerprint)


def _read_npz(path: Path) -> tuple[Split, str]:
    found = read_arrays(path, "arr_0", "images")
    name, array = next(iter(found.items()))
    if array.dtype.kind == "f" and array.ndim == 2:
        array = array.astype(np.float32)
    elif array.dtype == np.uint8:
        array = as_images(path, name, array)
    else:
        raise UserError(
            f"{path} holds {array.dtype}{list(array.shape)}: give uint8 images (n, h, "
            "w, c) with values 0 ... 255, or points (n, d)"
        )
    if len(array) < 2:
        raise UserError(f"{path} holds {len(array)} examples, and two are needed")
    with path.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    labels = np.zeros(len(array), np.int32)
    return split_from_arrays(path.name, array, labels), fingerprint
