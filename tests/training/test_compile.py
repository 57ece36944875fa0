"""The compiled step: against numpy arithmetic, and the guard's bookkeeping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from genjax.experiment import Experiment
from genjax.training.compile import (
    compile_experiment,
    evaluate_lazily,
    train_compiler_options,
)
from genjax.training.sharding import make_mesh

RATE = 0.25


def init(key):
    return {"w": jax.random.normal(key, (3,)), "n": jnp.zeros((), jnp.int32)}


def train_step(state, batch, key):
    """Gradient descent on mean (x . w)^2: linear algebra that numpy can repeat."""

    def loss(w):
        return jnp.mean((batch["image"] @ w) ** 2)

    value, gradient = jax.value_and_grad(loss)(state["w"])
    state = {"w": state["w"] - RATE * gradient, "n": state["n"] + 1}
    draw = jax.random.uniform(key)
    return state, {"loss": value, "draw": draw}


@pytest.fixture
def compiled(mesh):
    return compile_experiment(Experiment(init=init, train_step=train_step), mesh)


def feed(num_steps: int, bad: tuple[int, ...] = ()):
    x = np.random.default_rng(0).normal(size=(num_steps, 8, 3)).astype(np.float32)
    x[list(bad)] = np.nan
    return {"image": jnp.asarray(x)}


def by_numpy(w, x):
    for batch in np.asarray(x, np.float64):
        w = w - RATE * 2 / len(batch) * batch.T @ (batch @ w)
    return w


@pytest.mark.parametrize("num_steps", [1, 5])
def test_steps_are_gradient_descent(compiled, num_steps):
    state, data = compiled.init(0), feed(num_steps)
    wanted = by_numpy(np.asarray(state["w"], np.float64), data["image"])
    state, _, metrics, status = compiled.run(
        state, compiled.healthy(), {}, data, 0, seed=0
    )
    np.testing.assert_allclose(state["w"], wanted, rtol=1e-5)
    assert metrics["loss"].shape == (num_steps,) and int(state["n"]) == num_steps
    assert (int(status.stop), int(status.skipped), int(status.first_bad)) == (0, 0, -1)


def test_a_non_finite_step_changes_nothing(compiled):
    """Steps 2, 4 and 5 are bad: as if their batches had never been."""
    data = feed(6, bad=(2, 4, 5))
    state = compiled.init(0)
    good = np.asarray(data["image"])[[0, 1, 3]]
    wanted = by_numpy(np.asarray(state["w"], np.float64), good)
    state, health, metrics, status = compiled.run(
        state, compiled.healthy(), {}, data, 10, seed=0
    )
    np.testing.assert_allclose(state["w"], wanted, rtol=1e-5)
    assert int(state["n"]) == 3
    assert np.isfinite(metrics["loss"]).tolist() == [True, True, False, True] + 2 * [
        False
    ]
    assert int(status.skipped) == 3 and int(status.streak) == 2
    assert int(status.first_bad) == 14
    _, health, _, status = compiled.run(state, health, {}, feed(1), 16, seed=0)
    assert (int(status.skipped), int(status.streak)) == (3, 0)


def test_the_key_of_a_step_depends_on_seed_and_step_alone(compiled):
    def draws(first, num_steps, seed):
        run = compiled.run(
            compiled.init(0), compiled.healthy(), {}, feed(num_steps), first, seed=seed
        )
        return np.asarray(run[2]["draw"])

    whole = draws(0, 4, seed=1)
    assert len(set(whole.tolist())) == 4
    np.testing.assert_array_equal(draws(2, 2, seed=1), whole[2:])
    assert not np.intersect1d(draws(0, 4, seed=2), whole).size


def test_the_wish_to_stop_comes_back(compiled):
    for stop in (False, True):
        run = compiled.run(
            compiled.init(0), compiled.healthy(), {}, feed(2), 0, seed=0, stop=stop
        )
        assert int(run[3].stop) == stop


def test_convolutions_on_a_cpu_are_not_looped(mesh):
    """The same results, from one-step programs only: XLA:CPU is slow in loops."""

    def conv_step(state, batch, key):
        def loss(w):
            y = jax.lax.conv(batch["image"], w, (1, 1), "SAME")
            return jnp.mean(y**2)

        value, gradient = jax.value_and_grad(loss)(state)
        return state - gradient, {"loss": value}

    def conv_init(key):
        return jax.random.normal(key, (2, 2, 3, 3))

    compiled = compile_experiment(
        Experiment(init=conv_init, train_step=conv_step), mesh
    )
    images = jax.random.normal(jax.random.key(1), (3, 8, 2, 4, 4))
    state, health, metrics, _ = compiled.run(
        compiled.init(0), compiled.healthy(), {}, {"image": images}, 0, seed=0
    )
    assert metrics["loss"].shape == (3,) and int(health.skipped) == 0
    assert set(compiled._executables) == {1}
    again, health = compiled.init(0), compiled.healthy()
    for i in range(3):
        again, health, _, _ = compiled.run(
            again, health, {}, {"image": images[i : i + 1]}, i, seed=0
        )
    np.testing.assert_array_equal(again, state)


def test_lazy_evaluation_gives_the_outputs_without_the_dead_part():
    ran = []

    def init(key):
        dead = jnp.ones((4,)) * 2
        jax.pure_callback(lambda x: ran.append(x), None, dead)
        return {"w": jax.random.normal(key, (4,)), "flag": True, "b": jnp.zeros(2)}

    key = jax.random.key(3)
    lazy = evaluate_lazily(init, key)
    np.testing.assert_array_equal(lazy["w"], jax.random.normal(key, (4,)))
    assert bool(lazy["flag"]) and lazy["b"].shape == (2,)
    assert not ran


def test_options_are_harmless_where_unknown(monkeypatch):
    train_compiler_options.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert train_compiler_options() is None
    train_compiler_options.cache_clear()


def test_sharding_rules_reach_the_state():
    mesh = make_mesh(fsdp=2)
    rules = (("w", PartitionSpec("data")),)

    def wide(key):
        return {"w": jnp.ones((4,)), "v": jnp.ones((6, 4096))}

    experiment = Experiment(
        init=wide,
        train_step=lambda state, batch, key: (state, {"loss": jnp.float32(0)}),
        sharding_rules=rules,
    )
    state = compile_experiment(experiment, mesh).init(0)
    assert state["w"].sharding.spec == PartitionSpec("data")
    assert state["v"].sharding.spec == PartitionSpec(None, "fsdp")
    assert {s.data.shape for s in state["v"].addressable_shards} == {(6, 2048)}
