"""How the processes of a run end together.

A process that fails tells the others why, through the key-value store of JAX's
coordinator, and all end with its sentence and exit code. One that is killed cannot
tell: then JAX's heartbeats fail, or a collective does, and the others end with 75.

JAX itself would answer a missed heartbeat by a C++ abort with a stack trace. Its client
takes a callback for that instead, but cannot call one of Python: the C++ exception that
comes of it ends in `std::terminate`, where our handler waits. Nothing here is public in
JAX; tests/training/test_distributed.py kills processes to see that it holds.
"""

import ctypes
import functools
import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from genjax.typing import DivergedError, LostProcess, SaveError, Stopped, UserError

ErrorT = TypeVar("ErrorT", bound=BaseException)

LEFT, HEARD, DONE = "genjax/left", "genjax/heard", "genjax/done"
LISTEN_MILLISECONDS = 3600 * 1000  # then it is asked for again
DAY_MILLISECONDS = 24 * 3600 * 1000
PATIENCE = 5.0  # seconds in which the others hear why process 0 ends
EXIT_BUG = 1

# What a collective of XLA, or the coordinator, says when a process has gone.
GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Socket closed",
    "Broken pipe",
    "coordination service",
    "CoordinationService",
    "stopped sending heartbeats",
    "Gloo",
)


def known_to_all(error: ErrorT) -> ErrorT:
    """The error, to be raised in every process at once: then none has to tell it."""
    vars(error)["is_known_to_all"] = True
    return error


def is_known_to_all(error: BaseException) -> bool:
    """Whether every process raises it."""
    if isinstance(error, Stopped | DivergedError):
        return True
    return vars(error).get("is_known_to_all", False)


def speaks_of_a_lost_process(error: BaseException | None) -> bool:
    """Whether the error, or one that led to it, comes of a process that has gone."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, LostProcess):
            return True
        if isinstance(error, RuntimeError | ValueError) and not isinstance(
            error, UserError
        ):
            if any(words in str(error) for words in GONE):
                return True
        error = error.__cause__ or error.__context__
    return False


class Peers:
    """The other processes of this run, from when they have met until they part."""

    def __init__(self, client: Any, process: int, count: int):
        """client: of JAX's coordinator. process: this one's number among `count`."""
        self.client, self.process, self.count = client, process, count
        self._lock = threading.Lock()  # held for ever by the thread that ends us
        self._parting = False
        self._code = LostProcess.exit_code
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def watch(self) -> None:
        """From now on this process ends when another one does."""
        on_terminate(self._on_heartbeat)
        self._listener.start()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work that all processes do; waits at its end until all have done it."""
        with self.failing_alone():
            try:
                yield
                self.client.wait_at_barrier(DONE, DAY_MILLISECONDS)
            except BaseException as error:
                if is_known_to_all(error):
                    self._part_in_order(getattr(error, "exit_code", EXIT_BUG))
                raise
            self._part_in_order(0)

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        """An error of this process alone ends it here, and the others with it.

        Nothing outside is left in order: what waits for the others would wait for ever.
        """
        try:
            yield
        except BaseException as error:
            if is_known_to_all(error):
                raise
            if speaks_of_a_lost_process(error):
                self._end(LostProcess(), LostProcess.exit_code)
            self._tell(error)

    def _part(self, code: int) -> None:
        """Whatever happens to the others now, this process has its exit code."""
        self._parting, self._code = True, code

    def _part_in_order(self, code: int) -> None:
        """All processes end: nobody has to listen any more."""
        self._part(code)
        with suppress(Exception):  # another one was first
            self.client.key_value_set(LEFT, json.dumps(None))
        self._listener.join(PATIENCE)  # it must not wait when JAX takes the store down

    def _tell(self, error: BaseException) -> NoReturn:
        """Says here and to the others why this process ends, and ends it."""
        self._lock.acquire()
        code, what = EXIT_BUG, traceback.format_exception_only(error)[-1].strip()
        if isinstance(error, UserError | SaveError):
            code, what = error.exit_code, str(error)
            _say(what)
        else:
            traceback.print_exception(error)
        self._part(code)
        record = {"process": self.process, "code": code, "says": what}
        with suppress(Exception):  # somebody else was first
            self.client.key_value_set(LEFT, json.dumps(record))
        if self.process == 0:  # which holds the store
            until = time.monotonic() + PATIENCE
            for other in range(1, self.count):
                left = max(1, int(1000 * (until - time.monotonic())))
                with suppress(Exception):
                    self.client.blocking_key_value_get(f"{HEARD}/{other}", left)
        leave(code)

    def _listen(self) -> None:
        """In a thread: waits for another process to tell why it ends."""
        record = self._what_is_told()
        if record is None or record["process"] == self.process:
            return
        with suppress(Exception):
            self.client.key_value_set(f"{HEARD}/{self.process}", "")
        said = f"process {record['process']} ended: {record['says']}"
        self._end(said, record["code"])

    def _what_is_told(self) -> Any:
        """Waits for it; ends this process if the coordinator has gone."""
        while True:
            try:
                told = self.client.blocking_key_value_get(LEFT, LISTEN_MILLISECONDS)
                return json.loads(told)
            except Exception as error:
                if "DEADLINE_EXCEEDED" in str(error):
                    continue  # nothing was told so far
                if self._parting:
                    return None
                time.sleep(0.5)  # a process that ends in order tells first
                self._end(LostProcess(), LostProcess.exit_code)
                return None

    def _on_heartbeat(self) -> None:
        if self._parting:
            time.sleep(PATIENCE)  # in which the main thread says why it ends
            leave(self._code)
        self._end(LostProcess(), LostProcess.exit_code)

    def _end(self, message: object, code: int) -> None:
        """Says the sentence and leaves, unless another thread already does."""
        self._lock.acquire()
        if self._parting:
            self._lock.release()
            return
        _say(message)
        leave(code)


def _say(message: object) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"genjax: {message}\n")


def leave(code: int) -> NoReturn:
    """Ends this process at once, without waiting for threads or other processes."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


@contextmanager
def heartbeats_end_in_terminate() -> Iterator[None]:
    """Makes the client of `jax.distributed.initialize` call back; see above."""
    library = importlib.import_module("jax._src.lib")._jax
    make = library.get_distributed_runtime_client
    library.get_distributed_runtime_client = functools.partial(
        make, missed_heartbeat_callback=_call_back
    )
    try:
        yield
    finally:
        library.get_distributed_runtime_client = make


def _call_back(status: object) -> None:
    """For a JAX that can call it after all."""
    del status
    for action in _actions:
        action()


def on_terminate(action: Callable[[], None]) -> None:
    """Calls `action` where C++ ends the process for a callback it could not make."""
    _actions.append(action)
    try:
        runtime = ctypes.CDLL("libstdc++.so.6")  # the one that jaxlib is linked with
    except OSError:  # not on Linux: then JAX's own words have to do
        return
    current = runtime.__cxa_current_exception_type
    current.restype = ctypes.c_void_p
    kind = ctypes.CFUNCTYPE(None)
    previous: list[Any] = []

    def handler() -> None:
        address = current()  # a std::type_info: a table, then the name
        place = address and ctypes.c_void_p.from_address(address + 8).value
        if place and ctypes.string_at(place).lstrip(b"*") == b"St8bad_cast":
            action()
        elif previous[0]:
            kind(previous[0])()

    wrapped = kind(handler)
    _kept.append(wrapped)  # C++ holds no reference
    replace = runtime._ZSt13set_terminatePFvvE
    replace.restype, replace.argtypes = ctypes.c_void_p, [kind]
    previous.append(replace(wrapped))


_kept: list[Any] = []
_actions: list[Callable[[], None]] = []
