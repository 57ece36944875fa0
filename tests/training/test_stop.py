import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genjax.training.stop import EXIT_STOPPED, SIGNALS, StopRequest
from genjax.typing import Stopped

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def heard():
    """SIGHUP is, though these tests may run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_and_handlers_are_given_back(number, capfd):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop() and stop.reason is None
        os.kill(os.getpid(), number)
        assert stop() and stop.reason == signal.Signals(number).name
    assert signal.getsignal(number) is before
    assert signal.Signals(number).name in capfd.readouterr().err


def test_an_ignored_hangup_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_left_alone_in_another_thread():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: StopRequest().__enter__()()).result() is False


def test_the_exit_code_is_that_of_a_stop():
    assert EXIT_STOPPED == Stopped.exit_code


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_the_imports_ends_with_75_and_makes_nothing(number, tmp_path):
    program = [sys.executable, "launch.py", "--config=ddpm_toy2d:tiny"]
    process = subprocess.Popen(
        [*program, f"--workdir={tmp_path}/run"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None and "starting" in process.stderr.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert said.splitlines() == [
        f"genjax: {signal.Signals(number).name} before the work began; the same "
        "command begins it"
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_time_limit_asks():
    with StopRequest(max_seconds=0.05) as stop:
        assert not stop()
        time.sleep(0.06)
        assert stop() and "max_seconds=0.05" in str(stop.reason)


def test_the_third_signal_leaves_at_once():
    code = (
        "import time, sys\n"
        "from genjax.training.stop import StopRequest\n"
        "with StopRequest():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"without saving" in stderr
