"""The loop with a two-line experiment: order of events, stops, divergence, logs."""

import contextlib
import json
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from genjax.experiment import Experiment
from genjax.training import loop
from genjax.training.checkpoint import Checkpointer
from genjax.training.compile import compile_experiment
from genjax.training.metrics import MetricWriter
from genjax.training.progress import Progress
from genjax.typing import DivergedError, Stopped, UserError

BATCH = 4


class CountingFeed:
    """Batches that hold their own step; NaN at the bad ones."""

    resident: dict = {}

    def __init__(self, bad=()):
        self.bad = bad

    def get(self, step, num_steps):
        steps = np.arange(step, step + num_steps, dtype=np.float32)
        steps[[s in self.bad for s in range(step, step + num_steps)]] = np.nan
        return {"image": jnp.asarray(np.repeat(steps[:, None], BATCH, axis=1))}

    def rows(self, step):
        return np.arange(BATCH) + 100 * step


def add_up(state, batch, key):
    mean = jnp.mean(batch["image"])
    return state + mean, {"loss": mean}


@pytest.fixture
def run(tmp_path, mesh):
    """run(...) -> (step, sum of all batches' steps); what it wrote is in tmp_path."""
    experiment = Experiment(init=lambda key: jnp.zeros(()), train_step=add_up)
    compiled = compile_experiment(experiment, mesh)

    def start(bad=(), callbacks=(), stop=lambda: False, **changes):
        schedule = {"num_steps": 20, "log_every": 5, "save_every": 10} | changes
        with (
            Checkpointer(tmp_path / "checkpoints", keep_last=9) as checkpointer,
            contextlib.ExitStack() as stack,
        ):
            restored = checkpointer.restore(compiled.abstract_state)
            state, step, so_far = compiled.init(0), 0, {}
            if restored is not None:
                state, step = restored.state, restored.step
                so_far = restored.notes
            writer = stack.enter_context(MetricWriter(tmp_path, step if step else None))
            step, state = loop.train(
                compiled,
                CountingFeed(bad),
                state,
                step,
                seed=0,
                schedule=loop.Schedule(**schedule),
                callbacks=callbacks,
                checkpointer=checkpointer,
                log=loop.Log(writer, None, BATCH, so_far.get("seconds", 0.0)),
                stop=stop,
                so_far=so_far,
            )
        return step, float(state)

    return start


def saved(folder):
    names = (p.name for p in (folder / "checkpoints").iterdir())
    return sorted(int(name) for name in names if name.isdigit())


def lines(folder, split="train"):
    text = (folder / "metrics.jsonl").read_text().splitlines()
    return [x for x in map(json.loads, text) if x["split"] == split]


@pytest.mark.parametrize("steps_per_call", [1, 3, 50])
def test_every_step_is_taken_once(run, tmp_path, steps_per_call):
    assert run(steps_per_call=steps_per_call) == (20, sum(range(20)))
    assert saved(tmp_path) == [10, 20]
    assert [x["step"] for x in lines(tmp_path)] == [5, 10, 15, 20]
    assert [x["loss"] for x in lines(tmp_path)] == [2.0, 7.0, 12.0, 17.0]
    assert [x["images_seen"] for x in lines(tmp_path)] == [20, 40, 60, 80]


def test_progress_tells_of_steps_that_are_computed(tmp_path, mesh):
    """A call returns before the device is done; its steps must not be shown yet."""
    computed, shown = [], []

    def slow(batch):
        time.sleep(0.05)
        computed.extend(batch)
        return batch

    def step(state, batch, key):
        mean = jnp.mean(batch["image"])
        seen = io_callback(slow, jax.ShapeDtypeStruct((1,), jnp.float32), mean[None])
        return state + seen[0], {"loss": mean}

    class Recorded(Progress):
        def update(self, step, metrics):
            shown.append((step, len(computed)))

    experiment = Experiment(init=lambda key: jnp.zeros(()), train_step=step)
    compiled = compile_experiment(experiment, mesh)
    with Checkpointer(tmp_path / "checkpoints", keep_last=1) as checkpointer:
        loop.train(
            compiled,
            CountingFeed(),
            compiled.init(0),
            0,
            seed=0,
            schedule=loop.Schedule(
                num_steps=8, log_every=8, save_every=8, steps_per_call=2
            ),
            callbacks=(),
            checkpointer=checkpointer,
            log=loop.Log(None, Recorded(8, images_per_step=BATCH), BATCH),
            stop=lambda: False,
            so_far={},
        )
    assert shown == [(2, 2), (4, 4), (6, 6), (8, 8)]


def test_bad_steps_are_left_out_and_counted(run, tmp_path):
    assert run(bad=(5, 6, 12)) == (20, sum(range(20)) - 23)
    assert [x["loss"] for x in lines(tmp_path)] == [2.0, 8.0, 12.0, 17.0]
    assert [x["skipped_steps"] for x in lines(tmp_path)] == [0, 2, 3, 3]


def test_too_many_in_a_row_stop_the_run(run, tmp_path):
    """The message names metric, step and rows; nothing after the streak is saved."""
    with pytest.raises(
        DivergedError, match=r"loss not finite at step 12 .*rows \[1200, 1201, 1202"
    ):
        run(bad=range(12, 20), max_bad_steps=4)
    assert saved(tmp_path) == [10]


def test_a_short_run_must_not_end_in_bad_steps(run, tmp_path):
    """20 steps with a limit of 99: half of them, at the end, are too many."""
    with pytest.raises(DivergedError, match="not finite at step 10 and in 10 steps"):
        run(bad=range(10, 20), max_bad_steps=99)
    assert saved(tmp_path) == [10]
    assert run(bad=range(11, 20), max_bad_steps=99)[0] == 20


def test_a_stop_saves_and_the_next_run_goes_on(run, tmp_path):
    asked = iter([False] * 6 + [True] * 99)
    with pytest.raises(Stopped):
        run(stop=lambda: next(asked))
    assert saved(tmp_path) == [7]
    assert run() == (20, sum(range(20)))


def test_a_mistake_found_on_the_way_loses_nothing(run, tmp_path):
    def refuse(step, state):
        raise UserError("no such metric")

    callback = loop.Callback(every=7, run=refuse, is_done=lambda step: True)
    with pytest.raises(UserError, match="no such metric"):
        run(callbacks=[callback])
    assert saved(tmp_path) == [7]
    assert run() == (20, sum(range(20)))


def test_callbacks_come_before_the_save_and_feed_it(run, tmp_path):
    seen = []

    def evaluate(step, state):
        seen.append((step, float(state), saved(tmp_path)))
        return {"score": float(step)}

    callback = loop.Callback(every=8, run=evaluate, is_done=lambda step: False)
    run(callbacks=[callback], save_every=8)
    assert [step for step, _, _ in seen] == [8, 16, 20]  # and once at the end
    assert [total for _, total, _ in seen] == [sum(range(n)) for n in (8, 16, 20)]
    assert 8 not in seen[0][2]
    assert [x["score"] for x in lines(tmp_path, "eval")] == [8.0, 16.0, 20.0]


def test_work_that_a_stop_cut_short_is_done_on_resume(run, tmp_path):
    done: list[int] = []

    def interrupted(step, state):
        raise Stopped("in the middle")

    def finished(step, state):
        done.append(step)

    first = loop.Callback(every=10, run=interrupted, is_done=lambda step: False)
    with pytest.raises(Stopped):
        run(callbacks=[first])
    assert saved(tmp_path) == [10]
    second = loop.Callback(every=10, run=finished, is_done=lambda step: step in done)
    run(callbacks=[second])
    assert done == [10, 20]


def test_the_speed_is_that_of_training(run, tmp_path):
    """A second of evaluation in between does not make a step slower."""
    run(
        callbacks=[loop.Callback(every=2, run=lambda *_: time.sleep(1.0), is_done=bool)]
    )
    train = [line for line in lines(tmp_path) if line["split"] == "train"]
    assert train[-1]["seconds"] - train[-2]["seconds"] > 2
    assert train[-1]["steps_per_second"] > 5  # 5 steps; 2 or 3 with the evaluations


def test_calls_end_where_something_is_due():
    schedule = loop.Schedule(
        num_steps=100, log_every=30, save_every=50, steps_per_call=40
    )
    assert schedule.call_length(0, [25]) == 25
    assert schedule.call_length(25, [25]) == 5
    assert schedule.call_length(50, [100]) == 10
    assert schedule.call_length(90, [100]) == 10


def test_a_stop_between_two_lines_leaves_no_trace_in_the_metrics(run, tmp_path):
    """Means, skipped steps and the clock go on, whatever the stop cut in two."""
    bad, clock = (2, 13), ("seconds", "steps_per_second", "images_per_second")
    run(bad=bad, steps_per_call=1)
    whole = [{k: x[k] for k in x if k not in clock} for x in lines(tmp_path)]
    shutil.rmtree(tmp_path / "checkpoints")
    asked = iter([*[False] * 7, True])  # after step 8, between those of 5 and 10
    with pytest.raises(Stopped, match="after step 8"):
        run(bad=bad, steps_per_call=1, stop=lambda: next(asked))
    time.sleep(0.2)
    run(bad=bad, steps_per_call=1)
    again = lines(tmp_path)
    assert [{k: x[k] for k in x if k not in clock} for x in again] == whole
    assert whole[-1]["skipped_steps"] == 2
    seconds = [x["seconds"] for x in again]
    assert seconds == sorted(seconds) and seconds[1] - seconds[0] < 0.2
