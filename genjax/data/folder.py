"""A directory of the user's own pictures as a data set."""

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from genjax.data import cache
from genjax.data.crop import center_square
from genjax.data.split import (
    Dataset,
    Examples,
    Labels,
    Rows,
    Split,
    fingerprint_of,
    image_spec,
)
from genjax.disk import write_atomically
from genjax.typing import SaveError, UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MODES = {"rgb": "RGB", "gray": "L"}

# 16-bit and float pictures are not among these: Pillow would clip them to white.
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB")

# 8192 x 8192: a small file may claim to be huge, and would fill the memory.
_MAX_PIXELS = 2**26

_SPLIT_NAMES = {"train", "training", "test", "val", "valid", "validation", "eval"}


def folder(
    name: str = "folder",
    dir: str | None = None,
    *,
    image_size: int | None = None,
    color: str = "rgb",
    eval_fraction: float = 0.1,
    in_memory: bool | None = None,
    cache_dir: str | None = None,
) -> Dataset:
    """The pictures below `dir`, to any depth; files of other kinds are passed over.

    The class of a picture is the sub-folder of `dir` that it is in, in alphabetical
    order; pictures that lie in `dir` itself have no classes. Held out are the
    eval_fraction of them (at least one) whose relative paths have the smallest SHA-256,
    and in that order, so that the first n are a fair sample; the others are in the
    order of their paths.

    image_size: crop the centered square and resize it to this side. None: pictures as
        they are, which must all have the size of the first.
    color: "rgb" or "gray"; transparency is dropped.
    in_memory: decode once into the cache. None: splits of up to cache.CACHE_BYTES.

    Raises UserError for an empty folder, and for a picture that cannot be decoded, of
    more than 2^26 pixels, or of more than 8 bits a channel.
    """
    root = _checked_root(dir)
    _check_form(image_size, color)
    paths = pictures_below(root)
    if len(paths) < 2:
        raise UserError(
            f"{root} holds {len(paths)} pictures ({', '.join(ENDINGS)}) and two are "
            "needed, to train and to evaluate; set data.dir"
        )
    classes = _classes(root, paths)
    reader = _reader_of("folder", root, paths, image_size, MODES[color], classes)
    train, held_out = (
        _split(
            dataclasses.replace(reader, title=f"folder {part}", paths=tuple(chosen)),
            in_memory,
            cache_dir,
        )
        for part, chosen in _held_out(paths, eval_fraction).items()
    )
    spec = image_spec(
        name, train, held_out, shape=reader.shape, num_classes=len(classes)
    )
    fingerprint = fingerprint_of(
        spec,
        files=content_of(root, paths, cache_dir),
        image_size=image_size,
        eval_fraction=eval_fraction,
    )
    return Dataset(spec=spec, train=train, eval=held_out, fingerprint=fingerprint)


def pictures(
    dir: str, *, image_size: int | None = None, color: str = "rgb"
) -> tuple[Split, str]:
    """All pictures below `dir` as one split, in the order of their paths.

    Returns it with a fingerprint, which changes with the files' names and content.
    Options and errors are those of `folder`; sub-folders mean nothing.
    """
    root = _checked_root(dir)
    paths = pictures_below(root)
    if not paths:
        raise UserError(f"{root} holds no pictures ({', '.join(ENDINGS)})")
    mode = MODES[color]
    reader = _reader_of(root.name, root, paths, image_size, mode)
    identity = [image_size, mode, content_of(root, paths)]
    return _split(reader, False, None), _digest(identity)


def _checked_root(dir: str | None) -> Path:
    if dir is None:
        raise UserError("the data set 'folder' needs data.dir, a directory of pictures")
    root = Path(dir).expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"{root} is not a directory; set data.dir to one of pictures")
    return root


def _check_form(image_size: int | None, color: str) -> None:
    if color not in MODES:
        raise UserError(f"color must be 'rgb' or 'gray', not {color!r}; set data.color")
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size must be positive, got {image_size}")


def pictures_below(root: Path) -> list[str]:
    """Paths of all pictures below root, relative to it and sorted."""
    return sorted(
        os.path.relpath(os.path.join(parent, file), root)
        for parent, _, files in os.walk(root)
        for file in files
        if file.lower().endswith(ENDINGS) and not file.startswith(".")
    )


def _classes(root: Path, paths: list[str]) -> tuple[str, ...]:
    tops = [Path(path).parts[0] if os.sep in path else None for path in paths]
    classes = sorted({top for top in tops if top is not None})
    if not classes:
        return ()
    if None in tops:
        loose = paths[tops.index(None)]
        raise UserError(
            f"{root} holds pictures ({loose}, ...) beside sub-folders ({classes[0]}, "
            "...), so their classes are unclear; move the pictures into sub-folders"
        )
    if {name.lower() for name in classes} <= _SPLIT_NAMES:
        raise UserError(
            f"the sub-folders of {root} ({', '.join(classes)}) would be taken for "
            f"classes; set data.dir to {root / classes[-1]} or another of them"
        )
    return tuple(classes)


def _held_out(paths: list[str], fraction: float) -> dict[str, list[str]]:
    if not 0 < fraction < 1:
        raise UserError(
            f"eval_fraction must lie between 0 and 1, got {fraction}; set "
            "data.eval_fraction"
        )
    ranked = sorted(paths, key=lambda path: _digest(Path(path).as_posix()))
    num = min(max(round(fraction * len(paths)), 1), len(paths) - 1)
    return {"train": sorted(ranked[num:]), "eval": ranked[:num]}


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def open_picture(path: Path, mode: str) -> Image.Image:
    """The picture, upright, in the mode "RGB" or "L".

    Raises UserError that names the file where it cannot be decoded, or has more than
    2^26 pixels or 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MAX_PIXELS:
                problem = f"has {image.width} x {image.height} pixels, over 2^26"
            elif image.mode not in _EIGHT_BIT:
                problem = f"has more than 8 bits a channel (mode {image.mode})"
            else:
                return ImageOps.exif_transpose(image).convert(mode)
    except Exception as error:  # Pillow's decoders raise all sorts for damaged files
        problem = f"cannot be decoded ({error})"
    raise UserError(f"the picture {path} {problem}; mend or remove it")


def content_of(root: Path, paths: Sequence[str], cache_dir: str | None = None) -> str:
    """A digest of what the files hold, and of their names below root.

    Names and sizes are the same for many pictures, say in BMP. The first time all files
    are read; the answer is remembered with their times.
    Raises UserError for a file that cannot be read.
    """
    known = cache.folder_of(cache_dir) / f"content-{_digest(_identity(root, paths))}"
    with contextlib.suppress(OSError, ValueError):
        found = known.read_text()
        if re.fullmatch("[0-9a-f]{64}", found):
            return found
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda path: _digest_of(root / path), paths))
    names = [Path(path).as_posix() for path in paths]
    found = _digest(list(zip(names, digests, strict=True)))
    with contextlib.suppress(SaveError):  # then it is computed again
        write_atomically(known, found.encode())
    return found


def _identity(root: Path, paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """The pictures' absolute paths, sizes and times."""
    stats = [(str(root / path), os.stat(root / path)) for path in paths]
    return [(path, s.st_size, s.st_mtime_ns) for path, s in stats]


def _digest_of(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"the picture {path} cannot be read: {error.strerror or error}"
        ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reader:
    """Pictures of one split by row."""

    title: str
    root: Path
    paths: tuple[str, ...]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    mode: str
    image_size: int | None

    def read(self, rows: Rows) -> tuple[Examples, Labels]:
        """Images (n, h, w, c) and labels (n,), 0 where there are no classes."""
        image = np.empty((len(rows), *self.shape), np.uint8)
        label = np.zeros(len(rows), np.int32)
        for i, row in enumerate(rows.tolist()):
            image[i] = self._image(self.paths[row])
            if self.classes:
                label[i] = self.classes.index(Path(self.paths[row]).parts[0])
        return image, label

    def _image(self, path: str) -> np.ndarray:
        picture = open_picture(self.root / path, self.mode)
        height, width, _ = self.shape
        if self.image_size is not None:
            picture = center_square(picture, self.image_size)
        elif picture.size != (width, height):
            raise UserError(
                f"the picture {self.root / path} is {picture.width} x "
                f"{picture.height}, the first {width} x {height}; set data.image_size "
                "to crop and resize them all"
            )
        return np.asarray(picture).reshape(self.shape)


def _reader_of(
    title: str,
    root: Path,
    paths: Sequence[str],
    image_size: int | None,
    mode: str,
    classes: tuple[str, ...] = (),
) -> _Reader:
    """All of these pictures. Without an image_size, the first says how large they are.

    Raises UserError for a first picture that cannot be decoded.
    """
    if image_size is None:
        width, height = open_picture(root / paths[0], mode).size
    else:
        width = height = image_size
    return _Reader(
        title=title,
        root=root,
        paths=tuple(paths),
        classes=classes,
        shape=(height, width, len(mode.replace("L", "1"))),
        mode=mode,
        image_size=image_size,
    )


def _split(reader: _Reader, keep: bool | None, cache_dir: str | None) -> Split:
    split = Split(
        name=reader.title, num_examples=len(reader.paths), read_examples=reader.read
    )
    if keep is None:
        keep = len(split) * int(np.prod(reader.shape)) <= cache.CACHE_BYTES
    if not keep:
        return split
    return cache.in_memory(
        split,
        shape=reader.shape,
        source={
            "root": str(reader.root),
            "files": _digest(_identity(reader.root, reader.paths)),
            "image_size": reader.image_size,
            "mode": reader.mode,
        },
        cache_dir=cache_dir,
    )
