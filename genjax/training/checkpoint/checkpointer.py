"""The Checkpointer: when a step is written, trusted, kept or given up."""

import contextlib
import dataclasses
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

import jax
import orbax.checkpoint as ocp

import genjax
from genjax.places import explained
from genjax.training.checkpoint import (
    digest,
    folder,
    noise,
    processes,
    reading,
    retention,
    tree,
    words,
)
from genjax.training.checkpoint.folder import open_folder
from genjax.training.checkpoint.reading import Cause, Failure, Restored
from genjax.typing import DivergedError, SaveError, UserError

StateT = TypeVar("StateT")
ValueT = TypeVar("ValueT")

_log = logging.getLogger(__name__)

DISK_FULL = ("RESOURCE_EXHAUSTED", "ENOSPC", "No space left", "quota exceeded")

# Room for the arrays, plus what the file format and the merge of its parts take.
SPACE_FACTOR = 1.2

# Seconds before a read is tried again. A server that is busy, or a file handle that has
# gone stale, comes back within them.
PAUSES = (0.0, 0.3, 2.0)


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

    Raises UserError if the directory cannot be made, SaveError if the disk is full.
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
        self._folder = open_folder(directory)
        self._directory = self._folder.path
        self._best_metric = best_metric
        self._meta = dict(meta or {})
        self._scores: dict[int, float] = {}
        self._policy = retention.policy(
            keep_last, keep_best, keep_every, best_metric, best_mode, self._scores
        )
        with contextlib.ExitStack() as until_open:
            until_open.enter_context(noise.quiet())
            try:
                self._manager = self._open()
            except OSError as error:
                raise UserError(
                    f"the checkpoints in {self._directory} cannot be read: "
                    f"{error.strerror or error}"
                ) from error
            self._quiet = until_open.pop_all()
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
        # One failure to save is enough, and the first says more.
        kept = (
            contextlib.suppress(SaveError)
            if kind is SaveError
            else contextlib.nullcontext()
        )
        with kept:
            self.close()

    def save(
        self,
        step: int,
        state: Any,
        *,
        metrics: Mapping[str, float] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Start to save `state` under `step`; False if that step is already saved.

        notes: plain JSON values to keep with this step.
        The state has been copied when this returns: donate it freely. A failure on the
        way to disk surfaces in the next call of `save`, `wait` or `close`. If that is
        `save`, the failed step is given up with a warning and the new one is written
        before the call returns.

        Raises DivergedError if a leaf is not finite, SaveError if the disk is full or
        refuses; the steps saved before stay as they are. UserError for a leaf that is
        not a numeric jax.Array (a typed key: store `jax.random.key_data` of it).
        """
        leaves = tree.named_leaves(state)
        digests, not_finite = digest.digests(leaves)
        if not_finite:
            raise DivergedError(
                f"the state of step {step} is not finite, so it was not saved: "
                + words.some(not_finite)
            )
        failure = self._wait()
        self._needed = int(SPACE_FACTOR * tree.local_bytes(leaves.values()))
        self._prepare_to_write(step)
        if step in self._manager.all_steps():
            if failure is not None:
                raise failure
            return False
        if failure is not None:
            _log.warning("%s; trying again with step %d", failure, step)
        scores = {name: float(x) for name, x in (metrics or {}).items()}
        self._scores.pop(step, None)
        self._note_score(step, scores)
        body = self._describe(step, state, digests, scores) | {"notes": notes or {}}
        self._write(step, state, digest.seal(body))
        if failure is not None:
            self.wait()
        return True

    def note(self, **meta: Any) -> None:
        """More of `meta`, for the steps that are saved from now on."""
        self._meta |= meta

    def wait(self) -> None:
        """Return when all that was saved is on disk; SaveError if it cannot be."""
        failure = self._wait()
        if failure is not None:
            raise failure

    def steps(self) -> list[int]:
        """The committed steps, oldest first; nothing is read, so one may be damaged."""
        return folder.committed(self._folder)

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
        `abstract_state`: that is another model, not damage, and nothing is renamed. So
        it is if the machine fails to read a step, after some tries.
        """
        self.wait()
        abstract_state = tree.with_shardings(abstract_state)
        steps = self._steps_to_try()
        if step is not None:
            return self._restore_exactly(abstract_state, step, steps)
        for candidate in reversed(steps):
            restored = self._try(abstract_state, candidate)
            if isinstance(restored, Restored):
                return restored
            self._quarantine(candidate, restored)
        if steps or self._folder.has_aside():
            raise UserError(
                f"no checkpoint in {self._directory} is intact; they were "
                f"{self._folder.aside} or choose another workdir to start anew"
            )
        return None

    def close(self) -> None:
        """Wait for the save in flight and end the threads; raises as `wait` does."""
        if self._closed:
            return
        self._closed = True
        with self._quiet:
            failure = self._wait()
            self._manager.close()
        if failure is not None:
            raise failure

    # Saving

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            create=False,
            preservation_policy=self._policy
            if self._folder.orbax_discards
            else retention.everything(),
            # Orbax's own reading of metrics fails as a whole if one file is damaged.
            lightweight_initialize=True,
            # A step goes by one rename: killed while deleting, half of one would stay.
            todelete_subdir=folder.DISCARDED,
            # A save that fails while a thread still makes its folders never ends.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        path = os.fspath(self._directory)
        with self._explaining():
            return ocp.CheckpointManager(
                path, options=options, item_names=("state", "meta")
            )

    def _reload(self) -> None:
        with self._explaining():
            self._manager.reload()

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turns what a library below says of a bucket into an OSError."""
        try:
            yield
        except Exception as error:
            told = explained(error, self._directory)
            if told is None:
                raise
            raise told from error

    def _prepare_to_write(self, step: int) -> None:
        """Tidy up once, before the first save: a mere reader must not touch anything.

        The tmp folders of another process that is saving would be lost otherwise.
        """
        if self._ready_to_write:
            return
        self._remove_leftovers()
        try:
            self._reload()  # what was moved away is no step any more
            found = processes.as_process_0_sees(self._folder.entries())
            committed = self.steps()
        except OSError as error:
            raise self._save_error(step, error) from error
        for entry in found:
            if entry not in committed:
                self._quarantine(entry, "it is not a committed step")
        for entry in committed if self._best_metric else []:
            try:
                body = self._patiently(
                    lambda entry=entry: reading.read_body(
                        self._manager, self._folder, entry
                    )
                )
            except Exception:
                continue  # damaged: never the best; restore will say so
            self._note_score(entry, body["metrics"])
        self._ready_to_write = True

    def _describe(
        self,
        step: int,
        state: Any,
        digests: Mapping[str, list[int]],
        metrics: Mapping[str, float],
    ) -> dict[str, Any]:
        return {
            "step": step,
            "leaves": {
                path: [*dataclasses.astuple(tree.leaf_of(leaf)), *digests[path]]
                for path, leaf in tree.named_leaves(state).items()
            },
            "absent": tree.absent(state),
            "metrics": metrics,
            "meta": self._meta,
            "versions": {
                "genjax": genjax.__version__,
                "jax": jax.__version__,
                "orbax": ocp.__version__,
            },
        }

    def _note_score(self, step: int, metrics: Mapping[str, float]) -> None:
        score = metrics.get(self._best_metric or "", math.nan)
        if math.isfinite(score):
            self._scores[step] = score

    def _write(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(tree.to_orbax(state)),  # type: ignore[call-arg]
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
                if last_try or not freed or not words.mentions(error, DISK_FULL):
                    raise self._save_error(step, error) from error

    def _check_space(self) -> None:
        enough = folder.has_room(self._folder, self._needed)
        if not processes.on_all_processes(enough):
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
        self._discard_superfluous()
        self._remove_leftovers()
        return None

    def _discard_superfluous(self) -> None:
        if self._folder.orbax_discards:
            return
        if jax.process_index() == 0:
            try:
                for step in retention.superfluous(self._policy, self.steps()):
                    self._folder.discard(step)
            except OSError as error:  # after the next save, then
                _log.warning("old checkpoints were not removed: %s", error)
        processes.barrier("genjax.checkpoint.discard_superfluous")

    def _recover(self) -> bool:
        """Drop what a failed save left; True if that freed something."""
        try:
            self._manager.close()
        except Exception:
            # The error that brought us here, once more: the caller reports it.
            _log.debug("closing after a failed save", exc_info=True)
        freed = self._remove_leftovers()
        try:
            self._manager = self._open()
        except OSError as error:
            raise SaveError(
                f"the checkpoints in {self._directory} cannot be reached: "
                f"{error.strerror or error}"
            ) from error
        return freed

    def _remove_leftovers(self) -> bool:
        names: list[str] = []
        with contextlib.suppress(OSError):  # what cannot be listed stays: no harm
            names = self._folder.leftovers()
        if jax.process_index() == 0:
            for name in names:
                with contextlib.suppress(OSError):
                    self._folder.remove(name)
        processes.barrier("genjax.checkpoint.remove_leftovers")
        return bool(names)

    def _save_error(self, step: int, error: Exception) -> SaveError:
        if words.mentions(error, DISK_FULL):
            reason = "the disk is full"
        else:
            reason = words.short(error)
        return SaveError(
            f"checkpoint {step} could not be written to {self._directory}: {reason} "
            f"({folder.room(self._folder, self._needed)})"
        )

    # Restoring

    def _steps_to_try(self) -> list[int]:
        try:
            found = self._patiently(self._folder.entries)
        except OSError as error:
            raise UserError(
                f"the checkpoints in {self._directory} cannot be listed "
                f"({words.short(error)}); they were left as they are"
            ) from error
        return processes.as_process_0_sees(found)

    def _restore_exactly(
        self, abstract_state: StateT, step: int, steps: Sequence[int]
    ) -> Restored[StateT]:
        others = folder.names([other for other in steps if other != step])
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
        """The step, or the reason why it is damaged; all processes do the same.

        Raises UserError if the machine does not let it be read: then it may be intact.
        """
        worst, reason = 0, ""
        for pause in (None, *PAUSES):
            if pause is not None:
                time.sleep(pause)
            before = worst
            outcome = reading.attempt(self._manager, self._folder, abstract_state, step)
            failed = isinstance(outcome, Failure)
            worst = processes.largest(outcome.cause if failed else 0)
            if worst == 0 and isinstance(outcome, Restored):
                return outcome
            reason = outcome.reason if failed else "bad on another process"
            if worst == Cause.CONTENT or worst == before == Cause.UNCLEAR:
                return reason
        raise UserError(
            f"checkpoint {step} in {self._directory} cannot be read here ({reason}); "
            "it was left as it is"
        )

    def _patiently(self, read: Callable[[], ValueT]) -> ValueT:
        """What `read` returns, tried again after an error of the machine."""
        for pause in PAUSES:
            try:
                return read()
            except Exception as error:
                if not reading.blames_the_machine(error):
                    raise
                time.sleep(pause)
        return read()

    def _quarantine(self, step: int, reason: str) -> None:
        target = self._folder.name_aside(step)
        # Agree on the name before it is taken.
        processes.barrier("genjax.checkpoint.quarantine_named")
        if jax.process_index() == 0:
            try:
                self._folder.set_aside(step, target, reason)
                _log.warning(
                    "checkpoint %d is damaged (%s); kept as %s",
                    step,
                    reason,
                    self._directory / target,
                )
            except OSError as error:
                # Say a reader without the right to write, or one that lost the race
                # against the retention of the run itself.
                _log.warning(
                    "checkpoint %d is damaged (%s); not set aside: %s",
                    step,
                    reason,
                    error.strerror,
                )
        processes.barrier("genjax.checkpoint.quarantined")
        self._reload()
