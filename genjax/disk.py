"""Files written whole or not at all, on a disk or in a bucket (`genjax.places`)."""

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import struct
import sys
import tempfile
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from genjax.places import in_bucket
from genjax.typing import SaveError, UserError

# What NumPy and the readers below it raise of a file that is not as it was written.
DAMAGE = (
    OSError,
    ValueError,  # UnicodeDecodeError, JSONDecodeError
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    NotImplementedError,
    MemoryError,
    RecursionError,
    SyntaxError,  # of the header of an .npy, which is Python
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

PART = ".part"  # how the names of unfinished files end


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turns an OSError inside into a SaveError with the path and the free bytes."""
    try:
        yield
    except OSError as error:
        free = free_bytes(path)
        room = "" if free is None else f"; {free:,} bytes are free on that disk"
        raise SaveError(
            f"cannot write {path}: {error.strerror or error}{room}"
        ) from error


@contextlib.contextmanager
def claiming(path: Path, name: str) -> Iterator[None]:
    """Turns an OSError inside, before any work, into the sentence for the user.

    name: what comes before the path, like "the workdir ".
    Raises SaveError where the disk is full, UserError where the place is not writable.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = free_bytes(path) or 0
            raise SaveError(
                f"{name}{path} cannot be written: the disk is full ({free:,} bytes "
                "and perhaps no file more are free)"
            ) from error
        why = error.strerror or error
        raise UserError(f"{name}{path} cannot be written: {why}") from error


def check_writable(folder: Path, name: str) -> None:
    """Makes the folder and writes to a nameless file in it, as `claiming` says."""
    with claiming(folder, name):
        if in_bucket(folder):
            trial = folder / f".{uuid.uuid4().hex}{PART}"
            trial.write_bytes(b"")
            trial.unlink(missing_ok=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes path's place once it is whole, or not at all.

    Its bytes are on the disk before it takes the name. What a killed process leaves of
    it is for `remove_parts`. An object of a bucket is always put so. Raises OSError.
    """
    if in_bucket(path):
        content = io.BytesIO()
        yield content
        path.write_bytes(content.getvalue())
        return
    # A name of its own: two processes may write the same path at once.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        with _locked(part) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, path)  # before it is closed, which unlocks it
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Removes from a folder what killed processes had begun to write there.

    Files that a living process writes, on this machine or another, stay; all do where
    the disk has no locks.
    """
    for part in folder.glob(f".*{PART}"):
        with contextlib.suppress(OSError), open(part, "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer holds it
            part.unlink()


def _locked(part: Path) -> BinaryIO:
    """A new file that `remove_parts` leaves alone until it is closed."""
    while True:
        file = open(part, "wb")
        with contextlib.suppress(OSError):  # a disk without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # removed before it was locked


def write_atomically(path: Path, content: bytes) -> None:
    """The whole content under that name, or what was there before; never a part.

    Makes the folder. Raises SaveError.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)


def drop_output() -> None:
    """Sends the rest of the standard output nowhere: its reader, `head` say, has gone.

    What is still in the buffer would fail once more at the exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def short(error: BaseException) -> str:
    """The error in words, without the rest of one that quotes a whole file."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} ..."


def from_json(text: str | bytes) -> Any:
    """What the text says. Raises ValueError for all that is not JSON."""
    try:
        return json.loads(text)
    except RecursionError as error:  # a damaged file may nest a thousand brackets
        raise ValueError("it nests too deep") from error


def free_bytes(path: Path) -> int | None:
    """Of the disk that the path is on, or would be; None in a bucket, which has no end.

    Raises OSError if it cannot be reached.
    """
    if in_bucket(path):
        return None
    return shutil.disk_usage(_existing(path)).free


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(p for p in (path, *path.absolute().parents) if p.exists())
