"""The benchmark of modes: its settings, and a run of a few steps."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import gan_modes as benchmark
from experiments.gan import make_experiment
from genjax.data.datasets import load

SMALL = ["--data=gaussians8", "--seeds=2", "--steps=3", "--width=8"]


@pytest.fixture(autouse=True)
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("method", benchmark.METHODS)
def test_every_method_fits_its_batch(method):
    config = benchmark.setting(method, data="gaussians8", steps=None, width=None)
    spec = load("gaussians8", num_train=10, num_eval=10).spec
    experiment = make_experiment(config, spec)
    batch = {"image": jnp.zeros((config.training.batch_size, 2))}
    state = jax.eval_shape(experiment.init, jax.random.key(0))
    after, _ = jax.eval_shape(experiment.train_step, state, batch, jax.random.key(0))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_a_seed_trains_the_same_alone_and_beside_others():
    config = benchmark.setting("GAN", data="gaussians8", steps=3, width=8)
    data = load("gaussians8", num_train=100, num_eval=10)
    experiment, points = make_experiment(config, data.spec), data.train.arrays["image"]
    keys = jax.random.split(jax.random.key(0), 3)
    together, _ = benchmark.train(experiment, jnp.asarray(points), config, keys)
    alone, _ = benchmark.train(experiment, jnp.asarray(points), config, keys[1:2])
    assert (np.asarray(together.step) == 3).all()
    leaves = [jax.tree.leaves(state.g_params) for state in (together, alone)]
    for of_all, of_one in zip(*leaves, strict=True):
        np.testing.assert_allclose(of_all[1], of_one[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(leaves[0][1][0], leaves[0][1][1])  # seeds differ


def test_the_table_and_its_file(tmp_path, capsys):
    out = tmp_path / "modes.json"
    benchmark.main([*SMALL, "--methods", "GAN", f"--out={out}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("| GAN | ") and lines[-2].endswith("| 6.3 ± 0.5 |")
    results = json.loads(out.read_text())
    of_exact = results["exact samples"]["scores"]
    assert of_exact["modes"] == [8.0, 8.0] and min(of_exact["high_quality"]) > 0.97
    assert all(len(values) == 2 for values in results["GAN"]["scores"].values())
    assert results["GAN"]["config"]["training"]["num_steps"] == 3
