"""A run: a config, and the folder that holds what was trained with it.

    import genjax

    run = genjax.load("runs/ddpm_digits")
    images = run.sample(16, seed=0, sampler={"name": "dpmpp_2m", "num_steps": 20})

What a notebook gets is what every mode of the command line gets.
"""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genjax import configs, sources
from genjax.choices import one_of
from genjax.data import datasets
from genjax.data.pipeline import eval_batches, gather
from genjax.data.split import Dataset, split_from_arrays
from genjax.diffusion.solvers import SOLVERS
from genjax.evaluation import extractors, score
from genjax.evaluation.coder import Coder
from genjax.evaluation.neighbors import spread
from genjax.evaluation.runner import Evaluator, Result
from genjax.evaluation.sampling import compile_sample, generate
from genjax.experiment import Experiment
from genjax.export import folder as export
from genjax.export import parts
from genjax.export.folder import Export
from genjax.screen import Say, say, silent
from genjax.streams import Stream, stream_key
from genjax.training import compile, distributed
from genjax.training import workdir as folder
from genjax.training.checkpoint import Checkpointer, Restored
from genjax.training.sharding import batch_sharding, make_mesh, replicated
from genjax.typing import Array, DataSpec, UserError

Weights = Literal["ema", "raw"]
Labels = Sequence[int] | np.ndarray
Batches = Iterator[tuple[dict[str, Any], Any]]

PARTS = {
    "sample": "a sampler",
    "likelihood": "a log-likelihood",
    "code": "a code",
    "code.encode": "an encoder",
    "code.prior": "a prior of its code",
    "diffusion": "a path from noise to data",
    "discriminate": "a discriminator",
    "translate": "a translation between two domains",
}
"""Parts of an `Experiment`, in words."""


def load(
    workdir: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None = None,
    step: int | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    say: Say = silent,
) -> "Run":
    """A trained run, with the config that it was trained with.

    workdir: the folder of a run or of an exported model (`--mode=export`), or
        "trained/<name>", a model that comes with the package.
    overrides: fields of the config to change, nested or as "sampler.num_steps"; only
        those that do not alter what was learnt (`genjax.training.workdir.FREE_FIELDS`).
    step: of the checkpoint; None: the newest. say: is told what takes its time.
    Raises UserError if there is no such run.
    """
    place, workdir = export.find(workdir)
    check_trained(place)
    stored, exported = folder.read_run(place), export.read(place)
    changes = configs.nested(configs.flatten(overrides or {}))
    before = configs.complete(stored.config, beside=stored.config_file).to_dict()
    config = configs.complete(
        configs.merged(before, changes), beside=stored.config_file
    )
    configs.check_used(config, configs.flatten(overrides or {}), stored.config_file)
    folder.check_same_config(place, config.to_dict(), stored=before, to_train=False)
    return Run(
        workdir,
        config,
        beside=stored.config_file,
        spec=stored.spec,
        step=step,
        stop=stop,
        say=say,
        exported=exported,
    )


def check_trained(place: Path) -> None:
    """Raises UserError for a folder without checkpoints or exported weights."""
    if (place / "checkpoints").is_dir() or (place / export.WEIGHTS).is_file():
        return
    hint = ""
    if place.name in export.shipped():
        hint = f"; --workdir=trained/{place.name} comes with genjax"
    raise UserError(
        f"there is no trained run in {place}; train first, or name another --workdir"
        + hint
    )


def has(experiment: Experiment, part: str) -> bool:
    """Whether the experiment has a part, like "code" or "code.encode"."""
    found: Any = experiment
    for name in part.split("."):
        found = getattr(found, name, None)
    return found is not None


class Run:
    """A config and its run folder. Each part is made when it is first needed.

    Attributes: workdir, config (completed), settings (its common sections, checked),
    beside, override_config, say.
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
        say: Say = silent,
        override_config: bool = False,
        exported: Export | None = None,
    ):
        """A run of a checked config.

        beside: of `configs.find_experiment`. spec: of the data, where it is known
        before they are loaded. step: of the checkpoint; None: the newest. stop:
        whether this process was asked to stop. say: is told what takes its time, in
        the first process. override_config: go on with other data. exported: weights to
        use in the place of the folder's checkpoints.
        Raises UserError for a step that an exported model does not hold.
        """
        self.workdir, self.config, self.beside = workdir, config, beside
        self.settings, _ = configs.check(config.to_dict(), beside)
        self._spec, self._step, self._stop = spec, step, stop
        self.override_config, self.exported = override_config, exported
        self._tell = say
        self._trained_on: str | None = None  # the checkpoint's data, once it is read
        self._rows_taken: Mapping[str, int] | None = None  # the checkpoint's, likewise
        if exported is not None:
            self._trained_on = exported.stored.fingerprint
            if step not in (None, exported.step):
                raise UserError(
                    f"{exported.folder} holds the weights of step {exported.step} "
                    f"alone, not of {step}: leave step out"
                )
        self._turned: dict[str, Run] = {}
        self._evaluators: dict[tuple, Evaluator] = {}

    def say(self, what: object) -> None:
        """A line for the person, from the first process."""
        if distributed.is_first():
            self._tell(what)

    def stop(self) -> bool:
        """Whether any process was asked to stop. All processes must call it."""
        return distributed.any_process(self._stop())

    def asked_to_stop(self) -> bool:
        """Whether this process was asked to stop."""
        return self._stop()

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data of the config. Raises UserError if the run was trained on others."""
        check = None if self._spec else self._check_fits
        self.say(f"reading the data, {self.settings.data.name}")
        dataset = datasets.load(**self.settings.data.options(), check=check)
        self._check_data(dataset.fingerprint)
        distributed.check_same(
            "the fingerprint of the data",
            dataset.fingerprint,
            of=str(self.settings.data.options()),
        )
        return dataset

    def _check_fits(self, spec: DataSpec) -> None:
        """Raises UserError if the model is not for such data."""
        configs.make_experiment(self.config, spec, self.beside)

    @property
    def spec(self) -> DataSpec:
        """The description of the data that the model was trained on."""
        return self._spec or self.dataset.spec

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The model."""
        made = configs.make_experiment(self.config, self.spec, self.beside)
        if self.exported is not None and self.exported.weights == "raw":
            return dataclasses.replace(made, raw_weights=None)  # it holds no average
        return made

    @functools.cached_property
    def compiled(self) -> compile.CompiledExperiment:
        """The model, laid out on the devices."""
        mesh = make_mesh(**dataclasses.asdict(self.settings.mesh))
        return compile.compile_experiment(
            self.experiment, mesh, gather=gather, say=self.say
        )

    @functools.cached_property
    def code(self) -> dict[str, str]:
        """The hashes of the experiment's file and of its model's."""
        return configs.code_of(self.settings.experiment, self.beside)

    @functools.cached_property
    def trained(self) -> tuple[Any, int]:
        """(state, step) of the checkpoint. Raises UserError if there is none."""
        if self.exported is not None:
            return self._read_exported(self.exported), self.exported.step
        check_trained(self.workdir)
        self.say(f"reading the checkpoint in {self.workdir}")
        with self.open_checkpoints(to_save=False) as checkpointer:
            restored = self.restore(checkpointer, step=self._step)
        if restored is None:
            raise UserError(f"{self.workdir} holds no checkpoint yet; train first")
        return restored.state, restored.step

    def _read_exported(self, exported: Export) -> Any:
        if not exported.is_shipped:  # those are tested with the code beside them
            self._tell_other_code(exported.stored.code, exported.step)
        abstract_state = self.compiled.abstract_state
        try:
            state = parts.restored(
                exported.arrays(), abstract_state, self.experiment.training_only
            )
        except UserError as error:
            raise UserError(f"{exported.folder}: {error}") from error
        return compile.place(state, abstract_state)

    @property
    def trained_on(self) -> str | None:
        """The fingerprint of the data that the weights were trained on, if stored."""
        _ = self.trained
        return self._trained_on

    @property
    def step(self) -> int:
        """The step of the checkpoint."""
        return self.trained[1]

    def state(self, weights: Weights | None = None) -> tuple[Any, Weights]:
        """(the state, which weights it holds); None: the average if there is one.

        Raises UserError for the average of a model that keeps none.
        """
        self.check_weights(weights)
        state, raw = self.trained[0], self.experiment.raw_weights
        if raw is None:
            return state, "raw"
        return (raw(state), "raw") if weights == "raw" else (state, "ema")

    def with_config(self, changes: Mapping[str, Any]) -> "Run":
        """The same run with some fields of its config changed, nested or as "a.b"."""
        changes = configs.nested(configs.flatten(changes))
        config = configs.merged(self.config.to_dict(), changes)
        changed = Run(
            self.workdir,
            configs.complete(config, self.beside),
            beside=self.beside,
            spec=self._spec,
            step=self._step,
            stop=self._stop,
            say=self._tell,
            override_config=self.override_config,
            exported=self.exported,
        )
        changed._trained_on = self._trained_on
        for part in ("dataset", "trained"):  # these do not depend on what may change
            if part in self.__dict__:
                changed.__dict__[part] = self.__dict__[part]
        return changed

    def with_sampler(self, changes: Mapping[str, Any] | None) -> "Run":
        """The same run with some fields of config.sampler changed.

        Another solver leaves the options that it does not have at their defaults.
        Raises UserError for a model that has no choice of samplers.
        """
        if not changes:
            return self
        if "sampler" not in self.config:
            raise UserError(
                f"experiments/{self.settings.experiment}.py has no choice of samplers: "
                "leave sampler out"
            )
        asked = json.dumps(changes, sort_keys=True, default=str)
        if asked not in self._turned:
            _ = self.trained  # read once, for all of them
            base, model = {}, self.experiment.diffusion
            if model is not None and "name" in changes:
                one_of("sampler.name", changes["name"], SOLVERS)
                steps = changes.get("num_steps", model.sampler.num_steps)
                turned = model.sampler.turned_to(changes["name"], steps)
                base = dataclasses.asdict(turned)
            named = configs.nested(configs.flatten(changes))
            section = configs.merged(base, named)
            self._turned[asked] = self.with_config({"sampler": section})
        return self._turned[asked]

    # --- what it can do ---------------------------------------------------------------

    def require(self, part: str, what: str, models: str = "") -> None:
        """Raises UserError for a model without the part, which `what` needs.

        models: which models have it, in words.
        """
        if not has(self.experiment, part):
            meant = f"; it is for {models}" if models else ""
            raise UserError(
                f"{what} needs a model with {PARTS.get(part, part)}, and "
                f"experiments/{self.settings.experiment}.py has none with this config"
                f"{meant}"
            )

    def check_weights(self, weights: Weights | None) -> None:
        """Raises UserError for the average of a model that keeps none.

        And for what an exported model does not hold.
        """
        if self.exported is not None and weights not in (None, self.exported.weights):
            raise UserError(
                f"{self.exported.folder} holds the {self.exported.weights} weights "
                "alone: leave weights out, or export the run again with "
                f"--weights={weights}"
            )
        if weights == "ema" and self.experiment.raw_weights is None:
            raise UserError(
                f"experiments/{self.settings.experiment}.py keeps no moving average of "
                "its weights with this config: leave weights='ema' out"
            )

    def check_labels(self, labels: Labels | None, what: str = "labels") -> None:
        """Raises UserError for classes that the data or the model do not have.

        what: the flag or argument that they come from.
        """
        if labels is None:
            return
        if len(labels) == 0:
            raise UserError(f"{what} names no class: leave it out")
        wrong = [label for label in labels if not 0 <= label < self.spec.num_classes]
        if wrong:
            known = f"the classes 0 ... {self.spec.num_classes - 1}"
            raise UserError(
                f"{what}: {self.spec.name} has "
                f"{known if self.spec.num_classes else 'no classes'}, not {wrong[0]}"
            )
        self._check_takes_labels()

    def _check_takes_labels(self) -> None:
        if self.experiment.sample is not None:
            # a model that was trained without labels says so, before it is drawn from
            jax.eval_shape(
                functools.partial(self.experiment.sample, num=1),
                self.compiled.abstract_state,
                stream_key(0, Stream.SAMPLE),
                label=jax.ShapeDtypeStruct((1,), jnp.int32),
            )

    def sample(
        self,
        num: int,
        *,
        labels: Labels | None = None,
        seed: int = 0,
        weights: Weights | None = None,
        sampler: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """(num, *shape), like the data. Sample i depends on the seed and i alone.

        labels: sample i is of class labels[i % len(labels)]; None leaves it to the
            model. weights: None takes the moving average where there is one.
        sampler: changes of config.sampler, like {"name": "ddim", "num_steps": 20}.
        Raises UserError for a model without a sampler or without labels.
        """
        chunks = self.draw(
            num, labels=labels, seed=seed, weights=weights, sampler=sampler
        )
        return np.concatenate(list(chunks))

    def draw(
        self,
        num: int,
        *,
        labels: Labels | None = None,
        seed: int = 0,
        weights: Weights | None = None,
        sampler: Mapping[str, Any] | None = None,
    ) -> Iterator[np.ndarray]:
        """`sample` in chunks of evaluation.batch_size; arguments are checked first."""
        self.require("sample", "run.sample")
        if num < 1:
            raise UserError(f"the number of samples must be at least 1, not {num}")
        run = self.with_sampler(sampler)
        run.check_labels(labels)
        return generate(
            run._compiled_sample,
            run.state(weights)[0],
            key=stream_key(seed, Stream.SAMPLE),
            num=num,
            chunk=run.settings.evaluation.batch_size,
            labels=None if labels is None else np.asarray(labels, np.int32),
            should_stop=run.stop,
        )

    @functools.cached_property
    def _compiled_sample(self) -> Callable[..., Array]:
        assert self.experiment.sample is not None
        return compile_sample(self.experiment.sample, mesh=self.compiled.mesh)

    def encode(
        self,
        images: np.ndarray,
        labels: Labels | None = None,
        *,
        seed: int = 0,
        weights: Weights | None = None,
    ) -> np.ndarray:
        """(N, D): the codes of images, or points, like the data.

        labels: of a model whose encoder is given them; None: class 0.
        Raises UserError for a model without an encoder.
        """
        self.require("code.encode", "run.encode")
        batches = self._batches(images, labels)
        return self._coder(seed, weights).encode(batches, "yours").codes

    def decode(
        self, codes: np.ndarray, *, seed: int = 0, weights: Weights | None = None
    ) -> np.ndarray:
        """(N, *shape), like the data, of codes (N, D).

        Raises UserError for a model without a code.
        """
        self.require("code", "run.decode")
        return self._coder(seed, weights).decode(np.asarray(codes, np.float32))

    def _coder(self, seed: int, weights: Weights | None) -> Coder:
        return Coder(
            self.experiment,
            self.state(weights)[0],
            key=stream_key(seed, Stream.CODE),
            chunk=self.settings.evaluation.batch_size,
            mesh=self.compiled.mesh,
            should_stop=self.stop,
        )

    def log_likelihood(
        self,
        images: np.ndarray,
        labels: Labels | None = None,
        *,
        seed: int = 0,
        weights: Weights | None = None,
    ) -> np.ndarray:
        """(N,) nats: log p of each image, or point; `experiment.likelihood` says how.

        Raises UserError for a model without one, and where it is that of an image
        given its label and there are no labels.
        """
        self.require("likelihood", "run.log_likelihood")
        likelihood = self.experiment.likelihood
        assert likelihood is not None
        if likelihood.given == "label" and labels is None:
            raise UserError(
                "run.log_likelihood needs labels: this model has that of an example "
                "given its class"
            )
        state, key = self.state(weights)[0], stream_key(seed, Stream.LIKELIHOOD)
        run = jax.jit(likelihood.log_prob, out_shardings=replicated(self.compiled.mesh))
        parts = []
        for j, (batch, _) in enumerate(self._batches(images, labels)):
            parts.append(np.asarray(run(state, batch, jax.random.fold_in(key, j))))
        return np.concatenate(parts)[: len(images)]

    def denoise(
        self,
        x: Array | np.ndarray,
        t: float | Array | np.ndarray,
        labels: Labels | int | None = None,
        *,
        weights: Weights | None = None,
    ) -> Array:
        """E[x0 | x_t = x], (N, *shape): both as the model sees the data, not guided.

        t: one time for all, or one each; 0 is data and 1 noise.
        labels: one for all, or one each; None: of a model that knows labels, none.
        Raises UserError for a model that is no diffusion.
        """
        self.require("diffusion", "run.denoise")
        model, state = self.experiment.diffusion, self.state(weights)[0]
        assert model is not None
        num = len(x)
        if labels is None:
            label = jnp.full((num,), model.num_classes) if model.num_classes else None
        elif model.num_classes == 0:
            raise UserError("this model was trained without labels: leave labels out")
        else:
            label = jnp.broadcast_to(jnp.asarray(labels, jnp.int32), (num,))
        denoise = model.denoise(state.averaged[0], label)
        return denoise(jnp.asarray(x), jnp.broadcast_to(jnp.asarray(t, float), (num,)))

    def evaluate(
        self,
        *,
        labels: Labels | None = None,
        seed: int = 0,
        weights: Weights | None = None,
        extractor: str | None = None,
        full: bool = True,
    ) -> Result:
        """{"protocol": {...}, "metrics": {name: float}}, see `Evaluator`.

        labels: of the samples that are compared. extractor: a network in whose features
        they are compared too. full: with the panel, which takes a minute and more.
        """
        evaluator = self.evaluator(
            labels=labels, seed=seed, extractor=extractor, full=full
        )
        self.check_weights(weights)
        return evaluator(self.trained[0], weights=weights)

    def evaluator(
        self,
        *,
        labels: Labels | None = None,
        seed: int = 0,
        extractor: str | None = None,
        full: bool = False,
    ) -> Evaluator:
        """The `Evaluator` that `evaluate` calls, for any state; it is made once."""
        self.check_labels(labels)
        asked = (None if labels is None else tuple(labels), seed, extractor, full)
        if asked not in self._evaluators:
            self._evaluators[asked] = self._make_evaluator(*asked)
        return self._evaluators[asked]

    def _make_evaluator(
        self,
        labels: tuple[int, ...] | None,
        seed: int,
        extractor: str | None,
        full: bool,
    ) -> Evaluator:
        dataset, settings = self.dataset, self.settings.evaluation
        network = None if extractor is None else extractors.load(extractor, self.spec)
        self.say(f"summing up the {len(dataset.train):,} training examples")
        reference, _ = score.summary_of(
            dataset.train,
            self.spec,
            dataset.fingerprint,
            network,
            keep=full,
            should_stop=self.stop,
        )
        drawn = self._labels_as_in_data() if labels is None else None
        return Evaluator(
            self.experiment,
            spec=self.spec,
            batches=self.test_batches,
            reference=reference,
            key=stream_key(seed, Stream.EVALUATE),
            seed=seed,
            num_samples=settings.num_samples,
            sample_chunk=settings.batch_size,
            labels=drawn if labels is None else np.array(labels, np.int32),
            labels_from="as often as in the training split" if labels is None else None,
            extractor=network,
            modes=score.known_modes(self.spec.name),
            full=full,
            keep_floors=score.keep_floors,
            mesh=self.compiled.mesh,
            should_stop=self.stop,
            say=self.say,
        )

    def _labels_as_in_data(self) -> np.ndarray | None:
        """The classes of training examples, mixed; None for a model without labels.

        Classes drawn evenly would count as a fault of the model where the data's are
        not even.
        """
        num, split = self.settings.evaluation.num_samples, self.dataset.train
        if not (num and self.spec.num_classes and self.experiment.sample):
            return None
        try:
            self._check_takes_labels()
        except UserError:
            return None
        rows = spread(len(split), num)
        arrays = split.arrays
        labels = arrays["label"][rows] if arrays else split.read(rows)["label"]
        return np.random.RandomState(0).permutation(labels)

    # --- data -------------------------------------------------------------------------

    def test_batches(self) -> Batches:
        """The test split, or its first evaluation.limit examples: (batch, mask)."""
        return eval_batches(
            self.dataset.eval,
            batch_size=self.settings.evaluation.batch_size,
            sharding=batch_sharding(self.compiled.mesh),
            limit=self.settings.evaluation.limit,
        )

    @property
    def num_test(self) -> int:
        """The number of examples in `test_batches`."""
        num, limit = len(self.dataset.eval), self.settings.evaluation.limit
        return num if limit is None else min(num, limit)

    def _batches(self, images: np.ndarray, labels: Labels | None) -> Batches:
        """The user's examples as `test_batches` are. Raises UserError for others."""
        images, spec = np.asarray(images), self.spec
        if images.shape[1:] != spec.shape or len(images) == 0:
            raise UserError(
                f"examples like {spec.name} have the shape (N, "
                f"{', '.join(map(str, spec.shape))}), and yours {images.shape}"
            )
        if images.dtype != spec.dtype or (
            spec.num_levels and images.max() >= spec.num_levels
        ):
            levels = f" of 0 ... {spec.num_levels - 1}" if spec.num_levels else ""
            raise UserError(
                f"examples like {spec.name} are {spec.dtype}{levels}, and yours "
                f"{images.dtype} up to {images.max()}"
            )
        if labels is None:
            labels = np.zeros(len(images), np.int32)
        label = np.broadcast_to(np.asarray(labels, np.int32), (len(images),))
        return eval_batches(
            split_from_arrays("yours", images, label),
            batch_size=self.settings.evaluation.batch_size,
            sharding=batch_sharding(self.compiled.mesh),
        )

    # --- checkpoints ------------------------------------------------------------------

    @contextlib.contextmanager
    def open_checkpoints(self, *, to_save: bool = True) -> Iterator[Checkpointer]:
        """The run's checkpoints; their metadata tell one run from another."""
        training, meta = self.settings.training, {}
        if to_save:
            meta = {
                "config_hash": folder.config_hash(self.config.to_dict()),
                "data": self.dataset.fingerprint,
                "code": self.code,
            }
        with Checkpointer(
            self.workdir / "checkpoints",
            keep_last=training.keep_last,
            keep_every=training.keep_every,
            best_metric=training.keep_best_by,
            meta=meta,
        ) as checkpointer:
            yield checkpointer

    def restore(
        self, checkpointer: Checkpointer, *, step: int | None
    ) -> Restored[Any] | None:
        """The newest intact checkpoint, or that of `step`; None without one.

        Raises UserError if it was trained on other data than those that are loaded;
        says so if it was trained by other code.
        """
        restored = checkpointer.restore(self.compiled.abstract_state, step)
        if restored is None:
            return None
        self._trained_on = restored.meta.get("data")
        self._rows_taken = restored.meta.get("batches") or self._batches_of_config()
        if "dataset" in self.__dict__:
            self._check_data(self.dataset.fingerprint)
        self._tell_other_code(restored.meta.get("code"), restored.step)
        return restored

    def _tell_other_code(self, code: Mapping[str, str] | None, step: int) -> None:
        files = sources.changed(self.code if code is None else code, self.code)
        if files and distributed.is_first():  # a notebook must know it too
            say(
                f"genjax: {sources.in_words(files)} since step {step} of "
                f"{self.workdir} was trained"
            )

    def _batches_of_config(self) -> dict[str, int] | None:
        # of a checkpoint that is older than this note
        try:
            config = folder.read_config(self.workdir)
            return {"batch_size": config["training"]["batch_size"], "offset": 0}
        except (UserError, LookupError, TypeError):
            return None

    def row_offset(self, step: int) -> int:
        """Training examples seen before `step`, less step * training.batch_size.

        Other than 0 once the run went on with another batch size; of the checkpoint
        that was restored.
        """
        if self._rows_taken is None:
            return 0
        before, size = self._rows_taken, self.settings.training.batch_size
        return before["offset"] + step * (before["batch_size"] - size)

    def _check_data(self, given: str) -> None:
        stored = self._trained_on
        if stored not in (None, given) and not self.override_config:
            raise UserError(
                f"the weights in {self.workdir} were trained on other data "
                f"(fingerprint {stored}, here {given}); give the same data, another "
                "--workdir, or --override_config"
            )

    def initial_state(self) -> Any:
        """The state before step 0, with the pretrained parts that a model names."""
        state = self.compiled.init(self.settings.seed)
        if self.experiment.warm_start is None:
            return state
        state = self.experiment.warm_start(state)
        return compile.place(state, self.compiled.abstract_state)
