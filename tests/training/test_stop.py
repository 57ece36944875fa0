import os
import signal
import subprocess
import sys
import time

import pytest

from genjax.training.stop import SIGNALS, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_and_handlers_are_given_back(number, capfd):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop() and stop.reason is None
        os.kill(os.getpid(), number)
        assert stop() and stop.reason == signal.Signals(number).name
    assert signal.getsignal(number) is before
    assert signal.Signals(number).name in capfd.readouterr().err


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
