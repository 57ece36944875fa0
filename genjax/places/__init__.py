"""Where the files of a run lie: in a folder of a disk, or of a bucket.

`place` makes of a text the path of either. Both are `pathlib.Path`s, so that the rest
of genjax reads and writes them alike; what a disk can do and a bucket cannot has its
other form here:

    disk                                  bucket
    a file renamed into place             an object, which is put whole (`BucketPath`)
    a file that is appended to            a local copy, put whole again (`growing`)
    flock, which dies with its process    a lease, which runs out (`lease`)

A checkpoint's own form is in `genjax.training.checkpoint.bucket_folder`.
"""

import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from genjax.typing import UserError

if TYPE_CHECKING:
    from genjax.places.bucket import BucketPath

SCHEME = "gs://"
PACKAGES = ("gcsfs", "google.cloud.storage")
"""What the extra [gcs] installs: the first is for Orbax, the second for genjax."""


class BucketError(OSError, UserError):
    """A bucket refuses, or does not answer; nothing is known of what it holds.

    An OSError to what writes files, with errno EACCES of a refusal and EIO where it did
    not answer; and a sentence for the user.
    """

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def place(path: str | os.PathLike[str], name: str = "the path ") -> Path:
    """The absolute path, of a disk or a bucket.

    name: of the flag or argument, for the message.
    Raises UserError for no path, for one of another store than Google Cloud Storage,
    and for a bucket's where the packages for it are missing.
    """
    text = os.fspath(path)
    name = name if name.endswith(" ") else f"{name}="
    if not text:
        raise UserError(f"{name.strip('= ')} needs a path, and is empty")
    if not text.startswith(SCHEME):
        if "://" in text:
            raise UserError(
                f"{name}{text} is neither a local path nor gs://bucket/folder: mount "
                "that store, or copy what is there"
            )
        return Path(text).expanduser().absolute()
    _check_address(text, name)
    if any(not _is_installed(package) for package in PACKAGES):
        raise UserError(
            f"{name}{text} needs packages for Google Cloud Storage: "
            "pip install 'genjax-models[gcs]'"
        )
    from genjax.places.bucket import BucketPath

    return BucketPath(text)


def in_bucket(path: str | os.PathLike[str]) -> "TypeGuard[BucketPath]":
    """Whether a path is one of a bucket."""
    return os.fspath(path).startswith(SCHEME)


def explained(error: Exception, path: Path) -> OSError | None:
    """What a library below raised, as an error of the path; None if it is not of it."""
    if in_bucket(path):
        from genjax.places import bucket

        return bucket.explained(error, path)
    return error if isinstance(error, OSError) else None


def _check_address(text: str, name: str) -> None:
    bucket, _, folder = text.removeprefix(SCHEME).partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", bucket):
        raise UserError(f"{name}{text} names no bucket: write it like gs://bucket/run")
    # ?, # and brackets mean something to one or another of the clients below
    if re.search(r"[?#*\[\]\\\x00-\x1f]", folder) or ".." in folder.split("/"):
        raise UserError(
            f"{name}{text} holds one of ? # * [ ] \\ or a part '..', which a folder of "
            "a bucket cannot have here: name another"
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of what lies above it
        return False
