"""A directory of the user's own pictures as a data set."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import logging

from genjax.data.crop import Crop
from genjax.data.picture import ENDINGS
from genjax.data.picture_split import Reading, all_of, dataset_of, held_out
from genjax.data.split import Dataset, Split
from genjax.data.survey import PictureSet, sha256
from genjax.typing import DataSpec, UserError

_SPLIT_NAMES = {"train", "training", "test", "val", "valid", "validation", "eval"}


def folder(
    name: str = "folder",
    dir: str | None = None,
    *,
    image_size: int | None = None,
    crop: Crop = "square",
    color: str | None = None,
    background: str = "white",
    eval_fraction: float = 0.1,
    skip_bad: bool = False,
    in_memory: bool | None = None,
    cache_dir: str | None = None,
    check: Callable[[DataSpec], None] | None = None,
) -> Dataset:
    """The pictures below `dir`, to any depth; files of other kinds are passed over.

    The class of a picture is the sub-folder of `dir` that it is in, in alphabetical
    order; pictures that lie in `dir` itself have no classes. Which are found: see
    `pictures_below`. Held out is the eval_fraction of them that `held_out` chooses by
    their relative paths. The other options: see `genjax.data.picture_split.Reading`.

    Raises UserError for a folder of fewer than two pictures, and one that lists all
    pictures that cannot be decoded, have more than 2^26 pixels or 32 bits a channel.
    """
    root = _checked_root(dir)
    pictures = _found_in(root)
    classes = _classes(root, pictures.names)
    number = {name: i for i, name in enumerate(classes)}
    return dataset_of(
        name,
        pictures,
        [number.get(path.split("/")[0], 0) for path in pictures.names],
        classes,
        lambda good: held_out(good, pictures.names, eval_fraction),
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
        eval_fraction=eval_fraction,
    )


def pictures(
    dir: str, *, image_size: int | None = None, color: str | None = None
) -> tuple[Split, str]:
    """All pictures below `dir` as one split, in the order of their paths.

    Returns it with a fingerprint, which changes with the files' names and content.
    Options and errors are those of `folder`; sub-folders mean nothing.
    """
    root = _checked_root(dir)
    names = pictures_below(root)
    if not names:
        raise UserError(f"{root} holds no pictures ({', '.join(ENDINGS)})")
    how = Reading(image_size=image_size, color=color)
    return all_of(root.name, picture_set(root, names), how)


def _checked_root(dir: str | None) -> Path:
    if dir is None:
        raise UserError("the data set 'folder' needs data.dir, a directory of pictures")
    root = Path(dir).expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"{root} is not a directory; set data.dir to one of pictures")
    return root


def _found_in(root: Path) -> PictureSet:
    names = pictures_below(root)
    if len(names) < 2:
        raise UserError(
            f"{root} holds {len(names)} pictures ({', '.join(ENDINGS)}) and two are "
            "needed, to train and to evaluate; set data.dir"
        )
    return picture_set(root, names)


# --- what lies below a directory ------------------------------------------------------


def pictures_below(root: Path) -> list[str]:
    """Paths of all pictures below root, relative to it, with "/", and sorted.

    Hidden files and folders, whose names begin with a dot, are passed over. Links are
    followed, but into each folder once: one that leads to a folder that is there
    anyway, or back up, is passed over and named.
    Raises UserError for a folder that cannot be read.
    """
    found: list[str] = []
    links, seen = [root], set[str]()
    while links:
        link = links.pop(0)
        real = os.path.realpath(link)
        if real in seen or os.path.realpath(root).startswith(real.rstrip("/") + "/"):
            logging.warning(
                "the linked folder %s is passed over: it leads to %s, which is there "
                "already",
                link,
                real,
            )
            continue
        for parent, folders, files in _walk(link):
            here = os.path.realpath(parent)
            if here in seen:
                folders.clear()
                continue
            seen.add(here)
            links += [p for f in folders if (p := Path(parent, f)).is_symlink()]
            found += [os.path.relpath(os.path.join(parent, f), root) for f in files]
    return sorted(Path(path).as_posix() for path in found)


def _walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk without what is hidden, pictures only, in alphabetical order."""

    def fail(error: OSError) -> None:
        raise UserError(f"the folder {error.filename} cannot be read: {error.strerror}")

    for parent, folders, files in os.walk(top, onerror=fail):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        shown = [f for f in files if not f.startswith(".")]
        yield parent, folders, [f for f in shown if f.lower().endswith(ENDINGS)]


def picture_set(root: Path, names: Sequence[str]) -> PictureSet:
    """These pictures below root."""
    return PictureSet(
        where=str(root),
        names=names,
        source=lambda i: root / names[i],
        key=sha256(repr([_identity(str(root / name)) for name in names])),
    )


def _identity(path: str) -> tuple[str, int, int, int]:
    """The path, size and times of a file; of a dead link -1.

    The time of its content can be set back, as `cp -p` does; that of its inode cannot.
    """
    try:
        stat = os.stat(path)
    except OSError:
        return path, -1, -1, -1
    return path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _classes(root: Path, paths: Sequence[str]) -> tuple[str, ...]:
    tops = [path.split("/")[0] if "/" in path else None for path in paths]
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
