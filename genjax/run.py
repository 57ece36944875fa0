"""A run: a config, and the folder with what was trained by it.

    import genjax

    run = genjax.load("runs/ddpm_digits")
    images = run.sample(16, seed=0, sampler={"name": "dpmpp_2m", "num_steps": 20})

What a notebook gets is what every mode of the command line gets.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from genjax import configs
from genjax.data import datasets
from genjax.data.pipeline import eval_batches, gather
from genjax.data.split import Dataset
from genjax.experiment import Experiment
from genjax.train import compile, distributed
from genjax.train import workdir as folder
from genjax.train.checkpoint import Checkpointer
from genjax.train.sharding import batch_sharding, make_mesh
from genjax.typing import DataSpec, UserError

Weights = Literal["ema", "raw"]


class Run:
    """All parts are made when they are first asked for: data last.

    Attributes: workdir, config (completed), settings (its common sections, checked).
    """

    def __init__(
        self,
        workdir: Path,
        config: ConfigDict,
        *,
        beside: Path | None = None,
        spec: DataSpec | None = None,
        step: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        override_config: bool = False,
    ):
        """Of a checked config.

        beside: of `configs.find_experiment`. spec: of the data, where it is known
        before they are loaded. step: of the checkpoint; None: the newest. stop: this
        process's wish to stop. override_config: go on with other data.
        """
        self.workdir, self.config, self.beside = workdir, config, beside
        self.settings, _ = configs.check(config.to_dict(), beside)
        self._spec, self._step, self._stop = spec, step, stop
        self._override = override_config

    def stop(self) -> bool:
        """Whether any process was asked to stop; to be asked by all together."""
        return distributed.any_process(self._stop())

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data that the config names."""
        return datasets.load(**self.settings.data.options())

    @property
    def spec(self) -> DataSpec:
        """What an experiment knows of the data; as in training, if it was trained."""
        return self._spec or self.dataset.spec

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The model."""
        return configs.make_experiment(self.config, self.spec, self.beside)

    @functools.cached_property
    def compiled(self) -> compile.CompiledExperiment:
        """The model, laid out on the devices."""
        mesh = make_mesh(self.settings.mesh.fsdp)
        return compile.compile_experiment(self.experiment, mesh, gather=gather)

    @functools.cached_property
    def trained(self) -> tuple[Any, int]:
        """(state, step) of the checkpoint. Raises UserError if there is none."""
        with self.open_checkpoints() as checkpointer:
            restored = self.restore(checkpointer, step=self._step)
        if restored is None:
            raise UserError(f"{self.workdir} holds no checkpoint yet; train first")
        return restored

    @property
    def step(self) -> int:
        """That of the checkpoint."""
        return self.trained[1]

    def state(self, weights: Weights | None = None) -> tuple[Any, Weights]:
        """(the state to use, whose weights it holds); None: the average, if any.

        Raises UserError for the average of a model that keeps none.
        """
        state, raw = self.trained[0], self.experiment.raw_weights
        if raw is None:
            if weights == "ema":
                raise UserError(
                    f"experiments/{self.config.experiment}.py keeps no moving average "
                    "of its weights with this config: leave --weights=ema out"
                )
            return state, "raw"
        return (raw(state), "raw") if weights == "raw" else (state, "ema")

    def with_config(self, changes: Mapping[str, Any]) -> "Run":
        """The same run with some fields of its config changed, nested or as "a.b"."""
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            for name, value in configs.flatten(changes).items():
                config.update_from_flattened_dict({name: value})
        changed = Run(
            self.workdir,
            configs.complete(config.to_dict(), self.beside),
            beside=self.beside,
            spec=self._spec,
            step=self._step,
            stop=self._stop,
            override_config=self._override,
        )
        for part in ("dataset", "trained"):  # these do not depend on what may change
            if part in self.__dict__:
                changed.__dict__[part] = self.__dict__[part]
        return changed

    # --- data -------------------------------------------------------------------------

    def test_batches(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """The test split, or its first evaluation.limit examples: (batch, mask)."""
        return eval_batches(
            self.dataset.eval,
            batch_size=self.settings.evaluation.batch_size,
            sharding=batch_sharding(self.compiled.mesh),
            limit=self.settings.evaluation.limit,
        )

    @property
    def num_test(self) -> int:
        """How many examples those are."""
        num, limit = len(self.dataset.eval), self.settings.evaluation.limit
        return num if limit is None else min(num, limit)

    # --- checkpoints ------------------------------------------------------------------

    @contextlib.contextmanager
    def open_checkpoints(self) -> Iterator[Checkpointer]:
        """The run's checkpoints, which carry what tells one run from another."""
        training = self.settings.training
        with Checkpointer(
            self.workdir / "checkpoints",
            keep_last=training.keep_last,
            keep_every=training.keep_every,
            best_metric=training.keep_best_by,
            meta={
                "config_hash": folder.config_hash(self.config.to_dict()),
                "data": self.dataset.fingerprint,
            },
        ) as checkpointer:
            yield checkpointer

    def restore(
        self, checkpointer: Checkpointer, *, step: int | None
    ) -> tuple[Any, int] | None:
        """(state, step) of the newest intact checkpoint, or of `step`, or None.

        Raises UserError if it was trained on other data.
        """
        restored = checkpointer.restore(self.compiled.abstract_state, step)
        if restored is None:
            return None
        stored, given = restored.meta.get("data"), self.dataset.fingerprint
        if stored != given and not self._override:
            raise UserError(
                f"the checkpoints in {self.workdir} were trained on other data "
                f"(fingerprint {stored}, here {given}); give the same data, another "
                "--workdir, or --override_config"
            )
        return restored.state, restored.step

    def initial_state(self) -> Any:
        """The state before step 0, with the pretrained parts that a model names."""
        state = self.compiled.init(self.settings.seed)
        if self.experiment.warm_start is None:
            return state
        state = self.experiment.warm_start(state)
        return compile.place(state, self.compiled.abstract_state)
