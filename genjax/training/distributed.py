"""Several processes as one run: TPU VM slices, SLURM, Open MPI, Kubernetes, or by hand.

Must be called before anything else touches a device.
"""

import atexit
import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax._src.distributed import global_state  # the store, before there are devices
from jax.experimental import multihost_utils

from genjax.screen import say
from genjax.training import cluster
from genjax.training.agreement import Agreement
from genjax.training.peers import (
    Peers,
    heartbeats_end_in_terminate,
    known_to_all,
    leave,
)
from genjax.typing import SaveError, UserError

HEARTBEAT_SECONDS = 40  # without one, a process is dead
PARTING_SECONDS = 30  # that a process waits for the others at its exit


@contextlib.contextmanager
def joined(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    join_seconds: int = 50,
) -> Iterator[Agreement | None]:
    """Joins the other processes of this run, and parts from them at the end.

    coordinator: "host:port" of process 0, with num_processes and process_id; leave all
        three out where the cluster names them.
    join_seconds: how long to wait until all have started.
    Yields where they can compare what they are about to do; None where there is only
    this one. Raises UserError if only some of the three are given, or if not all come.
    """
    if not initialize(coordinator, num_processes, process_id, join_seconds):
        yield None
        return
    client, number = global_state.client, global_state.process_id
    assert client is not None
    count = global_state.num_processes
    peers = Peers(client, number, count)
    peers.watch()
    with peers.together():
        agreement = Agreement(client, number, count)
        _agreements.append(agreement)
        _peers.append(peers)
        agreement.on("number", {"the number of processes": count})
        yield agreement


def check_same(what: str, value: str, *, of: str) -> None:
    """Raises UserError if another process has another value, without waiting for it.

    of: what the value is of, the same in all processes.
    """
    for agreement in _agreements:
        agreement.without_waiting(what, value, of=of)


@contextlib.contextmanager
def failing_alone() -> Iterator[None]:
    """An error of this process alone ends all of them here, before what is outside.

    There a save could wait for the others, which wait for this process.
    """
    with contextlib.ExitStack() as stack:
        for peers in _peers:
            stack.enter_context(peers.failing_alone())
        yield


_agreements: list[Agreement] = []  # of this process: one, or none if it is alone
_peers: list[Peers] = []  # likewise


def initialize(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    join_seconds: int,
) -> bool:
    """Whether there are others, which then are joined; arguments as of `joined`."""
    # It would race with our own stop flag, and is blind in runs of one process.
    jax.config.update("jax_enable_preemption_service", False)
    given = [x is not None for x in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --num_processes and --process_id go together: give all "
            "three, or none where SLURM, Open MPI, Kubernetes or a TPU VM names them"
        )
    if all(given):
        assert num_processes is not None and process_id is not None
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id must lie in 0 ... {num_processes - 1}, got {process_id}"
            )
        assert coordinator is not None
        check_address(coordinator, serves=process_id == 0)
        join(join_seconds, coordinator, num_processes, process_id)
        return True
    if not cluster.has_several(os.environ, say=say):
        return False
    join(join_seconds, local_device_ids=cluster.local_device_ids(os.environ))
    return True


def join(seconds: int, *arguments, **named) -> None:
    """`jax.distributed.initialize`, with a sentence where it fails."""
    try:
        with heartbeats_end_in_terminate():
            jax.distributed.initialize(
                *arguments,
                **named,
                initialization_timeout=max(1, seconds - 5),  # it takes 5 longer
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=PARTING_SECONDS,
            )
    except (ValueError, RuntimeError, OSError) as error:
        if global_state.client is None:
            raise UserError(
                "this looks like one process of several, but the coordinator could not "
                f"be found ({error}); give --coordinator, --num_processes, --process_id"
            ) from error
        # JAX's own exit would wait once more, and print a page.
        atexit.register(leave, UserError.exit_code)
        here = f"process {global_state.process_id} of {global_state.num_processes}"
        raise UserError(
            f"{here} did not meet the others at {global_state.coordinator_address} "
            f"within {seconds} seconds: start all of them, each with a --process_id of "
            "its own and with the same --num_processes and --coordinator, or wait "
            "longer by --join_seconds"
        ) from error


def check_address(coordinator: str, *, serves: bool) -> None:
    """Raises UserError for no address, and for a port that process 0 cannot take.

    JAX's service would crash on a port that is taken.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator={coordinator} is no address: give host:port of process 0, "
            "like 10.0.0.1:8476"
        )
    if not serves:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except OSError as error:
            raise UserError(
                f"--coordinator={coordinator}: port {port} of this machine cannot be "
                f"taken ({error.strerror}); choose another, and see that only one "
                "process has --process_id=0"
            ) from error


def is_first() -> bool:
    """Whether this is the process that talks to the user and writes files."""
    return jax.process_index() == 0


def on_first_process(action: Callable[[], None]) -> None:
    """Runs `action` in process 0 while the others wait for it.

    A UserError or SaveError there ends the other processes too, instead of leaving them
    to wait.
    """
    error: UserError | SaveError | None = None
    if is_first():
        try:
            action()
        except (UserError, SaveError) as caught:
            error = caught
    if any_process(error is not None):
        refused = UserError("process 0 refused to go on and says why")
        raise known_to_all(error or refused)


def any_process(flag: bool) -> bool:
    """True in every process if `flag` is true in one; all processes must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
