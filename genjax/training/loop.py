"""The one loop. It knows the contract's fields, and no model, data set or metric.

The host runs at most one call ahead of the device: it prepares the next call's data
while the device works, and reads that call's status before it sends the next. The
status carries every process's wish to stop, so all processes leave after the same step.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import numpy as np

from genjax.training.checkpoint import Checkpointer
from genjax.training.compile import CompiledExperiment, Health, Status
from genjax.training.metrics import MetricWriter
from genjax.training.profile import Profiled
from genjax.training.progress import Progress
from genjax.typing import (
    Array,
    Batch,
    DivergedError,
    Metrics,
    Stopped,
    UserError,
)

Split = Literal["train", "eval"]
Steps = CompiledExperiment | Profiled
"""A compiled experiment, alone or with a trace of some of its steps."""


@runtime_checkable
class Feed(Protocol):
    """What the loop asks of the data (genjax.data.pipeline.TrainFeed)."""

    @property
    def resident(self) -> Mapping[str, Array]:
        """Arrays that stay on the device, from which a step gathers its batch."""
        ...

    def get(self, step: int, num_steps: int) -> Batch:
        """The inputs of num_steps steps from `step` on: leaves (steps, batch, ...)."""
        ...

    def rows(self, step: int) -> np.ndarray:
        """The data set's rows in the batch of this step: (batch,)."""
        ...


@dataclasses.dataclass(frozen=True)
class Callback:
    """Work between steps, say evaluation or a sample grid.

    run: (step, state) -> metrics to log as split "eval", or None.
    is_done: (step) -> True if its output exists; asked when a run is resumed there.
    """

    every: int
    run: Callable[[int, Any], Mapping[str, float] | None]
    is_done: Callable[[int], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """When things happen, in steps."""

    num_steps: int
    log_every: int
    save_every: int
    steps_per_call: int = 1
    max_bad_steps: int = 10

    def max_bad_at(self, step: int) -> int:
        """The bad steps in a row that fail a run; at its end half of a short one."""
        at_end = min(self.max_bad_steps, max(1, self.num_steps // 2))
        return at_end if step == self.num_steps else self.max_bad_steps

    def call_length(self, step: int, others: Sequence[int]) -> int:
        """Steps in the call that starts at `step`: up to the next thing that is due."""
        cadences = [self.log_every, self.save_every, *others]
        due = min((step // every + 1) * every for every in cadences)
        return min(self.steps_per_call, due - step, self.num_steps - step)


class Log:
    """What the run shows and writes down; silent in all processes but the first."""

    def __init__(
        self,
        writer: MetricWriter | None,
        progress: Progress | None,
        batch_size: int,
        seconds: float = 0.0,
        offset: int = 0,
    ):
        """seconds: that the run took before this process began.

        offset: images seen before a step, less step * batch_size.
        """
        self._writer = writer
        self._progress = progress
        self.batch_size, self._offset = batch_size, offset
        # Raises SaveError where another run has taken the workdir.
        self.check: Callable[[], None] = lambda: None
        self._began = time.monotonic() - seconds
        self._aside = 0.0

    @property
    def seconds(self) -> float:
        """Since the run began, without the time between a stop and a resume."""
        return time.monotonic() - self._began

    def clock(self) -> float:
        """Seconds of training only: it stands still in `aside`."""
        return time.monotonic() - self._aside

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Around pictures and evaluations: their time is not in the speed of a step."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self._aside += seconds
            if self._progress is not None:
                self._progress.stood_still(seconds)

    def write(self, step: int, split: Split, metrics: Mapping[str, float]) -> None:
        """A line of metrics."""
        if self._writer is not None:
            self._writer.write(
                step,
                split,
                metrics,
                images_seen=self._offset + step * self.batch_size,
                seconds=self.seconds,
            )

    def flush(self) -> None:
        """Returns when all lines lie in the workdir, as they must before a save.

        Raises SaveError if they cannot, or another run has taken the workdir.
        """
        self.check()
        if self._writer is not None:
            self._writer.flush()

    def progress(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Moves the bar. metrics: of these steps, numbers or arrays on a device."""
        if self._progress is not None:
            self._progress.update(step, metrics)

    def say(self, message: str) -> None:
        """A line for the user."""
        if self._progress is not None:
            self._progress.say(message)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """A picture for TensorBoard: (H, W, 3) uint8."""
        if self._writer is not None:
            self._writer.images(step, name, picture)


def train(
    compiled: Steps,
    feed: Feed,
    state: Any,
    step: int,
    *,
    seed: int,
    schedule: Schedule,
    callbacks: Sequence[Callback],
    checkpointer: Checkpointer,
    log: Log,
    stop: Callable[[], bool],
    so_far: Mapping[str, Any],
) -> tuple[int, Any]:
    """Trains from `step` to the end of the schedule and returns (step, state).

    so_far: the notes of the checkpoint that the state is from. stop: whether this
    process was asked to stop. Raises Stopped once that is so for any process, and
    UserError for data or a callback that cannot go on, both after saving, the latter
    only if there is one process; DivergedError after max_bad_steps non-finite steps in
    a row, all discarded, or if the last half of a shorter run is.
    """
    health, status = compiled.healthy(so_far.get("skipped_steps", 0)), None
    window = _Window(log, so_far.get("window", {}))
    try:
        _run_callbacks(callbacks, log, step, state, resumed=True)
        while step < schedule.num_steps:
            length = schedule.call_length(step, [c.every for c in callbacks])
            inputs = feed.get(step, length)  # while the device is at the last call
            if status is not None:
                _check_streak(status, window, schedule.max_bad_steps, feed)
                _heed(status, step, window, log)
            given = state, health, feed.resident, inputs, step
            done = compiled.run(*given, seed=seed, stop=stop())
            state, health, metrics, status = done
            if window.is_new():  # compiled by now
                log.say(_memory(compiled))
            window.add(step, metrics)
            step += length
            last = step == schedule.num_steps
            if last or step % schedule.log_every == 0:
                means = window.close(status)
                log.write(step, "train", means)
                if last:  # before what comes at the end, which takes its time
                    log.progress(step, means)
            save = last or step % schedule.save_every == 0
            if save:
                _check_streak(status, window, schedule.max_bad_at(step), feed)
            scores = _run_callbacks(callbacks, log, step, state, last=last)
            if save:
                so_far = _notes(log, window, health)
                _save(checkpointer, log, step, state, so_far, scores)
    except (Stopped, UserError) as error:  # a corrupt example, say
        # The steps so far are good. But only a stop is known to all processes.
        if isinstance(error, Stopped) or jax.process_count() == 1:
            _save(checkpointer, log, step, state, _notes(log, window, health), {})
            checkpointer.wait()
        raise
    checkpointer.wait()
    return step, state


def _save(
    checkpointer: Checkpointer,
    log: Log,
    step: int,
    state: Any,
    notes: Mapping[str, Any],
    scores: Mapping[str, float],
) -> None:
    """A checkpoint; a resume from it finds all lines of the steps before."""
    log.flush()
    checkpointer.save(step, state, metrics=scores, notes=notes)


def _heed(status: Status, step: int, window: "_Window", log: Log) -> None:
    """Shows what the last call gave. Raises Stopped if a process was asked to stop."""
    log.progress(step, window.latest())  # computed by now, not only sent
    if int(status.stop):
        raise Stopped(f"after step {step}")


def _memory(compiled: Steps) -> str:
    mib = compiled.temporary_bytes() / 2**20
    return f"a step works in {mib:,.0f} MiB a device beside the state"


def _run_callbacks(
    callbacks: Sequence[Callback],
    log: Log,
    step: int,
    state: Any,
    *,
    resumed: bool = False,
    last: bool = False,
) -> dict[str, float]:
    """Runs what is due at this step; after a resume, what a stop had cut short."""
    metrics: dict[str, float] = {}
    for callback in callbacks:
        due = step > 0 and (step % callback.every == 0 or last)
        if due and not (resumed and callback.is_done(step)):
            jax.block_until_ready(state)  # the steps on their way are training
            with log.aside():
                metrics.update(callback.run(step, state) or {})
    if metrics:
        log.write(step, "eval", metrics)
    return metrics


def _notes(log: Log, window: "_Window", health: Health) -> dict[str, Any]:
    """What a resume needs beside the state, so that it writes the same lines."""
    return {
        "seconds": round(log.seconds, 3),
        "skipped_steps": int(health.skipped),
        "window": window.values(),
    }


class _Window:
    """The train metrics since the last log line, left on device until it is due."""

    def __init__(self, log: Log, before: Mapping[str, Sequence[float | None]]):
        """before: `values` of the window that a stop or a crash cut short."""
        self._log = log
        self._before = {n: np.array(v, np.float32) for n, v in before.items()}
        self._calls: list[tuple[int, Metrics]] = []
        self._closed: list[tuple[int, Metrics]] = []
        self._since = log.clock()

    def _restart(self) -> None:
        self._since, self._before = self._log.clock(), {}
        self._closed, self._calls = self._calls, []

    def is_new(self) -> bool:
        """Whether no step of this run has come in yet."""
        return not self._calls and not self._closed

    def latest(self) -> Metrics:
        """The metrics of each step of the newest call."""
        return (self._calls or self._closed)[-1][1]

    def add(self, step: int, metrics: Metrics) -> None:
        self._calls.append((step, metrics))

    def close(self, status: Status) -> dict[str, float]:
        """Means over the finite steps of the window, and its speed."""
        values = self._arrays()
        own = sum(len(next(iter(metrics.values()))) for _, metrics in self._calls)
        finite = np.all([np.isfinite(v) for v in values.values()], axis=0)
        means = {
            name: float(np.mean(v[finite])) if finite.any() else float("nan")
            for name, v in values.items()
        }
        steps_per_second = own / (self._log.clock() - self._since)
        self._restart()
        return means | {
            "steps_per_second": steps_per_second,
            "images_per_second": steps_per_second * self._log.batch_size,
            "skipped_steps": float(status.skipped),
        }

    def values(self) -> dict[str, list[float | None]]:
        """Each metric of each step since the last line; None: not finite."""
        return {
            name: [x if np.isfinite(x) else None for x in map(float, values)]
            for name, values in self._arrays().items()
        }

    def _arrays(self) -> dict[str, np.ndarray]:
        calls = jax.device_get([metrics for _, metrics in self._calls])
        parts = [self._before, *calls]
        if calls and self._before.keys() != calls[0].keys():  # of other code
            parts = calls
        return {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }

    def non_finite(self, step: int) -> list[str]:
        """The names of the metrics that are not finite at this step."""
        for first, metrics in [*self._closed, *self._calls]:
            fetched = jax.device_get(metrics)
            length = len(next(iter(fetched.values())))
            if first <= step < first + length:
                return [
                    n for n, v in fetched.items() if not np.isfinite(v[step - first])
                ]
        return []


def _check_streak(
    status: Status | None, window: _Window, limit: int, feed: Feed
) -> None:
    if status is None or int(status.streak) < limit:
        return
    step = int(status.first_bad)
    names = ", ".join(window.non_finite(step)) or "a metric"
    rows = feed.rows(step)
    shown = f"{rows[:8].tolist()}{' ...' if len(rows) > 8 else ''}"
    raise DivergedError(
        f"{names} not finite at step {step} and in {int(status.streak)} steps in a "
        f"row; all were discarded. The batch of step {step} has rows {shown}. Look at "
        "these, or lower optim.learning_rate; the last checkpoint is intact"
    )
