"""Keeps Orbax's pages of text off the terminal while a Checkpointer is open."""

import contextlib
import gc
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what Orbax logs, for its errors are raised too, and those it cannot raise.

    The first failure of a read is raised. The reads beside it are abandoned, and when
    these are collected, at any later time, each would print a page.

    What others log or fail to raise is passed on. Several may be open at once.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    drop = _OrbaxNoise()
    for logger in loggers:
        logger.addFilter(drop)
    _hook.hold()
    try:
        yield
    finally:
        _hook.release()
        for logger in loggers:
            logger.removeFilter(drop)


@contextlib.contextmanager
def quiet_read() -> Iterator[Callable[[], Any]]:
    """Yields a function to call after a failed read, when its error is forgotten.

    It collects the reads that Orbax abandoned while nobody listens to them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "coroutine '_read_array_index_and_device_put' was never awaited"
        )
        yield gc.collect


class _OrbaxNoise(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "asyncio":
            trace = record.exc_info[2] if record.exc_info else None
            text = record.getMessage().lower()
            ours = "orbax" in text or "tensorstore" in text
            return not ours and not _is_of_orbax(trace)
        return "orbax" not in record.pathname


class _UnraisableHook:
    """In the place of sys.unraisablehook while somebody holds it."""

    def __init__(self) -> None:
        self.holders = 0
        self.previous: Any = None

    def hold(self) -> None:
        self.holders += 1
        if self.holders == 1:
            self.previous, sys.unraisablehook = sys.unraisablehook, self

    def release(self) -> None:
        self.holders -= 1
        # Somebody else's hook may lie over ours by now: then it stays below, idle.
        if self.holders == 0 and sys.unraisablehook is self:
            sys.unraisablehook = self.previous

    def __call__(self, unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # of a coroutine
        from_orbax = _is_of_orbax(unraisable.exc_traceback) or (
            code is not None and "orbax" in code.co_filename
        )
        # TensorStore, in C++, answers a read whose event loop has gone.
        too_late = str(unraisable.exc_value) == "Event loop is closed"
        noise = from_orbax or (too_late and unraisable.object is None)
        if not noise or self.holders == 0:
            self.previous(unraisable)


_hook = _UnraisableHook()


def _is_of_orbax(trace: TracebackType | None) -> bool:
    frames = traceback.walk_tb(trace)
    return any("orbax" in frame.f_code.co_filename for frame, _ in frames)
