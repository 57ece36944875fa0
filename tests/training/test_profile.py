"""--profile: the trace holds the steps that it names, and training is as without."""

import dataclasses
import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.experiment import Experiment
from genjax.training.compile import compile_experiment
from genjax.training.profile import Profiled
from genjax.training.sharding import make_mesh


def step(state, batch, key):
    state = state + jnp.mean(batch["x"]) * jax.random.normal(key)
    return state, {"loss": state}


@pytest.fixture(scope="module")
def compiled():
    experiment = Experiment(init=lambda key: jnp.zeros(()), train_step=step)
    return compile_experiment(experiment, make_mesh(devices=jax.devices()[:1]))


def train(steps, compiled, calls=(4, 4, 4)):
    """The losses of calls of these lengths."""
    state, health, first, losses = compiled.init(0), steps.healthy(), 0, []
    for length in calls:
        feed = {"x": jnp.ones((length, 2))}
        state, health, metrics, status = steps.run(
            state, health, {}, feed, first, seed=0, stop=False
        )
        first += length
        losses += metrics["loss"].tolist()
    assert int(status.skipped) == 0
    return losses


@pytest.mark.parametrize("num_steps", [3, 6])
def test_the_steps_after_the_first_call_are_traced(compiled, tmp_path, num_steps):
    said, ran = [], []

    def run(*given, **more):
        tracing = jax.profiler.TraceAnnotation.is_enabled()
        ran.append((given[4], len(given[3]["x"]), tracing))
        return compiled.run(*given, **more)

    watched = dataclasses.replace(compiled)
    object.__setattr__(watched, "run", run)
    steps = Profiled(watched, tmp_path, num_steps, say=said.append)
    np.testing.assert_allclose(train(steps, compiled), train(compiled, compiled))
    steps.close()
    traced = [(first, n) for first, n, tracing in ran if tracing]
    assert traced == {3: [(4, 3)], 6: [(4, 4), (8, 2)]}[num_steps]
    [line] = said
    path = line.split("open ")[1].split(" in ")[0]
    assert f"steps 4 ... {3 + num_steps}: open {tmp_path}" in line
    with gzip.open(path) as file:
        names = {str(e.get("name")) for e in json.load(file)["traceEvents"]}
    assert any("PjRt" in name or "Execute" in name for name in names)
    assert not any("backend_compile" in name for name in names)


def test_training_that_ends_within_the_first_call_says_so(compiled, tmp_path):
    said = []
    steps = Profiled(compiled, tmp_path, 3, say=said.append)
    train(steps, compiled, calls=(4,))
    steps.close()
    assert "nothing was traced" in said[0] and not list(tmp_path.iterdir())


def test_training_that_ends_within_the_trace_has_what_there_is(compiled, tmp_path):
    said = []
    steps = Profiled(compiled, tmp_path, 100, say=said.append)
    train(steps, compiled, calls=(4, 4))
    steps.close()
    assert "steps 4 ... 7: open" in said[0]
