"""The folder that the steps lie in: on a disk here, in a bucket in `bucket_folder`."""

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from genjax.disk import claiming, free_bytes
from genjax.places import in_bucket, place

DISCARDED = "discarded"
STEP = re.compile(r"0|[1-9]\d*")
ASIDE = "corrupt-"  # how the names of damaged steps begin
_LEFTOVER = re.compile(rf"\d+\.orbax-checkpoint-tmp(-\d+)?|{DISCARDED}")


@runtime_checkable
class Folder(Protocol):
    """What a Checkpointer asks of the place of its steps. All may raise OSError.

    aside: what becomes of damaged steps, in words. orbax_discards: whether Orbax may
    remove steps that are no longer wanted.
    """

    aside: str
    orbax_discards: bool

    @property
    def path(self) -> Path:
        """Of the folder."""
        ...

    def entries(self) -> list[int]:
        """The steps that may be tried, oldest first."""
        ...

    def is_committed(self, step: int) -> bool:
        """Whether all of the step is there."""
        ...

    def leftovers(self) -> list[str]:
        """What killed processes left: names in the folder."""
        ...

    def remove(self, name: str) -> None:
        """Removes a leftover, as far as that can be done."""
        ...

    def discard(self, step: int) -> None:
        """Removes a step; whoever is killed over it leaves a leftover, no damage."""
        ...

    def name_aside(self, step: int) -> str:
        """Where `set_aside` puts a step."""
        ...

    def set_aside(self, step: int, target: str, reason: str) -> None:
        """Keeps a damaged step where it is not tried again."""
        ...

    def has_aside(self) -> bool:
        """Whether there is a step that was set aside."""
        ...

    def read_through(self, step: int) -> None:
        """Reads every byte of a step."""
        ...


def open_folder(directory: str | os.PathLike[str]) -> Folder:
    """The folder, made if it is missing.

    Raises UserError if it cannot be made, SaveError if the disk is full.
    """
    path = place(directory, "the checkpoint folder ")
    if in_bucket(path):
        from genjax.training.checkpoint.bucket_folder import BucketFolder

        return BucketFolder(path)
    with claiming(path, "the checkpoint folder "):
        path.mkdir(parents=True, exist_ok=True)
    return DiskFolder(path)


class DiskFolder:
    """A step is renamed into place when it is whole, and away when it is not wanted."""

    aside = "kept as corrupt-<step>: delete these"
    orbax_discards = True

    def __init__(self, path: Path):
        self.path = path

    def entries(self) -> list[int]:
        """All that is named like a step, be it one or not."""
        return sorted(int(name) for name in self._names() if STEP.fullmatch(name))

    def is_committed(self, step: int) -> bool:
        """A real folder with both items."""
        path = self.path / str(step)
        return not path.is_symlink() and all(
            (path / item).is_dir() for item in ("state", "meta")
        )

    def leftovers(self) -> list[str]:
        """Folders of unfinished saves, and that of steps which are no longer wanted."""
        return [name for name in self._names() if _LEFTOVER.fullmatch(name)]

    def remove(self, name: str) -> None:
        """Removes it."""
        shutil.rmtree(self.path / name, ignore_errors=True)

    def discard(self, step: int) -> None:
        """Renames it, to be removed with the leftovers."""
        home = self.path / DISCARDED
        home.mkdir(exist_ok=True)
        (self.path / str(step)).rename(home / str(step))

    def name_aside(self, step: int) -> str:
        """corrupt-<step>, or corrupt-<step>-2, -3, ... if that is taken."""
        name, number = f"{ASIDE}{step}", 1
        while os.path.lexists(self.path / name):
            number += 1
            name = f"{ASIDE}{step}-{number}"
        return name

    def set_aside(self, step: int, target: str, reason: str) -> None:
        """Renames it."""
        del reason
        (self.path / str(step)).rename(self.path / target)

    def has_aside(self) -> bool:
        """Whether one was renamed."""
        return any(name.startswith(ASIDE) for name in self._names())

    def read_through(self, step: int) -> None:
        """Reads every byte below the step's folder."""
        for folder, _, names in os.walk(self.path / str(step), onerror=_raise):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    while file.read(2**24):
                        pass

    def _names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(os.listdir(self.path))
        return []  # removed under our feet: the next save says so


def has_room(folder: Folder, needed: int) -> bool:
    """Whether so many bytes fit. Raises OSError if the disk cannot be reached."""
    free = free_bytes(folder.path)
    return free is None or free >= needed


def room(folder: Folder, needed: int) -> str:
    """The free and the needed bytes, in words."""
    try:
        free = free_bytes(folder.path)
    except OSError:
        return f"the folder cannot be reached, {needed:,} bytes needed"
    if free is None:
        return f"{needed:,} bytes to write"
    return f"{free:,} bytes free, {needed:,} bytes needed"


def committed(folder: Folder) -> list[int]:
    """The steps that are whole, oldest first. Raises OSError."""
    return [step for step in folder.entries() if folder.is_committed(step)]


def names(steps: Sequence[int]) -> str:
    """The steps in a list for people, or "none"."""
    return ", ".join(map(str, steps)) or "none"


def _raise(error: OSError) -> None:
    raise error
