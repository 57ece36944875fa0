import io

import numpy as np

from genjax.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(seconds, total=100, start=0, every=10.0):
    """Lines of a run that logs every 10 steps, at those times."""
    now = [0.0]
    stream = io.StringIO()
    options = dict(images_per_step=8, every=every, stream=stream, clock=lambda: now[0])
    with Progress(total, start, **options) as progress:
        for i, second in enumerate(seconds, 1):
            now[0] = second
            progress.update(start + 10 * i, {"loss": 0.125, "other": 3.0})
    return stream.getvalue().splitlines()


def test_a_line_has_rate_loss_and_time_left():
    # 10 steps in 20 s are 0.5 steps/s and 4 images/s; 90 more take 180 s.
    (line,) = run([20.0])
    assert line == ("step 10/100  loss 0.125  0.5 steps/s  4 images/s  0:03:00 left")


def test_the_loss_is_the_mean_over_the_steps_that_are_shown():
    stream = io.StringIO()
    with Progress(4, images_per_step=1, stream=stream) as progress:
        progress.update(4, {"loss": np.array([1.0, 2.0], np.float32)})
        progress.update(4, {"cycle": 1.0})
    first, second = stream.getvalue().splitlines()
    assert "loss 1.5 " in first and "loss" not in second


def test_the_rate_is_that_since_the_line_before():
    # The first line has the compilation in it, the second 10 steps in 10 s.
    assert "1 steps/s  8 images/s  0:01:20 left" in run([50.0, 60.0])[1]


def test_an_evaluation_does_not_count_in_the_rate():
    now, stream = [0.0], io.StringIO()
    options = dict(images_per_step=1, stream=stream, clock=lambda: now[0])
    with Progress(100, **options) as progress:
        now[0] = 60.0
        progress.stood_still(40.0)
        progress.update(10, {})
    assert "0.5 steps/s" in stream.getvalue()


def test_a_resumed_run_counts_its_own_steps_only():
    (line,) = run([20.0], total=1000, start=500)
    assert "step 510/1,000" in line and "0.5 steps/s" in line


def test_lines_are_rare_but_the_last_step_has_one():
    lines = run([4.0, 8.0, 12.0, 16.0, 20.0], total=50)
    assert [line.split()[1] for line in lines] == ["30/50", "50/50"]


def test_every_zero_prints_each_log_step():
    assert len(run([1.0, 2.0, 3.0], every=0.0)) == 3


def test_messages_are_lines():
    stream = io.StringIO()
    with Progress(10, images_per_step=1, stream=stream) as progress:
        progress.say("saved step 5")
    assert stream.getvalue() == "saved step 5\n"


def test_a_terminal_gets_a_bar_and_messages_above_it():
    stream = Terminal()
    with Progress(100, 20, images_per_step=8, stream=stream) as progress:
        progress.update(30, {"loss": 0.25})
        progress.say("saved step 30")
        progress.update(100, {"loss": 0.125})
    shown = stream.getvalue()
    above, below = shown.split("saved step 30\n")
    assert "20/100" in above
    last = below.split("\r")[-1]
    assert "100/100" in last and "loss=0.125" in last and "images/s" in last
