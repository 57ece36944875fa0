"""What a run writes down: metrics.jsonl, TensorBoard files, evaluation/<step>.json.

Only one process of a run may write: under several, process 0.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, SupportsFloat

import numpy as np

from genjax.disk import from_json, saving, write_atomically
from genjax.places import place
from genjax.places.growing import Growing
from genjax.typing import SaveError, UserError

NAME = "metrics.jsonl"
FLUSH_SECONDS = 10.0  # TensorBoard files are synced to disk at each flush


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text, with null for numbers that are not finite: JSON has none of these."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: finite(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    return json.dumps(finite(value), indent=indent, allow_nan=False)


def write_evaluation(
    workdir: str | os.PathLike,
    step: int,
    result: Mapping[str, Any],
    *,
    suffix: str = "",
) -> Path:
    """Writes {"step", **result} to evaluation/<step><suffix>.json; returns the path.

    result: {"protocol", "metrics"}, from `genjax.evaluation.runner`. A number that is
    not finite is written as null. Raises SaveError.
    """
    path = place(workdir) / "evaluation" / f"{step}{suffix}.json"
    text = to_json({"step": step, **result}, indent=2) + "\n"
    write_atomically(path, text.encode())
    return path


def read_lines(
    workdir: str | os.PathLike, split: Literal["train", "eval"]
) -> list[dict[str, Any]]:
    """The lines that a `MetricWriter` has written of one split, in order of the steps.

    Empty where there is no file; without a last line that was cut short. A metric that
    was not finite is NaN.
    """
    path = place(workdir) / NAME
    if not path.exists():
        return []
    whole = path.read_bytes().splitlines(keepends=True)
    lines = [from_json(line) for line in whole if _step_of(line) is not None]
    return [
        {name: math.nan if value is None else value for name, value in line.items()}
        for line in lines
        if line.get("split") == split
    ]


class MetricWriter:
    """Writes metrics.jsonl and TensorBoard files; a context manager.

    A line of metrics.jsonl is one JSON object: step, split ("train" or "eval"),
    images_seen, seconds, then the metrics, null for one that is not finite. A line is
    on its way to disk when `write` returns.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        resume_step: int | None,
        *,
        say: Callable[[str], object] = lambda text: print(text, file=sys.stderr),
    ):
        """Opens the files of a run that goes on after `resume_step`.

        Lines of later steps, which will be computed again, are dropped, and so is a
        last line that a crash cut short; `say` gets one line about it. With None the
        run begins, and every line is dropped.
        Raises SaveError; UserError if a line that is not the last is no metric line.
        """
        self._path = place(workdir) / NAME
        after = -1 if resume_step is None else resume_step
        _drop_after(self._path, after, say)
        with saving(self._path):
            self._growing = Growing(self._path.parent, NAME)
            # Without a buffer: a failed write is known at once and leaves nothing.
            self._grows = self._growing.folder / NAME
            self._file = open(self._grows, "ab", buffering=0)
        self._board = _Board(self._path.parent / "tensorboard", purge_step=after + 1)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self.close()
        except SaveError:
            if error is None:  # else that one says more
                raise

    def write(
        self,
        step: int,
        split: Literal["train", "eval"],
        metrics: Mapping[str, SupportsFloat],
        *,
        images_seen: int,
        seconds: float,
    ) -> None:
        """One line, and one TensorBoard scalar "<split>/<name>" a metric.

        seconds: of wall clock since the run began or was resumed.
        Raises SaveError; ValueError if a metric takes the name of another field.
        """
        line: dict[str, Any] = {
            "step": step,
            "split": split,
            "images_seen": images_seen,
            "seconds": round(seconds, 3),
        }
        if clash := sorted(line.keys() & metrics.keys()):
            raise ValueError(f"metrics cannot be called {clash}; rename them")
        values = {name: float(value) for name, value in metrics.items()}
        rest = memoryview((to_json(line | values) + "\n").encode())
        self._check_there()
        with saving(self._path):
            while rest:  # a raw write may take only a part
                rest = rest[self._file.write(rest) :]
            self._growing.sync()
        self._board.scalars(step, {f"{split}/{k}": v for k, v in values.items()})

    def _check_there(self) -> None:
        """Raises SaveError if the file is no longer in the folder of the run.

        Else what is open would still be written, and the rest somewhere else.
        """
        try:
            own = os.fstat(self._file.fileno())
            there = os.path.samestat(os.stat(self._grows), own)
        except FileNotFoundError:
            there = False
        except OSError:  # a disk that does not answer: the write will say so
            return
        if not there:
            raise SaveError(
                f"{self._path} was removed, renamed or replaced while the run wrote to "
                f"it; give {self._path.parent} its place back, or begin anew"
            )

    def images(self, step: int, name: str, picture: np.ndarray) -> None:
        """An (H, W, 3) uint8 picture for TensorBoard. Raises SaveError."""
        self._board.image(step, name, picture)

    def flush(self) -> None:
        """Returns when all that was written lies in the workdir. Raises SaveError.

        To be called before a checkpoint is saved: a resume writes no earlier line.
        """
        with saving(self._path):
            self._growing.sync(now=True)
        self._board.flush()

    def close(self) -> None:
        """Flushes and closes the files. Raises SaveError."""
        self._file.close()
        with saving(self._path):
            self._growing.close()
        self._board.close()


class _Board:
    """A TensorBoard file, written in the calling thread.

    tensorboardX's SummaryWriter has a thread that dies of a full disk; its queue then
    fills and the next scalar waits for ever. Its parts work without the thread.
    """

    def __init__(self, folder: Path, *, purge_step: int):
        # Imported late: a third of a second that only a training run should pay.
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._summary = summary
        protos: Any = event_pb2  # its names are made at run time
        self._event = protos.Event
        self._folder = folder
        with saving(folder):
            self._growing = Growing(folder)
            # The suffix: two starts within a second must not share a file.
            suffix = f".{purge_step}.{os.getpid()}.{time.monotonic_ns()}"
            self._writer = EventsWriter(str(self._growing.folder / "events"), suffix)
        # TensorBoard hides what older files hold from purge_step on.
        start = protos.SessionLog(status=protos.SessionLog.START)
        self._flushed = -FLUSH_SECONDS
        self._write(purge_step, session_log=start)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                continue  # it cannot be drawn, and tensorboardX warns of it
            self._write(step, summary=self._summary.scalar(name, value))

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        image = self._summary.image(name, picture, dataformats="HWC")
        self._write(step, summary=image)

    def flush(self) -> None:
        with saving(self._folder):
            self._writer.flush()
            self._flushed = time.monotonic()
            self._growing.sync(now=True)

    def close(self) -> None:
        with saving(self._folder):
            self._writer.close()
            self._growing.close()

    def _write(self, step: int, **what: Any) -> None:
        event = self._event(step=step, wall_time=time.time(), **what)
        with saving(self._folder):
            self._writer.write_event(event)
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._writer.flush()
                self._flushed = time.monotonic()
                self._growing.sync()


def _drop_after(path: Path, step: int, say: Callable[[str], object]) -> None:
    """Rewrites metrics.jsonl without the lines of steps after `step`."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, 1):
        line_step = _step_of(line)
        if line_step is None and number < len(lines):
            raise UserError(
                f"line {number} of {path} is no line of metrics; mend or move the file"
            )
        if line_step is not None and line_step <= step:
            kept.append(line)
    if dropped := len(lines) - len(kept):
        write_atomically(path, b"".join(kept))
        say(
            f"{path}: dropped {dropped} line{'s' if dropped > 1 else ''} later than "
            f"step {max(step, 0)} or cut short; they will be computed again"
        )


def _step_of(line: bytes) -> int | None:
    """None for a line that a crash cut short."""
    if not line.endswith(b"\n"):
        return None
    try:
        return int(from_json(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
