"""Every experiment as the laws see it: built at its tiny config on bundled data."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from genjax import configs
from genjax.data import datasets, pipeline, toy
from genjax.experiment import Experiment
from genjax.training.compile import CompiledExperiment, compile_experiment
from genjax.training.sharding import batch_sharding, make_mesh
from genjax.typing import UserError

ROOT = Path(__file__).parents[2]
BUNDLED = {"digits", *toy.NAMES}


def is_bundled(data: Any) -> bool:
    """Whether the data of a config need no download."""
    if data.name != "domains":
        return data.name in BUNDLED
    return {data.a.name, data.b.name} - {None} <= BUNDLED


def all_experiments() -> list[str]:
    return sorted(p.stem for p in (ROOT / "experiments").glob("[!_]*.py"))


def all_configs() -> list[str]:
    return sorted(p.stem for p in (ROOT / "configs").glob("[!_]*.py"))


def load(name: str, variant: str = "") -> Any:
    location = f"{ROOT / 'configs' / name}.py"
    return configs.load(f"{location}:{variant}" if variant else location)


@functools.cache
def bundled_configs() -> dict[str, str]:
    """{config on bundled data: its experiment}.

    One that cannot be opened, say a fork's, is among them: its own laws fail then, and
    those of the others are tried.
    """
    found = {}
    for name in all_configs():
        try:
            config = load(name, "tiny")
        except UserError:
            found[name] = name
        else:
            if is_bundled(config.data):
                found[name] = config.experiment
    return found


def one_each() -> list[str]:
    """A config of each experiment: on points, which are quick, where there is one."""
    chosen = {}
    for name in sorted(bundled_configs(), key=lambda n: ("toy2d" not in n, len(n), n)):
        chosen.setdefault(bundled_configs()[name], name)
    return sorted(chosen.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    name: str
    config: Any
    dataset: datasets.Dataset
    experiment: Experiment

    def batch(self, size: int | None = None) -> dict[str, jax.Array]:
        rows = np.arange(size or self.config.training.batch_size)
        return {k: jnp.asarray(v) for k, v in self.dataset.train.read(rows).items()}

    @functools.cache  # noqa: B019 (the cases live as long as the tests)
    def compiled(self, num_devices: int, fsdp: int = 1) -> CompiledExperiment:
        """One for each layout, so that the laws share their compilations."""
        mesh = submesh(num_devices, fsdp)
        return compile_experiment(self.experiment, mesh, gather=pipeline.gather)

    def feed(self, compiled: CompiledExperiment) -> pipeline.TrainFeed:
        return pipeline.TrainFeed(
            self.dataset.train,
            seed=self.config.seed,
            batch_size=self.config.training.batch_size,
            sharding=batch_sharding(compiled.mesh),
        )


def submesh(num_devices: int, fsdp: int = 1) -> Mesh:
    """The first devices only; the product uses them all."""
    return make_mesh(fsdp, devices=jax.devices()[:num_devices])


@functools.cache
def case(name: str) -> Case:
    config = load(name, "tiny")
    settings, _ = configs.check(config.to_dict(), ROOT / "configs" / f"{name}.py")
    dataset = datasets.load(**settings.data.options())
    experiment = configs.make_experiment(
        config, dataset.spec, ROOT / "configs" / f"{name}.py"
    )
    return Case(name, config, dataset, experiment)
