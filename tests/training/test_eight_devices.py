"""The switches for large models on eight virtual devices, 2 each way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import json, sys
sys.path.insert(0, {root!r})
import jax, numpy as np
from genjax import configs
from genjax.data import datasets, pipeline
from genjax.training.compile import compile_experiment
from genjax.training.sharding import batch_sharding, make_mesh

assert jax.device_count() == 8
dataset = datasets.load(name="digits")

def train(num_devices, fsdp, tensor, **changes):
    changes = {{k.replace("__", "."): v for k, v in changes.items()}}
    model = dict(width=64, depth=2, num_heads=2, num_classes=None)
    stated = configs.load("flow_matching_digits_dit:tiny").to_dict()
    stated = configs.merged(stated, dict(model=model), configs.nested(changes))
    config = configs.complete(stated)
    experiment = configs.make_experiment(config, dataset.spec)
    mesh = make_mesh(fsdp, tensor, devices=jax.devices()[:num_devices])
    compiled = compile_experiment(experiment, mesh, gather=pipeline.gather)
    rows = batch_sharding(mesh)
    feed = pipeline.TrainFeed(dataset.train, seed=0, batch_size=8, sharding=rows)
    state, health, metrics = compiled.init(0), compiled.healthy(), []
    for i in range(2):
        state, health, of_step, _ = compiled.run(
            state, health, feed.resident, feed.get(i, 1), i, seed=0
        )
        metrics.append({{k: float(v[0]) for k, v in of_step.items()}})
    shapes = {{}}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        shapes[name] = leaf.addressable_shards[0].data.shape, leaf.shape
    return metrics, shapes

print(json.dumps([train(*how, **more) for how, more in {runs!r}]))
"""


def trained(*runs):
    code = CODE.format(root=str(ROOT), runs=runs)
    flags = "--xla_force_host_platform_device_count=8 "
    flags += "--xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check_same(a, b, rtol=2e-5):
    for x, y in zip(a, b, strict=True):
        for name in x:
            np.testing.assert_allclose(x[name], y[name], rtol=rtol, err_msg=name)


def test_layers_split_over_devices_train_as_on_one():
    (one, _), (many, shapes) = trained(
        ((1, 1, 1), {}), ((8, 2, 2), {"model__remat": True})
    )
    check_same(one, many)
    whole = shapes["params/block0/mlp0/kernel"][1]
    for where in ("params", "ema_params", "opt_state/1/0/mu"):
        share, shape = shapes[f"{where}/block0/mlp0/kernel"]
        assert shape == whole == [64, 256] and share == [32, 128]
        share, _ = shapes[f"{where}/block1/out/kernel"]
        assert share == [32, 64]
        assert shapes[f"{where}/in/bias"][0] == [64]


@pytest.mark.slow
def test_a_loop_over_blocks_and_parts_of_a_batch_do_too():
    loop = {"model__scan": True}
    parts = {"model__dropout": 0.0, "inputs__label_dropout": 0.0}
    (one, _), (many, shapes), (half, _) = trained(
        ((1, 1, 1), loop),
        ((8, 2, 2), loop),
        ((8, 1, 2), {**loop, **parts, "optim__accumulation": 2}),
    )
    check_same(one, many)
    share, shape = shapes["params/blocks/query/kernel"]
    assert shape == [2, 64, 64] and share == [2, 64, 32]
    assert np.isfinite([v for step in half for v in step.values()]).all()
