"""Stopping on request: signals and the time limit set a flag, nothing more.

The flag travels through the compiled step, so all processes see it at the same step
without a further collective; see `genjax.training.loop`. JAX's own preemption service
is not used: it does nothing in a run of one process and can lose a signal in others.
"""

import os
import signal
import sys
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
EXIT_STOPPED = 75  # sysexits' EX_TEMPFAIL: run the same command again


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
        self._previous = {}

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self._signal = self._signal or signal.Signals(number).name
        # os.write: a print from a handler can meet a lock that the main code holds.
        if self._count == 1:
            message = (
                f"\n{self._signal}: stopping after the running step, then saving\n"
            )
        else:
            message = "\nstill stopping; a third signal leaves without saving\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message.encode())
        if self._count >= 3:
            os._exit(128 + number)
