"""The folder that the steps lie in."""

import os
import re
from pathlib import Path

from genjax.disk import claiming
from genjax.typing import UserError

DISCARDED = "discarded"
STEP = re.compile(r"0|[1-9]\d*")
LEFTOVER = re.compile(rf"\d+\.orbax-checkpoint-tmp(-\d+)?|{DISCARDED}")


def make_directory(directory: str | os.PathLike[str]) -> Path:
    """Its absolute path.

    Raises UserError if it cannot be made, SaveError if the disk is full.
    """
    if "://" in os.fspath(directory):
        raise UserError(f"checkpoints need a local path, not {os.fspath(directory)}")
    path = Path(os.path.abspath(os.path.expanduser(directory)))
    with claiming(path, "the checkpoint folder "):
        path.mkdir(parents=True, exist_ok=True)
    return path


def listdir(directory: Path) -> list[str]:
    """The names in it, none if it is gone. Raises OSError if it cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed under our feet: the next save says so


def entries(directory: Path) -> list[int]:
    """All that is named like a step, be it one or not, oldest first."""
    return sorted(int(name) for name in listdir(directory) if STEP.fullmatch(name))


def is_committed(path: Path) -> bool:
    """A real folder with both items: Orbax renames it into place when all is there."""
    return not path.is_symlink() and all(
        (path / item).is_dir() for item in ("state", "meta")
    )


def free_name(directory: Path, name: str) -> Path:
    """`name`, or `name`-2, -3, ... if that is taken."""
    target, number = directory / name, 1
    while os.path.lexists(target):
        number += 1
        target = directory / f"{name}-{number}"
    return target


def read_through(path: Path) -> None:
    """Reads every byte below path. Raises OSError if the machine does not let it."""
    for folder, _, names in os.walk(path, onerror=_raise):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                while file.read(2**24):
                    pass


def _raise(error: OSError) -> None:
    raise error
