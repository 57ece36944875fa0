"""Every config opens without a device; at tiny, every one trains and samples."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from genjax import commandline
from genjax.data import datasets
from genjax.data.pipeline import TrainFeed, gather
from genjax.train.compile import compile_experiment
from genjax.train.sharding import batch_sharding
from genjax.typing import UserError
from tests.contract.cases import bundled_configs, submesh

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*.py"))
OFFLINE_DATA = ROOT.parent / "shared" / "data" / "tensorflow_datasets"


def load(name: str, variant: str = ""):
    return commandline.load_config(f"{ROOT / 'configs' / name}.py{variant}")


@pytest.mark.parametrize("variant", ["", ":tiny"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_whole(name, variant):
    config = load(name, variant)
    commandline.check_config(config)
    assert name.startswith(config.experiment)
    docstring = (ROOT / "configs" / f"{name}.py").read_text().split('"""')[1]
    assert f"python launch.py --config=configs/{name}.py" in docstring


@pytest.mark.parametrize("name", CONFIGS)
def test_tiny_has_the_fields_of_the_whole(name):
    whole, tiny = (commandline.flatten(load(name, v)) for v in ("", ":tiny"))
    assert whole.keys() == tiny.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_of_one_experiment_share_their_fields(name):
    """All but the network's, which are those of its kind."""

    def fields(name: str) -> set[str]:
        return {f for f in commandline.flatten(load(name)) if f[:6] != "model."}

    experiment = load(name).experiment
    family = [other for other in CONFIGS if load(other).experiment == experiment]
    assert fields(name) == set().union(*map(fields, family))


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(bundled_configs())))
def test_tiny_trains_and_samples_on_real_data(name, tmp_path):
    """Those on bundled data are tried by the laws."""
    import launch

    config = load(name, ":tiny")
    folder = os.environ.get("TFDS_DATA_DIR", str(OFFLINE_DATA))
    try:
        dataset = datasets.load(
            **{**config.data, "dir": folder}, cache_dir=str(tmp_path), download=False
        )
    except UserError as error:
        pytest.skip(f"{config.data.name} is not on this machine: {error}")
    experiment = launch.find_experiment(config.experiment)(config, dataset.spec)
    compiled = compile_experiment(experiment, submesh(1), gather=gather)
    feed = TrainFeed(
        dataset.train,
        seed=0,
        batch_size=config.training.batch_size,
        sharding=batch_sharding(compiled.mesh),
    )
    state, _, metrics, _ = compiled.run(
        compiled.init(0), compiled.healthy(), feed.resident, feed.get(0, 2), 0, seed=0
    )
    assert all(np.isfinite(values).all() for values in metrics.values())
    if experiment.sample is None:
        return
    samples = jax.jit(experiment.sample, static_argnums=2)(state, jax.random.key(0), 2)
    assert samples.shape == (2, *dataset.spec.shape) and samples.dtype == np.uint8
