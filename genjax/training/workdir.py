"""A run's folder: one run at a time, and the configuration that it was started with.

LOCK          who uses the folder; held by flock, so it dies with its process. In a
              bucket, a lease, which runs out (`genjax.places.lease`)
config.json   {"config", "config_hash", "config_file", "data", "data_notes", "code",
              "init_from", "genjax_version", "jax_version", "git_revision"}, and
              "exported" in the folder of an exported model (`genjax.export.folder`)

In a run of several processes only process 0 calls these functions.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import fnmatch
import hashlib
import importlib.metadata
import json
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import genjax
from genjax.disk import claiming, from_json, replacing
from genjax.places import in_bucket, place
from genjax.screen import Say, silent
from genjax.typing import DataSpec, UserError

_log = logging.getLogger(__name__)

FREE_FIELDS = (
    "sampler.*",
    "likelihood.*",
    "evaluation.*",
    "mesh.*",
    "data.dir",
    "training.log_every",
    "training.save_every",
    "training.sample_every",
    "training.eval_every",
    "training.steps_per_call",
    "training.keep_*",
)
"""Fields that a resumed run may change: they do not alter what is learnt."""

MAY_RISE = ("training.num_steps", "optim.decay_steps")
"""Fields that a resumed run may raise, to train on after its end."""

_MAX_SHOWN = 8
_ABSENT = "absent"


@contextlib.contextmanager
def lock(
    workdir: str | os.PathLike[str],
    *,
    lease_seconds: float = 60.0,
    say: Say = silent,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Callable[[], None]]:
    """Make `workdir` and hold it for this process, until the block ends.

    Yields a check, to be made before each save: in a bucket it raises SaveError if this
    run was silent for longer than lease_seconds and another one took over. say: is told
    of a lease that is waited for, or that ran out. stop: whether to give up waiting.

    Raises UserError if another run holds it (named by host, process and start; nothing
    is touched), if it is a file, or if it cannot be written; SaveError if the disk is
    full; Stopped. On a file system without locks a warning says so and the run goes on.
    """
    path = place(workdir)
    if in_bucket(path):
        from genjax.places.lease import held  # its packages are an extra

        with contextlib.ExitStack() as stack:
            with claiming(path, "the workdir "):
                check = stack.enter_context(held(path, lease_seconds, say, stop))
            yield check
        return
    with claiming(path, "the workdir "):
        path.mkdir(parents=True, exist_ok=True)
        file = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(file, path)
        with claiming(path, "the workdir "):
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(_this_process()).encode(), 0)
        # The file stays: were it deleted, two later runs could lock two files.
        yield lambda: None  # flock cannot be lost
    finally:
        os.close(file)


def _acquire(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"the workdir {path} is in use by {_holder(file)}: wait for it or choose "
            "another --workdir"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _log.warning(
            "%s is on a file system without locks: see to it that no other run uses it",
            path,
        )


def _this_process() -> dict[str, Any]:
    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started}


def _holder(file: int) -> str:
    try:
        holder = from_json(os.pread(file, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['started']}"
    except (ValueError, TypeError, KeyError):
        return "another run"  # which has the lock, but has not yet written its name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """What config.json says of a run.

    config: nested, lists as tuples again. spec, fingerprint: of the data that it was
    trained on. code: of its model (`genjax.sources.source_hashes`). init_from: the run
    whose weights it began with, {"run", "step", "taken"}. config_file: where its config
    came from, if from a file that is still there. exported: of an exported model, what
    its weights are.
    """

    config: dict[str, Any]
    spec: DataSpec | None = None
    fingerprint: str | None = None
    code: Mapping[str, str] | None = None
    init_from: Mapping[str, Any] | None = None
    config_file: Path | None = None
    exported: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write_config(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    spec: DataSpec | None = None,
    fingerprint: str | None = None,
    code: Mapping[str, str] | None = None,
    init_from: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    exported: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json in one rename; the arguments are those of `Stored`.

    notes: of the data, for people: names of classes, pictures that were left out.

    Raises UserError if the folder cannot be written, SaveError if the disk is full.
    """
    data = None
    if spec is not None:
        data = dataclasses.asdict(spec) | {"fingerprint": fingerprint}
    record = {
        "config": config,
        "config_hash": config_hash(config),
        "config_file": config_file and str(config_file.absolute()),
        "data": data,
        "data_notes": dict(notes or {}),
        "code": code,
        "init_from": init_from,
        "genjax_version": genjax.__version__,
        "jax_version": importlib.metadata.version("jax"),
        "git_revision": _git_revision(),
    }
    if exported:
        record["exported"] = dict(exported)
    path = _config_path(workdir)
    with claiming(path, "the file "), replacing(path) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def read_run(workdir: str | os.PathLike[str]) -> Stored:
    """What the run in `workdir` was started with.

    Raises UserError if there is none or if it is garbled.
    """
    record = _read(workdir)
    file, exported = record.get("config_file"), record.get("exported")
    code, init_from = record.get("code"), record.get("init_from")
    try:
        data = dict(record.get("data") or {})
        fingerprint = data.pop("fingerprint", None)
        code = code and {str(name): str(digest) for name, digest in code.items()}
        init_from = init_from and {**init_from, "run": str(init_from["run"])}
        spec = DataSpec(**_with_tuples(data)) if data else None
        config_file = Path(file) if file and Path(file).is_file() else None
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise _damaged(workdir) from error
    return Stored(
        config=_with_tuples(record["config"]),
        spec=spec,
        fingerprint=fingerprint,
        code=code,
        init_from=init_from,
        config_file=config_file,
        exported=exported if isinstance(exported, dict) else {},
    )


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """The config that the run in `workdir` was started with, tuples as lists.

    Raises UserError if there is none or if it is garbled.
    """
    return _read(workdir)["config"]


def _read(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    path = _config_path(workdir)
    try:
        record = from_json(path.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"there is no {path}: was a run ever started in this workdir?"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(workdir) from error
    if not (isinstance(record, dict) and isinstance(record.get("config"), dict)):
        raise _damaged(workdir)
    return record


def _damaged(workdir: str | os.PathLike[str]) -> UserError:
    return UserError(
        f"{_config_path(workdir)} is damaged: mend it or choose another --workdir; "
        "the checkpoints beside it are untouched"
    )


def _with_tuples(value: Any) -> Any:
    """As a config has it: JSON has turned tuples into lists."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(_with_tuples(item) for item in value)
    return value


def config_hash(config: Mapping[str, Any], ignore: Sequence[str] = FREE_FIELDS) -> str:
    """SHA-256 of the fields that determine training, the same for tuples and lists.

    ignore: patterns of dotted field names that are left out.
    """
    canonical = json.dumps(_fields(config, ignore), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_same_config(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    stored: Mapping[str, Any] | None = None,
    to_train: bool = True,
) -> None:
    """Raise UserError if the run in `workdir` was started with another config.

    FREE_FIELDS may differ, and MAY_RISE be more; not to_train: they may be less too. A
    workdir without config.json is a new run: no error.
    stored: its config completed, for a run that may be older than some fields.
    """
    if not _config_path(workdir).exists():
        return
    free = FREE_FIELDS if to_train else (*FREE_FIELDS, *MAY_RISE)
    stored = _fields(stored or read_config(workdir), free)
    given = _fields(config, free)
    if _longer(stored, given):
        stored |= {name: given[name] for name in raised(workdir, config)}
    # Compared as text: NaN is itself, and true is not 1.
    differing = [
        f"  {name}: {_shown(stored, name)} -> {_shown(given, name)}"
        for name in sorted(stored.keys() | given.keys())
        if _shown(stored, name) != _shown(given, name)
    ]
    if not differing:
        return
    steps, further = "training.num_steps", ""
    if [line.split(":")[0].strip() for line in differing] == [steps]:
        further = f", --extend_to={stored[steps]} to go on as far as it was to"
    hidden = len(differing) - _MAX_SHOWN
    if hidden > 0:
        differing = [*differing[:_MAX_SHOWN], f"  and {hidden} more"]
    raise UserError(
        f"the run in {workdir} was started with another config:\n"
        + "\n".join(differing)
        + f"\nchoose another --workdir{further}, or --override_config to go on with "
        "the new one"
    )


def raised(
    workdir: str | os.PathLike[str], config: Mapping[str, Any]
) -> dict[str, tuple[int, int]]:
    """{field of MAY_RISE: (before, now)} of those that are more than in config.json."""
    if not _config_path(workdir).exists():
        return {}
    stored, given = _fields(read_config(workdir), ()), _fields(config, ())
    both = {name: (stored.get(name), given.get(name)) for name in MAY_RISE}
    return {
        name: (before, now)
        for name, (before, now) in both.items()
        if isinstance(before, int) and isinstance(now, int) and before < now
    }


def _longer(stored: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether training shall go on for more steps than it was to."""
    before, now = (fields.get("training.num_steps") for fields in (stored, given))
    return isinstance(before, int) and isinstance(now, int) and before < now


def _config_path(workdir: str | os.PathLike[str]) -> Path:
    return place(workdir) / "config.json"


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return json.dumps(fields[name]) if name in fields else _ABSENT


def _fields(config: Mapping[str, Any], ignore: Sequence[str]) -> dict[str, Any]:
    """{"optim.learning_rate": 1e-3, ...} without those that match a pattern."""
    return {
        name: value
        for name, value in _flatten(config, "")
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in ignore)
    }


def _flatten(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _canonical(value)


def _canonical(value: Any) -> Any:
    """As it comes back from JSON, and 1.0 as 1: flags turn one into the other."""
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _git_revision() -> str | None:
    """The commit of the code, with "-dirty" behind it if files were changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
