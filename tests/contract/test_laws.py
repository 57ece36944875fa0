"""What every experiment must keep, tried on each file in experiments/.

On every config with bundled data: what needs no running. On one config of each
experiment what must be run; with --slow on every config.
"""

import dataclasses
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.training.checkpoint import Checkpointer
from genjax.typing import UserError
from tests.contract.cases import (
    ROOT,
    Case,
    all_experiments,
    bundled_configs,
    case,
    one_each,
)

KEY = jax.random.key(7)


@pytest.fixture(scope="module", params=bundled_configs())
def law(request) -> Iterator[Case]:
    """Config by config: all their programs at once are too many for a process."""
    yield case(request.param)
    Case.compiled.cache_clear()
    jax.clear_caches()


@pytest.fixture
def run_law(law, request) -> Case:
    """For laws that run the model."""
    if law.name not in one_each() and not request.config.getoption("--slow"):
        pytest.skip("tried on one config of each experiment; --slow: on all")
    return law


def run_steps(law: Case, compiled, calls: list[int], state=None, first: int = 0):
    """Trains for sum(calls) steps, in calls of these lengths."""
    feed = law.feed(compiled)
    state = compiled.init(law.config.seed) if state is None else state
    health, step, collected = compiled.healthy(), first, []
    for length in calls:
        state, health, metrics, _ = compiled.run(
            state,
            health,
            feed.resident,
            feed.get(step, length),
            step,
            seed=law.config.seed,
        )
        step += length
        collected.append(jax.device_get(metrics))
    return state, jax.tree.map(lambda *m: np.concatenate(m), *collected)


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_every_experiment_has_a_bundled_config():
    assert set(bundled_configs().values()) >= set(all_experiments())


# --- without running ------------------------------------------------------------------


def test_shapes_are_stable(law):
    batch = jax.eval_shape(lambda: law.batch())
    state = jax.eval_shape(law.experiment.init, KEY)
    after, metrics = jax.eval_shape(law.experiment.train_step, state, batch, KEY)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    assert all(m.shape == () and m.dtype == jnp.float32 for m in metrics.values())


def test_samples_have_the_shape_of_data_and_labels_are_taken_or_refused(law):
    if law.experiment.sample is None:
        pytest.skip("no sampler")
    state = jax.eval_shape(law.experiment.init, KEY)

    def shape_of(label):
        return jax.eval_shape(lambda s: law.experiment.sample(s, KEY, 2, label), state)

    drawn = shape_of(None)
    assert drawn.shape == (2, *law.dataset.spec.shape)
    assert drawn.dtype == law.batch(2)["image"].dtype
    try:
        shape_of(jnp.zeros(2, jnp.int32))
    except UserError as error:
        assert "without labels" in str(error)


# --- by running -----------------------------------------------------------------------


def test_steps_in_one_call_are_steps_in_many(run_law):
    law, compiled = run_law, run_law.compiled(2)
    one, one_metrics = run_steps(law, compiled, [2])
    many, many_metrics = run_steps(law, compiled, [1, 1])
    assert_close(one, many, law)
    for name, values in one_metrics.items():
        assert np.isfinite(values).all(), name
        np.testing.assert_allclose(values, many_metrics[name], rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(values[0], many_metrics[name][0], rtol=1e-5)


def test_resume_is_bit_for_bit(run_law, tmp_path):
    law, compiled = run_law, run_law.compiled(2)
    whole, _ = run_steps(law, compiled, [1, 1, 1])
    half, _ = run_steps(law, compiled, [1])
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, half)
    with Checkpointer(tmp_path) as checkpointer:
        restored = checkpointer.restore(compiled.abstract_state)
    resumed, _ = run_steps(law, compiled, [1, 1], restored.state, restored.step)
    assert_same_bits(resumed, whole)


RESUME = """
import sys
sys.path.insert(0, {root!r})
import tests.conftest
from tests.contract.cases import case
from tests.contract.test_laws import run_steps
from genjax.training.checkpoint import Checkpointer
law = case({name!r})
compiled = law.compiled(2)
with Checkpointer({folder!r}) as checkpointer:
    restored = checkpointer.restore(compiled.abstract_state)
    state, _ = run_steps(law, compiled, [1, 1], restored.state, restored.step)
    checkpointer.save(restored.step + 2, state)
"""


@pytest.mark.slow
def test_resume_in_a_new_process_is_bit_for_bit(law, tmp_path):
    if law.name not in one_each():
        pytest.skip("takes long: tried on one config of each experiment")
    compiled = law.compiled(2)
    whole, _ = run_steps(law, compiled, [1, 1, 1, 1])
    half, _ = run_steps(law, compiled, [1, 1])
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(2, half)
    code = RESUME.format(root=str(ROOT), name=law.name, folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    with Checkpointer(tmp_path) as checkpointer:
        resumed = checkpointer.restore(compiled.abstract_state)
    assert resumed is not None and resumed.step == 4
    assert_same_bits(resumed.state, whole)


@pytest.mark.slow
def test_many_devices_compute_what_one_does(run_law):
    check_devices(run_law, devices=2)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 2])
def test_four_devices_with_whole_and_split_parameters(run_law, fsdp):
    check_devices(run_law, devices=4, fsdp=fsdp)


def check_devices(law: Case, devices: int, fsdp: int = 1) -> None:
    one, one_metrics = run_steps(law, law.compiled(1), [1, 1])
    many, many_metrics = run_steps(law, law.compiled(devices, fsdp), [1, 1])
    assert_close(one, many, law)
    for name, values in one_metrics.items():
        # atol: a metric that is 0 but for rounding
        np.testing.assert_allclose(
            values[0], many_metrics[name][0], rtol=2e-5, atol=1e-6
        )


def assert_close(a, b, law):
    """Adam turns a rounding error in a small gradient into a part of one step."""
    rate = law.config.optim.learning_rate if "optim" in law.config else 0.0
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(
            np.asarray(x), np.asarray(y), rtol=1e-3, atol=max(0.8 * rate, 1e-5)
        )


@pytest.mark.slow  # tests/training/test_compile.py tries it on a small state
def test_a_bad_batch_leaves_no_trace(run_law):
    """A NaN pixel cannot come from uint8 data, so the step itself is poisoned."""
    law = run_law

    def poisoned(state, batch, key):
        state, metrics = law.experiment.train_step(state, batch, key)
        return state, metrics | {"loss": jnp.log(-jnp.abs(metrics["loss"]) - 1)}

    sick = dataclasses.replace(
        law, experiment=dataclasses.replace(law.experiment, train_step=poisoned)
    )
    compiled = sick.compiled(1)
    state, metrics = run_steps(sick, compiled, [1])
    assert np.isnan(metrics["loss"]).all()
    assert_same_bits(state, compiled.init(law.config.seed))


def test_samples_look_like_data_and_the_key_decides(run_law):
    if run_law.experiment.sample is None:
        pytest.skip("no sampler")
    state, spec = run_law.experiment.init(KEY), run_law.dataset.spec
    sample = jax.jit(run_law.experiment.sample, static_argnums=2)
    images = sample(state, KEY, 3)
    assert np.isfinite(images).all()
    if spec.dtype == "uint8":
        assert int(images.max()) < spec.num_levels
    assert not np.array_equal(images, sample(state, jax.random.key(8), 3))


@pytest.mark.parametrize("what", ["likelihood", "evaluate"])
def test_a_row_does_not_depend_on_other_rows(run_law, what):
    function = run_law.experiment.evaluate
    if what == "likelihood":
        likelihood = run_law.experiment.likelihood
        function = None if likelihood is None else likelihood.log_prob
    if function is None:
        pytest.skip(f"no {what}")
    state, batch = run_law.experiment.init(KEY), run_law.batch(4)
    run = jax.jit(function)
    values = named(run(state, batch, KEY))
    changed = {k: v.at[1:].set(v[0]) for k, v in batch.items()}
    for name, value in named(run(state, changed, KEY)).items():
        assert value.shape == (4,) and np.isfinite(values[name]).all()
        np.testing.assert_allclose(value[0], values[name][0], rtol=1e-4)


def named(values):
    return values if isinstance(values, dict) else {"value": values}


@pytest.mark.parametrize("name", all_experiments())
def test_learns_a_toy_problem(name, request):
    """Its own test file trains it until it meets a known truth."""
    path = ROOT / "tests" / "experiments" / f"test_{name}.py"
    assert path.exists(), f"write {path.relative_to(ROOT)}"
    collected = [item for item in request.session.items if item.path == path]
    if any(item.name.startswith("test_learns_") for item in collected):
        pytest.skip(f"{path.name} runs beside this")
    module = importlib.import_module(f"tests.experiments.test_{name}")
    learns = [f for n, f in vars(module).items() if n.startswith("test_learns_")]
    assert learns, (
        f"{path.name} needs a test_learns_...(): a toy problem, a distance to its "
        "known truth, a stated bound"
    )
    for learn in learns:
        if not inspect.signature(learn).parameters:
            learn()
