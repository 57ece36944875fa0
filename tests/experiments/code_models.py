"""What the tests of models with a code share: the digits, building and training."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from genjax import configs
from genjax.experiment import Experiment
from genjax.typing import DataSpec
from tests import specs
from tests.specs import of_points

KEY = jax.random.key(0)
DIGITS = dataclasses.replace(specs.DIGITS, num_train=400, num_eval=447)
POINTS = of_points("moons", 2)


def build(name: str, spec: DataSpec = DIGITS, **changes: Any) -> Experiment:
    """The experiment of a config at tiny, with a__b = value for config.a.b = value."""
    return build_whole(f"{name}:tiny", spec, **changes)


def build_whole(name: str, spec: DataSpec = DIGITS, **changes: Any) -> Experiment:
    """Of a config as it is, but for the changes."""
    config = configs.load(f"configs/{name.replace(':', '.py:')}")
    flat = {key.replace("__", "."): value for key, value in changes.items()}
    with config.unlocked():
        config.update_from_flattened_dict(flat)
    return configs.make_experiment(config, spec)


@functools.cache
def digits() -> jax.Array:
    """All 1,797, levels 0 ... 16."""
    return jnp.asarray(load_digits().images[..., None], jnp.uint8)


def batch_of(images: Any) -> dict[str, jax.Array]:
    images = jnp.asarray(images, jnp.uint8)
    return {"image": images, "index": jnp.arange(len(images))}


def unit(images: Any) -> np.ndarray:
    """Rows in [0, 1], for other libraries."""
    return np.asarray(images).reshape(len(images), -1) / 16.0


def train(
    experiment: Experiment, images: Any, num_steps: int, *, batch_size: int = 100
) -> tuple[Any, Any]:
    """(state, metrics of each step) on random rows of the images."""

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.randint(key, (batch_size,), 0, len(images))
        return experiment.train_step(state, {"image": images[rows], "index": rows}, key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(num_steps)))
    return run(experiment.init(KEY))
