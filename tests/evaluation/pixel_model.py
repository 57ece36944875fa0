"""A model whose every score is known: independent categorical pixels, fitted exactly.

Run as a program it is one of two processes that evaluate together, and prints the
result: `python pixel_model.py <port> <process>`.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax.evaluation.runner import Evaluator
from genjax.evaluation.summary import summarize
from genjax.experiment import Experiment, LogLikelihood
from tests.specs import of_images

LEVELS = 4
SPEC = of_images("pixels", (2, 2, 1), num_levels=LEVELS, num_eval=10)
BATCH = 4


def images(count, seed):
    drawn = np.random.default_rng(seed).binomial(LEVELS - 1, 0.3, (count, 2, 2, 1))
    return drawn.astype(np.uint8)


TRAIN, TEST = images(64, seed=0), images(10, seed=1)


def fitted():
    """{"log_probs": (4 pixels, 4 levels)}, each count with 0.1 more."""
    counts = (TRAIN.reshape(64, 4)[..., None] == np.arange(LEVELS)).sum(axis=0) + 0.1
    return {"log_probs": jnp.log(counts / counts.sum(axis=1, keepdims=True))}


def sample(state, key, num, label=None):
    levels = jax.random.categorical(key, state["log_probs"], shape=(num, 4))
    return levels.reshape(num, 2, 2, 1).astype(jnp.uint8)


def log_prob(state, batch, key):
    levels = batch["image"].reshape(-1, 4, 1).astype(jnp.int32)
    table = jnp.broadcast_to(state["log_probs"], (len(levels), 4, LEVELS))
    return jnp.take_along_axis(table, levels, axis=2).sum(axis=(1, 2))


def evaluate(state, batch, key):
    return {
        "row": batch["index"].astype(jnp.float32),
        "noise": jax.random.uniform(key, batch["index"].shape),
    }


EXPERIMENT = Experiment(
    init=lambda key: fitted(),
    train_step=lambda state, batch, key: (state, {}),
    sample=sample,
    likelihood=LogLikelihood(log_prob=log_prob, kind="exact", note="closed form"),
    evaluate=evaluate,
)


def batches(put=jnp.asarray):
    """The test set in padded batches of 4: 4, 4 and 2 with 2 repeats of row 0."""
    for start in range(0, len(TEST), BATCH):
        rows = np.arange(start, start + BATCH)
        mask = rows < len(TEST)
        rows = np.where(mask, rows, 0)
        batch = {"image": TEST[rows], "index": rows.astype(np.int32)}
        yield jax.tree.map(put, (batch, mask))


def evaluator(experiment=EXPERIMENT, **changes):
    options = dict(
        spec=SPEC,
        batches=batches,
        reference=summarize([TRAIN], name="train", spec=SPEC),
        key=jax.random.key(5),
        seed=5,
        num_samples=50,
        sample_chunk=16,
    )
    return Evaluator(experiment, **(options | changes))


def on_mesh(mesh):
    """(evaluator, state) with batches and state spread over all devices."""
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

    def put(value):
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, split, lambda i: value[i])

    state = jax.tree.map(put, fitted())
    return evaluator(mesh=mesh, batches=lambda: batches(put)), state


def main(port: str, process: str) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(
        f"localhost:{port}", 2, int(process), initialization_timeout=60
    )
    devices = np.array(jax.devices()).reshape(-1, 1)
    mesh = Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    together, state = on_mesh(mesh)
    print(json.dumps(together(state)))


if __name__ == "__main__":
    main(*sys.argv[1:])
