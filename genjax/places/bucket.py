"""A path of Google Cloud Storage, as a `pathlib.Path`."""

import base64
import contextlib
import errno
import functools
import hashlib
import io
import os
import pathlib
import stat
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from genjax.places import SCHEME, BucketError

PATIENCE = 120.0
"""Seconds for which a request is tried again, at growing distances."""

THREADS = 8  # that ask at once, where there is much to ask


class Version(NamedTuple):
    """Which of the contents that an object has had.

    generation: a number that changes with each. updated: by the server's clock.
    """

    generation: int
    updated: datetime
    size: int
    md5: str | None


class BucketPath(pathlib.PosixPath):
    """gs://bucket/folder/name.

    What fails for another reason than that an object is there or is not raises
    BucketError, after trying for PATIENCE seconds if it may pass.
    """

    # Its parts are "gs:", the bucket, and those of the object's name.

    def __str__(self) -> str:
        if self.parts[:1] != ("gs:",):  # what `relative_to` gives
            return "/".join(self.parts) or "."
        return SCHEME + "/".join(self.parts[1:])

    def __fspath__(self) -> str:
        return str(self)

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The name of the object in the bucket."""
        return "/".join(self.parts[2:])

    def absolute(self) -> "BucketPath":
        """Itself."""
        return self

    def is_absolute(self) -> bool:
        """True."""
        return True

    def expanduser(self) -> "BucketPath":
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> "BucketPath":
        """Itself."""
        del strict
        return self

    # What is there

    def version(self) -> Version | None:
        """Of the object; None if there is none."""
        blob = self._blob()
        try:
            with _asking(self):
                blob.reload(**_tried())
        except FileNotFoundError:
            return None
        return _version(blob)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and time of an object; a folder is what has objects below it."""
        del follow_symlinks
        found = self.version()
        if found is None:
            if self.is_dir():
                return os.stat_result((stat.S_IFDIR | 0o777, 0, 0, 1, *[0] * 6))
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        time = int(found.updated.timestamp())
        fields = (stat.S_IFREG | 0o666, 0, 0, 1, 0, 0, found.size, time, time, time)
        return os.stat_result(fields)

    lstat = stat

    def exists(self, **_: Any) -> bool:
        """Whether there is an object of that name, or one below it."""
        return self.is_file() or self.is_dir()

    def is_file(self, **_: Any) -> bool:
        """Whether there is an object of that name."""
        return self.version() is not None

    def is_dir(self, **_: Any) -> bool:
        """Whether there is an object below."""
        with _asking(self):
            return any(True for _ in self._listed(max_results=1))

    def is_symlink(self) -> bool:
        """False."""
        return False

    def iterdir(self) -> Generator["BucketPath", None, None]:
        """The objects and folders just below, in no order. None of nothing."""
        below = len(self._prefix)
        with _asking(self):
            listed = self._listed(delimiter="/")
            names = [blob.name[below:] for blob in listed]
            names += [name[below:].rstrip("/") for name in listed.prefixes]
        return (self / name for name in names if name)

    def glob(self, pattern: str, **_: Any) -> Generator["BucketPath", None, None]:
        """Those of `iterdir` that fit; the pattern is of one part."""
        if "/" in pattern or "**" in pattern:
            raise NotImplementedError(f"{pattern}: patterns of one part only")
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def objects(self) -> list["BucketPath"]:
        """All objects below, at any depth."""
        root = type(self)(f"{SCHEME}{self.bucket}")
        with _asking(self):
            return [root / blob.name for blob in self._listed()]

    # Reading and writing

    def read_bytes(self) -> bytes:
        """The object's content, checked against its checksum."""
        with _asking(self):
            return self._blob().download_as_bytes(**_tried())

    def read_text(self, encoding: str | None = None, *_: Any, **__: Any) -> str:
        """As UTF-8, if no other encoding is named."""
        return self.read_bytes().decode(encoding or "utf-8")

    def put(
        self,
        content: bytes,
        *,
        after: int | None = None,
        patience: float | None = None,
    ) -> Version:
        """Writes the whole object.

        after: the generation that it must have now, 0 where it must not be there.
        patience: in the place of PATIENCE.
        Raises FileExistsError if it has another.
        """
        blob = self._blob()
        if blob.name == "":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        try:
            with _asking(self):
                blob.upload_from_string(
                    content,
                    content_type="application/octet-stream",
                    if_generation_match=after,
                    checksum="crc32c",
                    **_tried(patience),
                )
        except FileNotFoundError as error:
            raise BucketError(
                errno.ENOENT, f"there is no bucket {self.bucket}", str(self)
            ) from error
        except FileExistsError:
            # The answer to a first try may have been lost on the way.
            now = self.version()
            if now is None or (now.size, now.md5) != (len(content), _md5(content)):
                raise
            return now
        return _version(blob)

    def write_bytes(self, data: Any) -> int:
        """Writes the whole object."""
        content = bytes(data)
        self.put(content)
        return len(content)

    def write_text(self, data: str, *_: Any, **__: Any) -> int:
        """Writes the whole object, as UTF-8."""
        return self.write_bytes(data.encode())

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """A copy in memory: "r", "rb", or "w", "wb", which is put when it is closed."""
        if mode in ("r", "rb"):
            file = io.BytesIO(self.read_bytes())
        elif mode in ("w", "wb"):
            file = _Written(self)
        else:
            raise io.UnsupportedOperation(f"{self} cannot be opened as {mode!r}")
        return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

    def mkdir(
        self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False
    ) -> None:
        """Does nothing: folders are names."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        try:
            with _asking(self):
                self._blob().delete(**_tried())
        except FileNotFoundError:
            if not missing_ok:
                raise

    def copy_to(self, target: "BucketPath") -> None:
        """Copies the object within the store; its bytes do not come here."""
        source, copied = self._blob(), target._blob()
        with _asking(self):
            token, _, _ = copied.rewrite(source, **_tried())
            while token is not None:
                token, _, _ = copied.rewrite(source, token=token, **_tried())

    def _blob(self) -> Any:
        with _asking(self):  # for credentials, the first time
            return _client().bucket(self.bucket).blob(self.key)

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _listed(self, **how: Any) -> Any:
        return _client().list_blobs(self.bucket, prefix=self._prefix, **how, **_tried())


class _Written(io.BytesIO):
    """What is written to it is put when it is closed without an error."""

    def __init__(self, path: BucketPath):
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.put(self.getvalue())
        super().close()

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
        else:
            super().close()


def remove(objects: list[BucketPath]) -> None:
    """Removes objects, also those that are gone already."""
    each(lambda path: path.unlink(missing_ok=True), objects)


def each(do: Any, paths: list[BucketPath]) -> None:
    """Calls do(path) for all of them, several at once. Raises the first error."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(do, paths):
            pass


@functools.cache
def prepare() -> None:
    """Makes Orbax see a bucket as it is, not as it was when it was first listed."""
    import fsspec.config

    for name in ("gcs", "gs"):
        fsspec.config.conf.setdefault(name, {})["use_listings_cache"] = False


@functools.cache
def _client() -> Any:
    prepare()
    return storage.Client()


def _tried(patience: float | None = None) -> dict[str, Any]:
    """How a request is made: the arguments of the client's methods."""
    retry = DEFAULT_RETRY.with_timeout(patience or PATIENCE).with_delay(maximum=16.0)
    return {"retry": retry, "timeout": (10.0, 60.0)}


def _version(blob: Any) -> Version:
    return Version(int(blob.generation), blob.updated, int(blob.size), blob.md5_hash)


def _md5(content: bytes) -> str:
    digest = hashlib.md5(content, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


@contextlib.contextmanager
def _asking(path: BucketPath) -> Iterator[None]:
    """Turns what the client raises into the errors that a disk would raise."""
    try:
        yield
    except Exception as error:
        told = explained(error, path)
        if told is None:
            raise
        raise told from error


FAILURES = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    InvalidResponse,
    DataCorruption,  # on the way: checksums are of what the server holds
    OSError,  # of requests
)
REFUSALS = (api.Unauthorized, api.Forbidden)
MISSING = {  # part of what Google's library says: what to say
    "default credentials were not found": (
        "no credentials for Google Cloud are here: run `gcloud auth "
        "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
    ),
    "Project was not passed": (
        "no project of Google Cloud is named: set GOOGLE_CLOUD_PROJECT"
    ),
}


def explained(error: BaseException, path: pathlib.Path) -> OSError | None:
    """The error as an OSError of that path; None if it is not of the store."""
    text = str(path)
    if isinstance(error, BucketError | FileNotFoundError | FileExistsError):
        return error
    if isinstance(error, api.NotFound):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
    if isinstance(error, api.PreconditionFailed):
        return FileExistsError(errno.EEXIST, "it was changed by another", text)
    said = " ".join((getattr(error, "message", "") or str(error)).split())
    code = getattr(error, "code", None)
    for missing, what_to_do in MISSING.items():
        if missing in said:
            return BucketError(errno.EACCES, what_to_do, text)
    of_gcsfs = type(error).__module__.startswith(("gcsfs", "aiohttp"))
    if isinstance(error, REFUSALS) or code in (401, 403) or "Forbidden: " in said:
        number = f" ({int(code)})" if isinstance(code, int) else ""
        why = f"Google Cloud Storage refuses access{number}: {said[:200]}"
        return BucketError(errno.EACCES, why, text)
    if isinstance(error, FAILURES) or of_gcsfs:
        why = f"Google Cloud Storage does not answer ({said[:200]})"
        return BucketError(errno.EIO, why, text)
    return None
