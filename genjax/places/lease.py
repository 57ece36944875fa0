"""A folder of a bucket held by one run at a time, by a lease that it renews.

The object LOCK says who holds it: {"host", "pid", "started", "seconds", "nonce"}. It is
written only over the version that was seen before, so of two runs that want the folder
one gets it. The holder writes it again four times within `seconds`; if it has not
changed for so long its holder is dead, and the next run takes it.
"""

import contextlib
import datetime
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from genjax.places import BucketError
from genjax.places.bucket import BucketPath, Version
from genjax.typing import SaveError, Stopped, UserError

NAME = "LOCK"
SECONDS = 60.0  # for which a lease is valid
SKEW = 120.0  # seconds by which clocks may differ

Say = Callable[[str], object]


@contextlib.contextmanager
def held(
    folder: BucketPath, seconds: float, say: Say, stop: Callable[[], bool]
) -> Iterator[Callable[[], None]]:
    """Holds the folder; yields a check, which raises SaveError once another has it.

    seconds: for which the lease is valid without being renewed. say: is told of a lease
    that is waited for, or that has run out. stop: whether to give up waiting.
    Raises UserError if another run holds the folder, Stopped, BucketError.
    """
    lease = _Lease(folder, seconds)
    lease.take(say, stop)
    renewing = threading.Thread(target=lease.keep, name="genjax-lease", daemon=True)
    renewing.start()
    try:
        yield lease.check
    finally:
        lease.ended.set()
        renewing.join()
        lease.give_back()


class _Lease:
    def __init__(self, folder: BucketPath, seconds: float):
        now = datetime.datetime.now().astimezone()
        self._path, self._folder, self._seconds = folder / NAME, folder, seconds
        self._own = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": now.isoformat(timespec="seconds"),
            "seconds": seconds,
            "nonce": uuid.uuid4().hex,
        }
        self._generation, self._renewed = 0, 0.0
        self._lost: str | None = None
        self._one_at_a_time = threading.Lock()
        self.ended = threading.Event()

    def take(self, say: Say, stop: Callable[[], bool] = lambda: False) -> None:
        """Takes the lease, after waiting for one to be renewed or to run out."""
        while True:
            found = self._path.version()
            if found is not None:
                holder = _holder(self._path)
                if not self._runs_out(found, holder, say, stop):
                    continue
                say(
                    f"the lease of {_in_words(holder)} on {self._folder} ran out at "
                    f"{_until(found, holder)}: taken over"
                )
            try:
                self._write(found.generation if found else 0)
                return
            except FileExistsError:
                continue  # another was faster: wait for that one

    def keep(self) -> None:
        """Renews the lease until it has ended, or was lost."""
        while self._lost is None and not self.ended.wait(self._seconds / 4):
            with contextlib.suppress(BucketError):  # again in a moment
                self._renew(patience=self._seconds / 4)

    def check(self) -> None:
        """Raises SaveError if another run has the folder, or may have it."""
        # This process may have been stopped for longer than it was to be.
        if self._lost is None and time.monotonic() - self._renewed > self._seconds:
            try:
                self._renew()
            except BucketError as error:
                raise SaveError(
                    f"the lease on {self._folder} ran out and could not be renewed "
                    f"({error.strerror}): the run stops at its last checkpoint"
                ) from error
        if self._lost is not None:
            raise SaveError(self._lost)

    def give_back(self) -> None:
        """Ends the lease, if it is still ours."""
        if self._lost is not None:
            return
        # else it runs out by itself
        with contextlib.suppress(OSError):
            found = self._path.version()
            if found is not None and found.generation == self._generation:
                self._path.unlink()

    def _renew(self, patience: float | None = None) -> None:
        with self._one_at_a_time:
            if self._lost is not None:
                return
            try:
                self._write(self._generation, patience)
            except FileExistsError:
                taken = _in_words(_holder(self._path))
                self._lost = (
                    f"the folder {self._folder} was taken over by {taken}: this run "
                    "stops; what it did since its last checkpoint is lost"
                )

    def _write(self, after: int, patience: float | None = None) -> None:
        began = time.monotonic()
        # The same at each renewal: a write whose answer was lost is known by it.
        content = json.dumps(self._own).encode()
        made = self._path.put(content, after=after, patience=patience)
        self._generation, self._renewed = made.generation, began

    def _runs_out(
        self, found: Version, holder: dict[str, Any], say: Say, stop: Callable[[], bool]
    ) -> bool:
        """Waits for it; False if the lease is given back.

        Raises UserError if it is renewed.
        """
        seconds, told = _seconds(holder), False
        age = (datetime.datetime.now(datetime.UTC) - found.updated).total_seconds()
        # Beyond any doubt about clocks it need not be watched.
        end = time.monotonic() + (0 if age > seconds + SKEW else seconds)
        while time.monotonic() < end:
            if not told:
                say(
                    f"{self._folder} is leased by {_in_words(holder)}; this run takes "
                    f"over if the lease is not renewed within {seconds:g} s"
                )
                told = True
            if stop():
                raise Stopped("while waiting for a lease, before the first step")
            time.sleep(min(1.0, seconds / 10))
            now = self._path.version()
            if now is None:
                return False
            if now.generation != found.generation:
                raise UserError(
                    f"the workdir {self._folder} is in use by {_in_words(holder)}, "
                    f"with a lease until {_until(now, holder)}: wait for it or choose "
                    "another --workdir"
                )
        return True


def _holder(path: BucketPath) -> dict[str, Any]:
    """What the lease says of who holds it; of a garbled one, nothing."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(holder: dict[str, Any]) -> float:
    seconds = holder.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else SECONDS


def _in_words(holder: dict[str, Any]) -> str:
    try:
        return f"process {holder['pid']} on {holder['host']} since {holder['started']}"
    except KeyError:
        return "another run"


def _until(version: Version, holder: dict[str, Any]) -> str:
    end = version.updated + datetime.timedelta(seconds=_seconds(holder))
    return end.astimezone().isoformat(timespec="seconds")
