"""The benchmark compares like with like: flax's layers make the same network."""

import importlib.util

import jax
import numpy as np
import pytest

from benchmarks import train_step as benchmark
from genjax import configs

INSTALLED = all(map(importlib.util.find_spec, ["torch", "diffusers"]))


@pytest.fixture(autouse=True)
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def work():
    config, spec = benchmark.setting("small")
    config.model.channels, config.model.channel_multipliers = 8, (1,)
    config.model.attention_resolutions = ()  # the middle has attention
    images = np.random.default_rng(0).integers(0, 256, (2, 4, *spec.shape), np.uint8)
    return config, spec, images


@pytest.mark.slow
def test_flax_layers_make_the_same_network(work):
    config, spec, images = work
    experiment, key = configs.make_experiment(config, spec), jax.random.key(0)
    shapes = jax.eval_shape(experiment.init, key)
    default_init = benchmark.with_flax_layers(experiment.init)
    assert shapes == jax.eval_shape(default_init, key)

    # random weights: init's zeros would hide the layers before the last
    draws = np.random.default_rng(1)
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = state._replace(
        params=jax.tree.map(
            lambda leaf: 0.3 * draws.standard_normal(leaf.shape, np.float32),
            shapes.params,
        )
    )

    programs, results = set(), []
    for change in (lambda step: step, benchmark.with_flax_layers):
        train_step = configs.make_experiment(config, spec).train_step
        traced = jax.jit(change(train_step)).trace(state, {"image": images[0]}, key)
        programs.add(str(traced.jaxpr))
        results.append(traced.lower().compile()(state, {"image": images[0]}, key)[1])
    assert len(programs) == 2  # the layers were changed, not compared with themselves
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        benchmark.ours,
        benchmark.flax,
        pytest.param(
            benchmark.diffusers,
            marks=pytest.mark.skipif(not INSTALLED, reason="needs torch, diffusers"),
        ),
    ],
)
def test_every_way_trains_all_parameters(work, make):
    config, spec, images = work
    shapes = jax.eval_shape(
        configs.make_experiment(config, spec).init, jax.random.key(0)
    )
    count, call = make(config, spec, images)
    assert count == sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    losses = [call() for _ in range(3)]
    assert np.isfinite(losses).all() and len(set(losses)) == 3  # weights move
