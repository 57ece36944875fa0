"""Checkpoints that come back bit for bit or not at all.

Orbax writes and commits a step in one rename, but it does not notice when a file rots
later: most single-bit flips restore silently as wrong weights. So every step carries,
inside the same commit, a digest of each leaf; a step is believed only when the digests
of what was read agree with it, and otherwise the next older one is tried.

On disk, below the directory that is given:

    <step>/state/...        the arrays, by Orbax
    <step>/meta/metadata    JSON: {"sha256", "body": {step, leaves, metrics, meta, ...}}
    corrupt-<step>/         a step that failed its check; never deleted
    discarded/              steps no longer wanted, until the next call removes them
"""

import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

import genjax
from genjax.typing import Array, DivergedError, SaveError, UserError

StateT = TypeVar("StateT")

_log = logging.getLogger(__name__)

_STEP = re.compile(r"0|[1-9]\d*")
_DISCARDED = "discarded"
_LEFTOVER = re.compile(rf"\d+\.orbax-checkpoint-tmp(-\d+)?|{_DISCARDED}")

# Failures of the machine, not of the files: such a step must keep its name.
_NOT_DAMAGE = (
    "RESOURCE_EXHAUSTED",
    "Out of memory",
    "PERMISSION_DENIED",
    "Permission denied",
    "Too many open files",
)
_DISK_FULL = ("RESOURCE_EXHAUSTED", "ENOSPC", "No space left", "quota exceeded")

# Room for the arrays, plus what the file format and the merge of its parts take.
_SPACE_FACTOR = 1.2


class _OrbaxNoise(logging.Filter):
    """Drops what Orbax says below ERROR, and the tasks it left behind a failed read.

    The first failure of a read is raised. The reads beside it are abandoned, and when
    these are collected, at any later time, each prints a page.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "asyncio":
            trace = record.exc_info[2] if record.exc_info else None
            text = record.getMessage().lower()
            ours = "orbax" in text or "tensorstore" in text
            return not ours and not _is_of_orbax(trace)
        return record.levelno >= logging.ERROR or "orbax" not in record.pathname


def _is_of_orbax(trace: TracebackType | None) -> bool:
    frames = traceback.walk_tb(trace)
    return any("orbax" in frame.f_code.co_filename for frame, _ in frames)


def _drop_orbax_noise() -> None:
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_OrbaxNoise())
    warnings.filterwarnings(
        "ignore", "coroutine '_read_array_index_and_device_put' was never awaited"
    )
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # of a coroutine
        from_orbax = _is_of_orbax(unraisable.exc_traceback) or (
            code is not None and "orbax" in code.co_filename
        )
        # TensorStore, in C++, answers a read whose event loop has gone.
        too_late = str(unraisable.exc_value) == "Event loop is closed"
        if not from_orbax and not (too_late and unraisable.object is None):
            previous(unraisable)

    sys.unraisablehook = hook


_drop_orbax_noise()


class _DamagedError(Exception):
    """A step on disk that is not what was saved."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restored(Generic[StateT]):
    """A state as it was saved, its step, and the `meta` of the run that saved it."""

    step: int
    state: StateT
    meta: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Leaf:
    """What must agree between a stored array and the one that is asked for."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


class _Best:
    """Preserves the n steps with the best score; a step without one is never best."""

    def __init__(self, n: int, mode: str, scores: Mapping[int, float]):
        self.n, self.sign, self.scores = n, {"min": 1.0, "max": -1.0}[mode], scores

    def should_preserve(
        self,
        checkpoints: Sequence[Any],
        *,
        context: preservation_policy.PreservationContext,
    ) -> Sequence[bool]:
        scored = [info.step for info in checkpoints if info.step in self.scores]
        best = sorted(scored, key=lambda step: (self.sign * self.scores[step], -step))
        return [info.step in best[: self.n] for info in checkpoints]


class Checkpointer:
    """Saves and restores (step, state) below one directory; a context manager.

    Leaving the `with` block, also by an exception, waits for the save in flight. In a
    run of several processes all of them make the same calls.

    directory: created if missing; relative paths and `~` are resolved at once.
    keep_last, keep_best, keep_every: a step survives if it is among the newest
        `keep_last` (at least 1), among the best `keep_best` by the finite value of
        `metrics[best_metric]` given to `save` ("min": lower is better), or a multiple
        of `keep_every`.
    meta: plain JSON values to keep with each step, say the hash of the config.

    Raises UserError if the directory cannot be made.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_last: int = 2,
        keep_best: int = 1,
        best_metric: str | None = None,
        best_mode: Literal["min", "max"] = "min",
        keep_every: int | None = None,
        meta: Mapping[str, Any] | None = None,
    ):
        if (
            keep_last < 1
            or keep_best < 0
            or (keep_every is not None and keep_every < 1)
        ):
            raise UserError(
                "keep_last and keep_every must be at least 1 and keep_best at least 0, "
                f"not {keep_last}, {keep_every} and {keep_best}"
            )
        self._directory = _make_directory(directory)
        self._best_metric = best_metric
        self._meta = dict(meta or {})
        self._scores: dict[int, float] = {}
        policies: list[Any] = [preservation_policy.LatestN(keep_last)]
        if keep_every is not None:
            policies.append(preservation_policy.EveryNSteps(keep_every))
        if best_metric is not None:
            policies.append(_Best(keep_best, best_mode, self._scores))
        self._policy = preservation_policy.AnyPreservationPolicy(policies)
        self._manager = self._open()
        self._in_flight: int | None = None
        self._needed = 0
        self._ready_to_write = False
        self._closed = False

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def save(
        self,
        step: int,
        state: Any,
        *,
        metrics: Mapping[str, float] | None = None,
    ) -> bool:
        """Start to save `state` under `step`; False if that step is already saved.

        The state has been copied when this returns: donate it freely. A failure on the
        way to disk surfaces in the next call of `save`, `wait` or `close`. If that is
        `save`, the failed step is given up with a warning and the new one is written
        before the call returns.

        Raises DivergedError if a leaf is not finite, SaveError if the disk is full or
        refuses; the steps saved before stay as they are. UserError for a leaf that is
        not a numeric jax.Array (a typed key: store `jax.random.key_data` of it).
        """
        leaves = _named_leaves(state)
        digests, not_finite = _digests(leaves)
        if not_finite:
            raise DivergedError(
                f"the state of step {step} is not finite, so it was not saved: "
                + _some(not_finite)
            )
        failure = self._wait()
        if step in self._manager.all_steps():
            if failure is not None:
                raise failure
            return False
        self._prepare_to_write()
        if failure is not None:
            _log.warning("%s; trying again with step %d", failure, step)
        self._needed = int(_SPACE_FACTOR * _local_bytes(leaves.values()))
        body = {
            "step": step,
            "leaves": {
                path: [*dataclasses.astuple(_leaf(leaf)), *digests[path]]
                for path, leaf in leaves.items()
            },
            "absent": _absent(state),
            "metrics": {name: float(x) for name, x in (metrics or {}).items()},
            "meta": self._meta,
            "versions": {
                "genjax": genjax.__version__,
                "jax": jax.__version__,
                "orbax": ocp.__version__,
            },
        }
        self._scores.pop(step, None)
        self._note_score(step, body["metrics"])
        self._write(step, state, _seal(body))
        if failure is not None:
            self.wait()
        return True

    def wait(self) -> None:
        """Return when all that was saved is on disk; SaveError if it cannot be."""
        failure = self._wait()
        if failure is not None:
            raise failure

    def steps(self) -> list[int]:
        """The committed steps, oldest first; nothing is read, so one may be damaged."""
        return [s for s in self._entries() if _is_committed(self._directory / str(s))]

    def restore(
        self, abstract_state: StateT, step: int | None = None
    ) -> Restored[StateT] | None:
        """The newest intact step, or the one that is asked for; None if none was saved.

        abstract_state: the tree of the state, with jax.ShapeDtypeStruct for leaves.
            Arrays are read straight into their shardings, whatever the device and
            process count they were saved from; without one, to the first device.

        A damaged newest step is renamed to `corrupt-<step>`, a line says so, and the
        next older one is tried. Raises UserError if every step is damaged, if `step` is
        missing or damaged, or if the step holds another tree, shape or dtype than
        `abstract_state`: that is another model, not damage, and nothing is renamed.
        """
        self.wait()
        abstract_state = _with_shardings(abstract_state)
        steps = _as_process_0_sees(self._entries())
        if step is not None:
            return self._restore_exactly(abstract_state, step, steps)
        for candidate in reversed(steps):
            restored = self._try(abstract_state, candidate)
            if isinstance(restored, Restored):
                return restored
            self._quarantine(candidate, restored)
        if steps or self._has_quarantined():
            raise UserError(
                f"no checkpoint in {self._directory} is intact; they were kept as "
                "corrupt-<step>: delete these or choose another workdir to start anew"
            )
        return None

    def close(self) -> None:
        """Wait for the save in flight and end the threads; raises as `wait` does."""
        if self._closed:
            return
        self._closed = True
        failure = self._wait()
        self._manager.close()
        if failure is not None:
            raise failure

    # Saving

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            create=False,
            preservation_policy=self._policy,
            # Orbax's own reading of metrics fails as a whole if one file is damaged.
            lightweight_initialize=True,
            # A step goes by one rename: killed while deleting, half of one would stay.
            todelete_subdir=_DISCARDED,
            # A save that fails while a thread still makes its folders never ends.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        return ocp.CheckpointManager(
            self._directory, options=options, item_names=("state", "meta")
        )

    def _prepare_to_write(self) -> None:
        """Tidy up once, before the first save: a mere reader must not touch anything.

        The tmp folders of another process that is saving would be lost otherwise.
        """
        if self._ready_to_write:
            return
        self._ready_to_write = True
        self._remove_leftovers()
        for step in _as_process_0_sees(self._entries()):
            if not _is_committed(self._directory / str(step)):
                self._quarantine(step, "it is not a committed step")
        for step in self.steps():
            try:
                body = self._read_body(step)
            except Exception:
                continue  # damaged: never the best; restore will say so
            self._note_score(step, body["metrics"])

    def _note_score(self, step: int, metrics: Mapping[str, float]) -> None:
        score = metrics.get(self._best_metric or "", math.nan)
        if math.isfinite(score):
            self._scores[step] = score

    def _write(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_to_orbax(state)),  # type: ignore[call-arg]
            meta=ocp.args.JsonSave(meta),  # type: ignore[call-arg]
        )
        for last_try in (False, True):
            try:
                self._check_space()
                # force: whether to save is the caller's decision, not Orbax's, which
                # silently skips a step below the newest one.
                self._manager.save(step, args=args, force=True)
                self._in_flight = step
                return
            except Exception as error:
                freed = self._recover()
                if last_try or not freed or not _mentions(error, _DISK_FULL):
                    raise self._save_error(step, error) from error

    def _check_space(self) -> None:
        enough = shutil.disk_usage(self._directory).free >= self._needed
        if not _on_all_processes(enough):
            raise OSError("No space left on device")

    def _wait(self) -> SaveError | None:
        """The failure of the save in flight, if any, after tidying up behind it."""
        step, self._in_flight = self._in_flight, None
        if step is None:
            return None
        try:
            self._manager.wait_until_finished()
            if jax.process_index() == 0 and step not in self.steps():
                raise OSError("the step was not committed")
        except Exception as error:
            failure = self._save_error(step, error)
            failure.__cause__ = error
            self._recover()
            return failure
        self._remove_leftovers()
        return None

    def _recover(self) -> bool:
        """Drop what a failed save left; True if that freed something."""
        try:
            self._manager.close()
        except Exception:
            # The error that brought us here, once more: the caller reports it.
            _log.debug("closing after a failed save", exc_info=True)
        freed = self._remove_leftovers()
        self._manager = self._open()
        return freed

    def _remove_leftovers(self) -> bool:
        names = [
            name for name in _listdir(self._directory) if _LEFTOVER.fullmatch(name)
        ]
        if jax.process_index() == 0:
            for name in names:
                shutil.rmtree(self._directory / name, ignore_errors=True)
        _barrier("genjax.checkpoint.remove_leftovers")
        return bool(names)

    def _save_error(self, step: int, error: Exception) -> SaveError:
        if _mentions(error, _DISK_FULL):
            reason = "the disk is full"
        else:
            reason = _short(error)
        try:
            free = f"{shutil.disk_usage(self._directory).free:,} bytes free"
        except OSError:
            free = "the folder cannot be reached"
        return SaveError(
            f"checkpoint {step} could not be written to {self._directory}: {reason} "
            f"({free}, {self._needed:,} bytes needed)"
        )

    # Restoring

    def _entries(self) -> list[int]:
        """All that is named like a step, be it one or not, oldest first."""
        names = _listdir(self._directory)
        return sorted(int(name) for name in names if _STEP.fullmatch(name))

    def _restore_exactly(
        self, abstract_state: StateT, step: int, steps: Sequence[int]
    ) -> Restored[StateT]:
        others = ", ".join(str(s) for s in steps if s != step) or "none"
        if step not in steps:
            raise UserError(
                f"there is no checkpoint {step} in {self._directory}; "
                f"available steps: {others}"
            )
        restored = self._try(abstract_state, step)
        if not isinstance(restored, Restored):
            raise UserError(
                f"checkpoint {step} in {self._directory} is damaged ({restored}); "
                f"other steps: {others}"
            )
        return restored

    def _try(self, abstract_state: StateT, step: int) -> Restored[StateT] | str:
        """The step, or the reason why it is not to be believed."""
        restored = self._read_or_reason(abstract_state, step)
        if not _on_all_processes(isinstance(restored, Restored)):
            return restored if isinstance(restored, str) else "bad on another process"
        return restored

    def _read_or_reason(
        self, abstract_state: StateT, step: int
    ) -> Restored[StateT] | str:
        try:
            return self._read(abstract_state, step)
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, MemoryError) or _mentions(error, _NOT_DAMAGE):
                raise UserError(
                    f"checkpoint {step} in {self._directory} cannot be read here "
                    f"({_short(error)}); it was left as it is"
                ) from error
            return _short(error)

    def _read(self, abstract_state: StateT, step: int) -> Restored[StateT]:
        body = self._read_body(step)
        self._check_structure(abstract_state, body)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(_to_orbax(abstract_state))  # type: ignore[call-arg]
        )
        read = self._manager.restore(step, args=args)["state"]
        state = _from_orbax(abstract_state, read)
        digests, _ = _digests(_named_leaves(state))
        wrong = [p for p, leaf in body["leaves"].items() if digests[p] != leaf[2:]]
        if wrong:
            raise _DamagedError("the digest differs for " + _some(wrong))
        return Restored(step=step, state=state, meta=body["meta"])

    def _read_body(self, step: int) -> dict[str, Any]:
        path = self._directory / str(step)
        if path.is_symlink():
            raise _DamagedError("it is a symbolic link")
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        body = _unseal(self._manager.restore(step, args=args)["meta"])
        if body["step"] != step:
            raise _DamagedError(f"it was saved as step {body['step']}")
        return body

    def _check_structure(self, abstract_state: Any, body: Mapping[str, Any]) -> None:
        wanted = {p: _leaf(x) for p, x in _named_leaves(abstract_state).items()}
        stored = {
            path: _Leaf(shape=tuple(shape), dtype=dtype)
            for path, (shape, dtype, *_) in body["leaves"].items()
        }
        differences = _differences(stored, wanted)
        # Orbax would take another tree of the same leaves for damage.
        now = _absent(abstract_state)
        before = body.get("absent", now)
        differences += [f"{path} was None" for path in before if path not in now]
        differences += [f"{path} is None now" for path in now if path not in before]
        if differences:
            raise UserError(
                f"checkpoint {body['step']} in {self._directory} is of another model "
                f"than this config's: {_some(differences, '; ')}. Use the run's own "
                "config or another workdir"
            )

    def _quarantine(self, step: int, reason: str) -> None:
        path = self._directory / str(step)
        target = self._directory / f"corrupt-{step}"
        number = 1
        while os.path.lexists(target):
            number += 1
            target = self._directory / f"corrupt-{step}-{number}"
        # Agree on the name before it is taken.
        _barrier("genjax.checkpoint.quarantine_named")
        if jax.process_index() == 0:
            try:
                path.rename(target)
                _log.warning(
                    "checkpoint %d is damaged (%s); kept as %s", step, reason, target
                )
            except OSError as error:
                # Say a reader without the right to write, or one that lost the race
                # against the retention of the run itself.
                _log.warning(
                    "checkpoint %d is damaged (%s); not renamed: %s",
                    step,
                    reason,
                    error.strerror,
                )
        _barrier("genjax.checkpoint.quarantined")
        self._manager.reload()

    def _has_quarantined(self) -> bool:
        return any(name.startswith("corrupt-") for name in _listdir(self._directory))


def _make_directory(directory: str | os.PathLike[str]) -> Path:
    if "://" in os.fspath(directory):
        raise UserError(f"checkpoints need a local path, not {os.fspath(directory)}")
    path = Path(os.path.abspath(os.path.expanduser(directory)))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the checkpoint folder {path} cannot be made: {error.strerror}"
        ) from error
    return path


def _listdir(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:  # removed under our feet: the next save says so
        return []


def _is_committed(path: Path) -> bool:
    """A real folder with both items: Orbax renames it into place when all is there."""
    return not path.is_symlink() and all(
        (path / item).is_dir() for item in ("state", "meta")
    )


# The tree


def _named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by their path, "params/dense/kernel"; UserError for what has no bits.

    Leaves may be arrays or jax.ShapeDtypeStruct.
    """
    named: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            raise UserError(
                f"the state's leaf {path!r} must be a jax.Array to be saved, "
                f"not {type(leaf).__name__}"
            )
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise UserError(
                f"the state's leaf {path!r} is a typed key: derive keys from the step, "
                "or keep jax.random.key_data of it"
            )
        if path in named:
            raise UserError(f"two leaves of the state share the path {path!r}")
        named[path] = leaf
    return named


def _leaf(leaf: Any) -> _Leaf:
    return _Leaf(shape=tuple(leaf.shape), dtype=str(leaf.dtype))


def _absent(tree: Any) -> list[str]:
    """The paths that hold None in the place of a leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: x is None)
    return [
        jax.tree_util.keystr(keys, simple=True, separator="/")
        for keys, leaf in leaves
        if leaf is None
    ]


def _differences(stored: Mapping[str, _Leaf], wanted: Mapping[str, _Leaf]) -> list[str]:
    lines = [f"{p} {wanted[p]} is missing" for p in wanted if p not in stored]
    lines += [f"{p} {stored[p]} is unexpected" for p in stored if p not in wanted]
    lines += [
        f"{p} is {stored[p]}, wanted {wanted[p]}"
        for p in wanted
        if p in stored and stored[p] != wanted[p]
    ]
    return lines


def _with_shardings(abstract_state: StateT) -> StateT:
    """Fill in the default device; ValueError if an array cannot be cut as it says.

    Checked here, because an impossible sharding must not look like a damaged file.
    """

    def fill(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding: Sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(
            jax.local_devices()[0]
        )
        sharding.shard_shape(tuple(leaf.shape))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    _named_leaves(abstract_state)
    return jax.tree.map(fill, abstract_state)


def _to_orbax(tree: Any) -> dict[str, Any]:
    """What Orbax takes: not a bare array, and no array without elements.

    Of the latter the shape, kept in meta, is all there is to know.
    """
    full = jax.tree.map(lambda leaf: None if 0 in leaf.shape else leaf, tree)
    return {"tree": full}


def _from_orbax(abstract_state: StateT, read: Mapping[str, Any]) -> StateT:
    wanted, treedef = jax.tree.flatten(abstract_state)
    found = treedef.flatten_up_to(read["tree"])
    leaves = [
        jnp.zeros(want.shape, want.dtype, device=want.sharding) if got is None else got
        for want, got in zip(wanted, found, strict=True)
    ]
    return treedef.unflatten(leaves)


def _local_bytes(leaves: Any) -> int:
    """What this process writes: of each shard, one replica writes."""
    return sum(
        shard.data.nbytes
        for leaf in leaves
        for shard in leaf.addressable_shards
        if shard.replica_id == 0
    )


# Digests


def _digests(leaves: Mapping[str, Array]) -> tuple[dict[str, list[int]], list[str]]:
    """The digest of each leaf, and the paths of those that are not finite."""
    # One program a leaf, not one for the tree: leaves of equal shape share it, and a
    # program over a thousand leaves compiles for half a minute.
    words = jax.device_get([_digest_on(_replicated(x))(x) for x in leaves.values()])
    digests = {
        path: [int(word) for word in leaf_words[:2]]
        for path, leaf_words in zip(leaves, words, strict=True)
    }
    not_finite = [p for p, word in zip(leaves, words, strict=True) if word[2]]
    return digests, not_finite


def _replicated(leaf: Array) -> NamedSharding | None:
    """So that every process of a mesh can read the digest."""
    if isinstance(leaf.sharding, NamedSharding):
        return NamedSharding(leaf.sharding.mesh, PartitionSpec())
    return None


@functools.lru_cache(maxsize=8)
def _digest_on(sharding: NamedSharding | None) -> Any:
    return jax.jit(_digest, out_shardings=sharding)


def _digest(x: Array) -> Array:
    """Two hashes and whether a value is not finite: (3,) uint32.

    Sums mod 2^32 over the elements, each with its row-major position, so the order of
    summation and with it the sharding does not matter. The first is linear with odd
    weights: a change of any one element always shows. The second is not linear, so a
    conspiracy of changes would have to fool both. It is no guard against an attacker.
    """
    if jnp.issubdtype(x.dtype, jnp.inexact):
        not_finite = jnp.any(~jnp.isfinite(x)).astype(jnp.uint32)
    else:
        not_finite = jnp.zeros((), jnp.uint32)
    words = _words(x)
    position = _row_major_position(words.shape)
    return jnp.stack(
        [
            jnp.sum(words * (2 * position + 1), dtype=jnp.uint32),
            jnp.sum(_mix(words ^ _mix(position + 1)), dtype=jnp.uint32),
            not_finite,
        ]
    )


def _words(x: Array) -> Array:
    """The bits of x as uint32, one word an element, with a last axis of 2 for 64."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], axis=-1)
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    elif jnp.issubdtype(x.dtype, jnp.integer) and jnp.iinfo(x.dtype).bits < 8:
        x = x.astype(jnp.int8)  # int4 and the like cannot be reinterpreted
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}
    bits = jax.lax.bitcast_convert_type(x, unsigned[x.dtype.itemsize])
    return bits.astype(jnp.uint32)


def _row_major_position(shape: tuple[int, ...]) -> Array:
    position, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        position = position + along * np.uint32(stride % 2**32)
        stride *= shape[axis]
    return position


def _mix(u: Array) -> Array:
    """The finalizer "lowbias32" (C. Wellons, hash-prospector): a bijection."""
    u = (u ^ (u >> 16)) * np.uint32(0x7FEB352D)
    u = (u ^ (u >> 15)) * np.uint32(0x846CA68B)
    return u ^ (u >> 16)


def _seal(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"sha256": _sha256(body), "body": body}


def _unseal(sealed: Mapping[str, Any]) -> dict[str, Any]:
    body = sealed["body"]
    if _sha256(body) != sealed["sha256"]:
        raise _DamagedError("its description fails its checksum")
    return body


def _sha256(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# Several processes


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _on_all_processes(flag: bool) -> bool:
    if jax.process_count() == 1:
        return flag
    return bool(np.all(multihost_utils.process_allgather(np.array(flag))))


def _as_process_0_sees(steps: list[int]) -> list[int]:
    """A shared folder may look different for a moment; all must try the same steps."""
    if jax.process_count() == 1:
        return steps
    count = int(multihost_utils.broadcast_one_to_all(np.array(len(steps))))
    padded = np.zeros(count, np.int32)
    padded[: len(steps)] = steps[:count]
    return [int(s) for s in multihost_utils.broadcast_one_to_all(padded)]


# Words for the user


def _mentions(error: BaseException, texts: Sequence[str]) -> bool:
    chain, link = "", error
    while link is not None:
        chain += str(link)
        link = link.__cause__ or link.__context__
    return any(text.lower() in chain.lower() for text in texts)


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if len(lines[0]) <= 160 else lines[0][:157] + "..."
    return (
        text if isinstance(error, _DamagedError) else f"{type(error).__name__}: {text}"
    )


def _some(names: Sequence[str], separator: str = ", ", limit: int = 5) -> str:
    more = f"{separator}and {len(names) - limit} more" if len(names) > limit else ""
    return separator.join(names[:limit]) + more
