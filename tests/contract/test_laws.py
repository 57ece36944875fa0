"""What every experiment must keep, tried on each file in experiments/."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.train.checkpoint import Checkpointer
from genjax.typing import UserError
from tests.contract.cases import ROOT, Case, all_experiments, bundled_configs, case

CONFIGS = bundled_configs()
# a config of each experiment, on images where there is one: for laws that take long
ONE_EACH = {
    case(name).config.experiment: name
    for name in sorted(CONFIGS[::-1], key=lambda name: "digits" in name)
}.values()
KEY = jax.random.key(7)


@pytest.fixture(scope="module", params=CONFIGS)
def law(request) -> Iterator[Case]:
    """Config by config: all their programs at once are too many for a process."""
    yield case(request.param)
    Case.compiled.cache_clear()
    jax.clear_caches()


@pytest.fixture
def experiment_law(law) -> Case:
    if law.name not in ONE_EACH:
        pytest.skip("takes long: tried on one config of each experiment")
    return law


def run_steps(law: Case, compiled, calls: list[int], state=None, first: int = 0):
    """Trains for sum(calls) steps, so many in each call."""
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
    covered = {case(name).config.experiment for name in CONFIGS}
    assert covered == set(all_experiments())


def test_shapes_are_stable(law):
    batch = jax.eval_shape(lambda: law.batch())
    state = jax.eval_shape(law.experiment.init, KEY)
    after, metrics = jax.eval_shape(law.experiment.train_step, state, batch, KEY)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    assert all(m.shape == () and m.dtype == jnp.float32 for m in metrics.values())


RESUME = """
import sys
sys.path.insert(0, {root!r})
import tests.conftest
from tests.contract.cases import case
from tests.contract.test_laws import run_steps
from genjax.train.checkpoint import Checkpointer
law = case({name!r})
compiled = law.compiled(2)
with Checkpointer({folder!r}) as checkpointer:
    restored = checkpointer.restore(compiled.abstract_state)
    state, _ = run_steps(law, compiled, [1, 1], restored.state, restored.step)
    checkpointer.save(restored.step + 2, state)
"""


def test_resume_in_a_new_process_is_bit_for_bit(experiment_law, tmp_path):
    law, compiled = experiment_law, experiment_law.compiled(2)
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


def test_steps_in_one_call_are_steps_in_many(law):
    compiled = law.compiled(2)
    one, one_metrics = run_steps(law, compiled, [3])
    many, many_metrics = run_steps(law, compiled, [1, 1, 1])
    assert_close(one, many, law)
    for name, values in one_metrics.items():
        np.testing.assert_allclose(values, many_metrics[name], rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(values[0], many_metrics[name][0], rtol=1e-5)


def test_many_devices_compute_what_one_does(law):
    check_devices(law, fsdp=1)


def test_split_parameters_compute_what_whole_ones_do(experiment_law):
    check_devices(experiment_law, fsdp=2)


def check_devices(law: Case, fsdp: int) -> None:
    one, one_metrics = run_steps(law, law.compiled(1), [1, 1])
    four, four_metrics = run_steps(law, law.compiled(4, fsdp), [1, 1])
    assert_close(one, four, law)
    for name, values in one_metrics.items():
        # atol: a metric that is 0 but for rounding
        np.testing.assert_allclose(
            values[0], four_metrics[name][0], rtol=2e-5, atol=1e-6
        )


def assert_close(a, b, law):
    """Adam turns a rounding error in a small gradient into a part of one step."""
    tolerance = 0.2 * law.config.optim.learning_rate * 4
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(
            np.asarray(x), np.asarray(y), rtol=1e-3, atol=max(tolerance, 1e-5)
        )


def test_metrics_are_finite(law):
    _, metrics = run_steps(law, law.compiled(1), [1, 1])
    assert metrics and all(np.isfinite(v).all() for v in metrics.values())


def test_a_bad_batch_leaves_no_trace(law):
    """A NaN pixel cannot come from uint8 data, so the step itself is poisoned."""

    def poisoned(state, batch, key):
        state, metrics = law.experiment.train_step(state, batch, key)
        return state, metrics | {"loss": jnp.log(-jnp.abs(metrics["loss"]) - 1)}

    sick = dataclasses.replace(
        law, experiment=dataclasses.replace(law.experiment, train_step=poisoned)
    )
    compiled = sick.compiled(1)
    state, metrics = run_steps(sick, compiled, [2])
    assert np.isnan(metrics["loss"]).all()
    assert_same_bits(state, compiled.init(law.config.seed))


def test_samples_look_like_data(law):
    if law.experiment.sample is None:
        pytest.skip("no sampler")
    state = law.experiment.init(KEY)
    spec = law.dataset.spec
    sample = jax.jit(law.experiment.sample, static_argnums=2)
    images = sample(state, KEY, 3)
    assert images.shape == (3, *spec.shape)
    assert images.dtype == law.batch(2)["image"].dtype
    if spec.dtype == "uint8":
        assert int(images.max()) < spec.num_levels
    other = sample(state, jax.random.key(8), 3)
    assert not np.array_equal(images, other), "the key decides"


def test_a_label_is_taken_or_refused_in_a_sentence(law):
    """As `--mode=sample --labels=0,0` gives it."""
    if law.experiment.sample is None:
        pytest.skip("no sampler")
    state = jax.eval_shape(law.experiment.init, KEY)
    labels = jnp.zeros(2, jnp.int32)
    try:
        jax.eval_shape(lambda s: law.experiment.sample(s, KEY, 2, labels), state)
    except UserError as error:
        assert "without labels" in str(error)


@pytest.mark.parametrize("field", ["log_likelihood", "evaluate"])
def test_a_row_does_not_depend_on_other_rows(law, field):
    function = getattr(law.experiment, field)
    if function is None:
        pytest.skip(f"no {field}")
    state = law.experiment.init(KEY)
    batch = law.batch(4)
    values = per_example(function, state, batch)
    changed = {k: v.at[1:].set(v[0]) for k, v in batch.items()}
    for name, value in per_example(function, state, changed).items():
        assert value.shape == (4,) and np.isfinite(values[name]).all()
        np.testing.assert_allclose(value[0], values[name][0], rtol=1e-4)


def per_example(function, state, batch):
    values = jax.jit(function)(state, batch, KEY)
    return values if isinstance(values, dict) else {"value": values}


@pytest.mark.parametrize("name", all_experiments())
def test_learns_a_toy_problem(name):
    """Each experiment's own test file trains it until it meets a known truth."""
    path = ROOT / "tests" / "experiments" / f"test_{name}.py"
    assert path.exists(), f"write {path.relative_to(ROOT)}"
    assert "\ndef test_learns_" in path.read_text(), (
        f"{path.name} needs a test_learns_...: a toy problem, a distance to its known "
        "truth, a stated bound"
    )
