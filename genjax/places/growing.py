"""Files of a run folder that are written bit by bit."""

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from genjax import places

if TYPE_CHECKING:
    from genjax.places.bucket import BucketPath

_log = logging.getLogger(__name__)

PERIOD = 10.0  # seconds between two uploads, at least
SHARE = 20  # of the time may go into uploads: one part in so many


class Growing:
    """Files that are appended to, in a folder.

    folder: where to write them. On a disk that is the folder itself. Objects of a
    bucket cannot be appended to: there the files grow in a folder of this machine, and
    `sync` puts those whole that have changed.
    """

    def __init__(self, home: Path, *names: str):
        """names: of the files that go on, if they are there. Raises OSError."""
        self.folder = home
        self._copy: _Copy | None = None
        if places.in_bucket(home):
            self._copy = _Copy(home)
            self.folder = self._copy.folder
            for name in names:
                self._copy.fetch(name)
        else:
            home.mkdir(parents=True, exist_ok=True)

    def sync(self, *, now: bool = False) -> None:
        """Puts what has grown, if it is time to, or now.

        Raises OSError if a file cannot be put, or was changed by another run; unless
        now, a bucket that does not answer is only told of, and asked again later.
        """
        if self._copy is not None:
            self._copy.sync(now)

    def close(self) -> None:
        """The last `sync`. Raises OSError as that does."""
        copy, self._copy = self._copy, None
        if copy is not None:
            try:
                copy.sync(now=True)
            finally:
                copy.remove()


class _Copy:
    """The files of a folder in a bucket, here."""

    def __init__(self, home: "BucketPath"):
        self._home = home
        self._temporary = tempfile.TemporaryDirectory(prefix="genjax-")
        self.folder = Path(self._temporary.name)
        self._put: dict[str, tuple[int, int]] = {}  # {name: (generation, size)}
        self._wait, self._last, self._failed = PERIOD, time.monotonic(), False

    def fetch(self, name: str) -> None:
        found = (self._home / name).version()
        content = b"" if found is None else (self._home / name).read_bytes()
        (self.folder / name).write_bytes(content)
        self._put[name] = (found.generation if found else 0, len(content))

    def sync(self, now: bool) -> None:
        began = time.monotonic()
        if not now and began - self._last < self._wait:
            return
        try:
            for path in self.folder.iterdir():
                self._upload(path)
        except places.BucketError as error:
            if now:
                raise
            if not self._failed:
                _log.warning("%s; trying again later", error)
            self._failed = True
        else:
            self._failed = False
        self._last = time.monotonic()
        self._wait = max(PERIOD, SHARE * (self._last - began))

    def remove(self) -> None:
        self._temporary.cleanup()

    def _upload(self, path: Path) -> None:
        generation, size = self._put.get(path.name, (0, -1))
        if path.stat().st_size == size:
            return
        content = path.read_bytes()
        made = (self._home / path.name).put(content, after=generation)
        self._put[path.name] = (made.generation, len(content))
