"""The benchmark of modes: its settings, and a run of a few steps."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import gan_modes as benchmark
from genjax import configs
from genjax.data.datasets import load

SMALL = ["--data=gaussians8", "--seeds=2", "--steps=3", "--width=8"]


@pytest.fixture(autouse=True)
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("method", ["PacGAN4", "WGAN-GP"])  # the unusual batches
def test_every_method_fits_its_batch(method):
    config = benchmark.setting(method, data="gaussians8")
    spec = load("gaussians8", num_train=10, num_eval=10).spec
    experiment = configs.make_experiment(config, spec)
    batch = {
        "image": jnp.zeros((config.training.batch_size, 2)),
        "label": jnp.zeros(config.training.batch_size, jnp.int32),
    }
    state = jax.eval_shape(experiment.init, jax.random.key(0))
    after, _ = jax.eval_shape(experiment.train_step, state, batch, jax.random.key(0))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_a_batch_counts_packs_and_critic_steps():
    of_one = benchmark.setting("GAN", data="gaussians8").training.batch_size
    changes = ["method.packing=4", "method.critic_steps=5"]
    config = benchmark.setting("GAN", data="gaussians8", changes=changes)
    assert config.training.batch_size == 20 * of_one


@pytest.mark.slow
def test_the_table_and_its_file(tmp_path, capsys):
    out = tmp_path / "modes.json"
    benchmark.main(
        [*SMALL, "--methods=GAN", f"--out={out}", "--set", "method.packing=2"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("| GAN | ") and lines[-2].endswith("| 6.3 ± 0.5 |")
    results = json.loads(out.read_text())
    of_exact = results["exact samples"]["scores"]
    assert of_exact["modes"] == [8.0, 8.0] and min(of_exact["high_quality"]) > 0.97
    drawn = results["GAN"]["scores"]
    assert all(len(values) == 2 for values in drawn.values())
    assert drawn["mode_kl"][0] != drawn["mode_kl"][1]  # the seeds differ
    config = results["GAN"]["config"]
    assert config["training"]["num_steps"] == config["optim"]["decay_steps"] == 3
    method = config["method"]
    assert (method["packing"], method["penalty"]["name"]) == (2, "none")
