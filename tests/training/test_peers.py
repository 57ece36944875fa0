"""Processes that end, and how those that are left end; without a run around them."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from genjax.training.peers import speaks_of_a_lost_process
from genjax.typing import SaveError, UserError

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
import jax
from genjax.training import peers
from genjax.typing import SaveError, Stopped, UserError

peers.LISTEN_MILLISECONDS = 300  # so that each test listens more than once
number, port, action = int(sys.argv[1]), sys.argv[2], sys.argv[3]
with peers.heartbeats_end_in_terminate():
    jax.distributed.initialize(
        f"localhost:{port}",
        2,
        number,
        initialization_timeout=30,
        heartbeat_timeout_seconds=3,
        shutdown_timeout_seconds=3,
    )
client = jax._src.distributed.global_state.client
together = peers.Peers(client, number, 2)
together.watch()
try:
    with together.together():
        print("ready", flush=True)
        exec(action)
except (UserError, SaveError, Stopped) as error:
    print("genjax:", error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def run_two(*actions: str, kill: int | None = None) -> list[tuple[int, list[str]]]:
    """(exit code, lines of genjax's) of each process, after its action."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(i), port, action],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, action in enumerate(actions)
    ]
    if kill is not None:
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        both[kill].send_signal(signal.SIGKILL)
    said = [process.communicate(timeout=60)[1] for process in both]
    assert not any(
        "Check failure" in text or "terminate called" in text for text in said
    )
    return [
        (p.returncode, [x for x in text.splitlines() if x.startswith("genjax:")])
        for p, text in zip(both, said, strict=True)
    ]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_kill_ends_the_other_by_one_sentence_and_75(killed):
    ended = run_two("time.sleep(60)", "time.sleep(60)", kill=killed)
    assert ended[killed][0] == -signal.SIGKILL
    code, said = ended[1 - killed]
    assert (
        code == 75 and len(said) == 1 and "another process of this run died" in said[0]
    )


@pytest.mark.parametrize("failing", [0, 1])
def test_a_mistake_in_one_ends_both_with_its_sentence(failing):
    actions = ["time.sleep(60)", "time.sleep(60)"]
    actions[failing] = "raise UserError('lower the batch')"
    ended = run_two(*actions)
    assert ended[failing] == (2, ["genjax: lower the batch"])
    assert ended[1 - failing] == (
        2,
        [f"genjax: process {failing} ended: lower the batch"],
    )


def test_an_error_of_one_does_not_wait_in_what_is_around_it():
    """There a save may wait for the other process."""
    failing = (
        "try:\n"
        "    with together.failing_alone():\n"
        "        raise SaveError('the disk is full')\n"
        "finally:\n"
        "    time.sleep(60)"
    )
    ended = run_two(failing, "time.sleep(60)")
    assert ended == [
        (78, ["genjax: the disk is full"]),
        (78, ["genjax: process 0 ended: the disk is full"]),
    ]


def test_a_bug_in_one_ends_both_with_1():
    ended = run_two("time.sleep(60)", "1 / 0")
    assert ended[0] == (
        1,
        ["genjax: process 1 ended: ZeroDivisionError: division by zero"],
    )
    assert ended[1][0] == 1


def test_the_end_waits_for_the_slowest():
    slow = "time.sleep(5); print('late', file=sys.stderr)"  # longer than a heartbeat
    assert [code for code, _ in run_two("pass", slow)] == [0, 0]


def test_a_stop_of_all_ends_each_with_75():
    stop = "raise Stopped('after step 3')"
    assert [code for code, _ in run_two(stop, stop)] == [75, 75]


def test_what_a_collective_says_of_a_lost_process_is_known():
    gone = ValueError("UNKNOWN: Gloo AllReduce failed: Connection closed by peer")
    assert speaks_of_a_lost_process(gone)
    try:
        try:
            raise gone
        except ValueError as error:
            raise SaveError("checkpoint 3 could not be written") from error
    except SaveError as error:
        assert speaks_of_a_lost_process(error)
    assert not speaks_of_a_lost_process(UserError("Gloo is no data set"))
    assert not speaks_of_a_lost_process(RuntimeError("out of memory"))
    assert not speaks_of_a_lost_process(None)
