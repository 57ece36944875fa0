"""Files written whole or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from genjax.typing import SaveError


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turns an OSError inside into a SaveError with the path and the free bytes."""
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(_existing(path)).free
        raise SaveError(
            f"cannot write {path}: {error.strerror or error}; {free:,} bytes are free "
            "on that disk"
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes path's place once it is whole, or not at all.

    Its bytes are on the disk before it takes the name. Raises OSError.
    """
    # A name of its own: two processes may write the same path at once.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """The whole content under that name, or what was there before; never a part.

    Makes the folder. Raises SaveError.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.absolute().parents) if p.exists())
