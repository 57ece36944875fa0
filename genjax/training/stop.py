"""Stopping on request: signals and the time limit set a flag, nothing more.

The flag travels through the compiled step, so all processes see it at the same step
without a further collective; see `genjax.training.loop`. JAX's own preemption service
is not used: it does nothing in a run of one process and can lose a signal in others.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
EXIT_STOPPED = 75  # Stopped.exit_code, whose module would import JAX first


@contextlib.contextmanager
def leaving_on_a_signal() -> Iterator[None]:
    """Until there is anything to save, a signal ends the process, with exit code 75."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        name = signal.Signals(number).name
        _write(f"genjax: {name} before the work began; the same command begins it\n")
        os._exit(EXIT_STOPPED)

    previous = _handle(leave)
    try:
        yield
    finally:
        _restore(previous)


class StopRequest:
    """Whether somebody wants this process to stop; a context manager.

    The first signal asks, the second says that it was heard, the third leaves at once
    and loses what was not saved.
    """

    def __init__(self, max_seconds: float | None = None):
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._max_seconds = max_seconds
        self._count = 0
        self._signal: str | None = None
        self._previous: Mapping[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._previous = _handle(self._heed)
        return self

    def __exit__(self, *exc_info) -> None:
        _restore(self._previous)

    def __call__(self) -> bool:
        """True from the first signal on, or once max_seconds are over."""
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """In words: the name of the signal, or the time limit; None without either."""
        if self._signal is not None:
            return self._signal
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return f"--max_seconds={self._max_seconds:g}"
        return None

    def _heed(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self._signal = self._signal or signal.Signals(number).name
        if self._count == 1:
            _write(f"\n{self._signal}: stopping after the running step, then saving\n")
        else:
            _write("\nstill stopping; a third signal leaves without saving\n")
        if self._count >= 3:
            os._exit(128 + number)


def _write(message: str) -> None:
    """On the standard error, if somebody still reads it.

    Not by print: from a handler that can meet a lock which the main code holds.
    """
    with contextlib.suppress(OSError):
        os.write(2, message.encode())


def _handle(handler: Handler) -> Mapping[int, Any]:
    """Sets it for all of SIGNALS; returns the handlers that were there before.

    A SIGHUP that is ignored stays so: that is what `nohup` asks for. Only the main
    thread may set handlers; elsewhere, say in a notebook's thread, none is.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {
        number: signal.signal(number, handler)
        for number in SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
