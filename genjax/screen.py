"""What a person sees while a run works: lines on the standard error."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

Say = Callable[[object], object]


def say(what: object) -> None:
    """A line, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(str(what), file=sys.stderr)
    sys.stderr.flush()


def silent(what: object) -> None:
    """Says nothing: for a library call, and for all processes but the first."""


@contextlib.contextmanager
def without_a_reader() -> Iterator[None]:
    """Lets the work go on where the standard error is closed, or its reader goes away.

    That is what happens to `2>&1 | head`, and to a connection that ends.
    """
    while (file := os.open(os.devnull, os.O_WRONLY)) <= 2:
        pass  # 0, 1 or 2 was closed: the next file to be opened would take its place
    os.close(file)
    before = sys.stderr
    sys.stderr = _Unread(before or open(os.devnull, "w"))
    try:
        yield
    finally:
        sys.stderr = before


class _Unread:
    """A text stream that drops what can no longer be written."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self) -> None:
        """What is in the buffer too, which would fail once more at the exit."""
        with contextlib.suppress(OSError, ValueError):
            file = os.open(os.devnull, os.O_WRONLY)
            os.dup2(file, self._stream.fileno())
            os.close(file)
