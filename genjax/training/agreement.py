"""At the start all processes of a run compare what they are about to do.

Two that differ in one field train a wrong state without a word, or wait for each other
for ever. They exchange texts through the key-value store of JAX's coordinator, before
any device is used: a device already needs them to agree on their number.
"""

import contextlib
import hashlib
import json
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from genjax.disk import claiming
from genjax.places import in_bucket
from genjax.training.peers import known_to_all
from genjax.typing import LostProcess, SaveError, UserError

SECONDS = 120  # for an answer of a process that has joined
FOLDER_SECONDS = 15.0  # until a shared disk shows a new file everywhere
MAX_SHOWN = 4
ABSENT = "absent"


@runtime_checkable
class Store(Protocol):
    """What this asks of `jax.distributed`'s client."""

    def key_value_set(
        self, key: str, value: str, allow_overwrite: bool = False
    ) -> None:
        """Sets a key, which fails if it is set and may not be overwritten."""

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str:
        """The value, once it is set."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """All keys below this one that are set, with their values."""
        ...


class Agreement:
    """Exchanges of one kind after another; all processes must make the same ones."""

    def __init__(self, store: Store, process: int, count: int):
        """process: this one's number among `count`."""
        self._store, self._process, self._count = store, process, count

    def on(self, name: str, facts: Mapping[str, Any]) -> None:
        """Raises the same UserError in every process if one has other facts.

        name: of this exchange. facts: {what it is: its value}; values are compared and
        shown as text.
        """
        mine = {"host": socket.gethostname(), "facts": _as_text(facts)}
        self._set(f"{name}/facts/{self._process}", mine)
        first = self._get(f"{name}/facts/0")
        self._all_or_none(name, difference(self._process, first, mine))

    def without_waiting(self, what: str, value: str, *, of: str) -> None:
        """As `on` for one fact that not all processes need come to know.

        of: which fact of that kind. The process that knows it later raises UserError.
        """
        key = f"genjax/agree/{hashlib.sha256(f'{what} {of}'.encode()).hexdigest()}"
        mine = {"host": socket.gethostname(), "facts": {what: value}}
        text = json.dumps(mine)
        self._store.key_value_set(f"{key}/{self._process}", text, allow_overwrite=True)
        # Each sets before it looks, so of two the later one sees both.
        known = self._store.key_value_dir_get(f"{key}/")
        others = {int(path.rpartition("/")[2]): json.loads(x) for path, x in known}
        if 0 not in others:
            return
        for process, other in sorted(others.items()):
            if self._process in (0, process):
                if problem := difference(process, others[0], other):
                    raise UserError(problem)

    def on_folder(self, path: Path) -> None:
        """Raises UserError in every process if the folder is not one that they share.

        Leaves nothing there, nor the folder if it is new. Raises UserError or
        SaveError if process 0 cannot write there.
        """
        name = "folder"
        with contextlib.ExitStack() as stack:
            token, problem = "", None
            if self._process == 0:
                try:
                    token = stack.enter_context(_token_in(path))
                except (UserError, SaveError) as error:
                    problem = {"says": str(error), "full": isinstance(error, SaveError)}
                self._set(f"{name}/token", {"token": token, "problem": problem})
            given = self._get(f"{name}/token")
            if (problem := given["problem"]) is not None:
                kind = SaveError if problem["full"] else UserError
                raise known_to_all(kind(problem["says"]))
            self._all_or_none(
                name, "" if _shows(path, given["token"]) else self._unshared(path)
            )

    def _unshared(self, path: Path) -> str:
        return (
            f"the workdir {path} of process {self._process} on {socket.gethostname()} "
            "is not the folder of that name of process 0: give all processes one on a "
            "disk that they share"
        )

    def _all_or_none(self, name: str, problem: str) -> None:
        """Raises UserError in every process if one has a problem."""
        self._set(f"{name}/problem/{self._process}", problem)
        if self._process == 0:
            found = [
                self._get(f"{name}/problem/{other}") for other in range(self._count)
            ]
            self._set(f"{name}/problems", list(filter(None, found)))
        problems = self._get(f"{name}/problems")
        if problems:
            more = len(problems) - 1
            also = f" ({more} more differ from process 0)" if more else ""
            raise known_to_all(UserError(problems[0] + also))

    def _set(self, key: str, value: Any) -> None:
        self._store.key_value_set(f"genjax/agree/{key}", json.dumps(value))

    def _get(self, key: str) -> Any:
        key = f"genjax/agree/{key}"
        try:
            text = self._store.blocking_key_value_get(key, int(1000 * SECONDS))
        except RuntimeError as error:  # of JAX: nothing came
            raise LostProcess() from error
        return json.loads(text)


def difference(process: int, first: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """In words, how the facts of a process differ from the first one's; or nothing."""
    theirs, own = first["facts"], mine["facts"]
    names = [
        name
        for name in {**theirs, **own}
        if theirs.get(name, ABSENT) != own.get(name, ABSENT)
    ]
    if not names:
        return ""
    shown = [
        f"{name} is {theirs.get(name, ABSENT)} in process 0 and "
        f"{own.get(name, ABSENT)} in process {process}"
        for name in names[:MAX_SHOWN]
    ]
    if len(names) > MAX_SHOWN:
        shown.append(f"and {len(names) - MAX_SHOWN} more differ")
    return (
        f"the processes of this run do not agree: {'; '.join(shown)} (on "
        f"{first['host']} and {mine['host']}): start all with the same command, code "
        "and versions"
    )


def _as_text(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items()}


@contextlib.contextmanager
def _token_in(folder: Path) -> Iterator[str]:
    """The name of a new file in the folder, which is made for it if need be."""
    above = [] if in_bucket(folder) else [folder, *folder.parents]
    made = [path for path in above if not path.exists()]
    token = f".together-{uuid.uuid4().hex}"
    try:
        with claiming(folder, "the workdir "):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / token).write_bytes(b"")
        yield token
    finally:
        with contextlib.suppress(OSError):
            (folder / token).unlink(missing_ok=True)
            for path in made:  # the innermost first; one that is in use stays
                path.rmdir()


def _shows(folder: Path, token: str) -> bool:
    """Whether the file is there, or comes: a shared disk may take its time."""
    until = time.monotonic() + FOLDER_SECONDS
    while True:
        with contextlib.suppress(OSError):
            # The folder is read: a disk may remember which names are not there.
            if any(path.name == token for path in folder.iterdir()):
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
