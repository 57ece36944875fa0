"""Reading one step: its state, or why it is not available."""

import dataclasses
import enum
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import orbax.checkpoint as ocp

from genjax.training.checkpoint import digest, noise, tree, words
from genjax.training.checkpoint.digest import DamagedError
from genjax.training.checkpoint.folder import Folder
from genjax.typing import UserError

StateT = TypeVar("StateT")

# Failures of the machine, not of the files. TensorStore and gRPC put theirs into words.
MACHINE_ERRNOS = (
    errno.EIO,
    errno.ESTALE,
    errno.ENOMEM,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.EMFILE,
    errno.ENFILE,
    errno.EACCES,
    errno.EPERM,
    errno.ENXIO,
    errno.ENODEV,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EREMOTEIO,
)
MACHINE_WORDS = (
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "Forbidden: ",  # gcsfs
    "out of memory",
    "can't start new thread",
    *(os.strerror(code) for code in MACHINE_ERRNOS),
)

# Whose errors tell of the way to a bucket; an object that is not there is none of them.
MACHINE_PACKAGES = ("aiohttp", "gcsfs", "google", "requests", "urllib3")
NOT_FOUND = 404


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restored(Generic[StateT]):
    """A state as it was saved, its step and notes, and the `meta` of the run."""

    step: int
    state: StateT
    meta: Mapping[str, Any]
    notes: Mapping[str, Any]


class Cause(enum.IntEnum):
    """What a failed read is due to; the larger is the less certain to be damage."""

    CONTENT = 1  # it was read, and it is not what was saved
    UNCLEAR = 2  # it could not be understood: damage, if that happens again
    MACHINE = 3


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a step could not be read, in a few words."""

    cause: Cause
    reason: str


def attempt(
    manager: ocp.CheckpointManager,
    folder: Folder,
    abstract_state: StateT,
    step: int,
) -> Restored[StateT] | Failure:
    """The step, or what is in the way of it.

    Raises UserError if the step is intact and holds another tree, shape or dtype.
    """
    with noise.quiet_read() as forget:
        outcome = _attempt(manager, folder, abstract_state, step)
        if isinstance(outcome, Failure) and outcome.cause != Cause.CONTENT:
            forget()
        return outcome


def _attempt(
    manager: ocp.CheckpointManager,
    folder: Folder,
    abstract_state: StateT,
    step: int,
) -> Restored[StateT] | Failure:
    try:
        return _read(manager, folder, abstract_state, step)
    except UserError:
        raise
    except DamagedError as error:
        return Failure(Cause.CONTENT, words.short(error))
    except Exception as error:
        if blames_the_machine(error):
            return Failure(Cause.MACHINE, words.short(error))
        unclear = Failure(Cause.UNCLEAR, words.short(error))
    try:
        # Orbax may have put the error of a read into words of its own.
        folder.read_through(step)
    except Exception as error:
        if not isinstance(error, FileNotFoundError):
            return Failure(Cause.MACHINE, words.short(error))
    return unclear


def blames_the_machine(error: BaseException) -> bool:
    """Whether the files may be intact though reading them failed."""
    return any(
        isinstance(link, MemoryError)
        or (isinstance(link, OSError) and link.errno in MACHINE_ERRNOS)
        or _is_of_the_way(link)
        for link in words.chain(error)
    ) or words.mentions(error, MACHINE_WORDS)


def _is_of_the_way(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    return package in MACHINE_PACKAGES and getattr(error, "code", None) != NOT_FOUND


def _read(
    manager: ocp.CheckpointManager,
    folder: Folder,
    abstract_state: StateT,
    step: int,
) -> Restored[StateT]:
    body = read_body(manager, folder, step)
    _check_structure(folder.path, abstract_state, body)
    args = ocp.args.Composite(
        state=ocp.args.StandardRestore(tree.to_orbax(abstract_state))  # type: ignore[call-arg]
    )
    read = manager.restore(step, args=args)["state"]
    state = tree.from_orbax(abstract_state, read)
    digests, _ = digest.digests(tree.named_leaves(state))
    wrong = [p for p, leaf in body["leaves"].items() if digests[p] != leaf[2:]]
    if wrong:
        raise DamagedError("the digest differs for " + words.some(wrong))
    notes = body.get("notes", {})
    return Restored(step=step, state=state, meta=body["meta"], notes=notes)


def read_body(
    manager: ocp.CheckpointManager, folder: Folder, step: int
) -> dict[str, Any]:
    """The description of a step. Raises DamagedError, or what the read raises."""
    if (folder.path / str(step)).is_symlink():
        raise DamagedError("it is a symbolic link")
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    body = digest.unseal(manager.restore(step, args=args)["meta"])
    if body["step"] != step:
        raise DamagedError(f"it was saved as step {body['step']}")
    return body


def _check_structure(
    directory: Path, abstract_state: Any, body: Mapping[str, Any]
) -> None:
    wanted = {p: tree.leaf_of(x) for p, x in tree.named_leaves(abstract_state).items()}
    stored = {
        path: tree.Leaf(shape=tuple(shape), dtype=dtype)
        for path, (shape, dtype, *_) in body["leaves"].items()
    }
    differences = tree.differences_of(stored, wanted)
    # Orbax would take another tree of the same leaves for damage.
    now = tree.absent(abstract_state)
    before = body.get("absent", now)
    differences += [f"{path} was None" for path in before if path not in now]
    differences += [f"{path} is None now" for path in now if path not in before]
    if differences:
        raise UserError(
            f"checkpoint {body['step']} in {directory} is of another model than this "
            f"config's: {words.some(differences, '; ')}. Use the run's own config or "
            "another workdir"
        )
