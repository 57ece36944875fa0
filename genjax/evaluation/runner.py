"""All scores that a model can have, in one call, with the protocol they came from.

The same object serves evaluation during training and on its own: the compiled
functions, the summary of the test split and the floors are made once and kept.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.evaluation.baselines import (
    Baseline,
    baseline_metrics,
    likelihood_baselines,
    no_ppca,
)
from genjax.evaluation.density_modes import Modes
from genjax.evaluation.extractors import Extractor
from genjax.evaluation.kept import Keep
from genjax.evaluation.likelihood_table import likelihood_metrics, likelihood_protocol
from genjax.evaluation.panel import Panel
from genjax.evaluation.samples import (
    floor_protocol,
    floors,
    not_available,
    sample_metrics,
    sample_protocol,
)
from genjax.evaluation.sampling import compile_sample, generate
from genjax.evaluation.summary import Summary, summarize
from genjax.experiment import Experiment, StateT
from genjax.screen import Say, silent
from genjax.typing import Array, Batch, DataSpec, Key, Stopped, UserError

Weights = Literal["ema", "raw"]
Result = dict[str, dict[str, Any]]

NUM_SHOWN, NUM_NEIGHBORS = 16, 3  # samples, and training examples beside each


class Evaluator(Generic[StateT]):
    """`evaluator(state)` -> {"protocol": {...}, "metrics": {name: float}}.

    Metrics, as far as the model can:
    - the mean over the test set of each value of `experiment.evaluate`;
    - `likelihood_metrics` of `experiment.likelihood`, with those of
      `likelihood_baselines`;
    - of the samples, for images: frechet_pixels, in raw pixels scaled to [0, 1], to the
      reference split (it is no FID). For points: frechet_points, to the reference
      split, and energy_distance and wasserstein2, to the test split; where the modes
      are known, `mode_metrics`.
    - with an extractor: frechet_<its name>, and where labels were asked for
      label_agreement, the share of the samples that it reads as asked; where the data
      have many classes, `class_mode_metrics` of what it reads, and modes_test and
      mode_kl_test, the same of the test split.
    - when `full`: the `Panel`, in pixels or points and in the extractor's features.
    - frechet_*_floor: the test split in the place of the samples; and
      energy_distance_floor, wasserstein2_floor: as many rows of the reference split.

    nearest_training: of the last samples with a panel, (n, 1 + k, *shape): the samples
    that are nearest to a training example, each followed by its k nearest.

    Metrics are Python floats. One that is not finite stays as it is and is
    written as null; the protocol's "not_finite" names it. The protocol's
    "not_available" names those that are not available, with the reason.
    """

    def __init__(
        self,
        experiment: Experiment[StateT],
        *,
        spec: DataSpec,
        batches: Callable[[], Iterable[tuple[Batch, Array]]],
        reference: Summary,
        key: Key,
        seed: int,
        num_samples: int,
        sample_chunk: int,
        labels: np.ndarray | None = None,
        labels_from: str | None = None,
        extractor: Extractor | None = None,
        modes: Modes | None = None,
        full: bool = False,
        keep_floors: Keep | None = None,
        mesh: Mesh | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        say: Say = silent,
    ):
        """Compiles nothing yet.

        batches: opens the test set anew, all of it or its first rows: (batch, mask (B,)
            bool), padded to one size; the same rows at every call.
        reference: the training split, from `summarize` with the same extractor; every
            process has it whole.
        key: all draws come from it; `seed` is only written into the protocol.
        num_samples: 0 draws none.
        labels: for class-conditional samples, see `generate`. labels_from: whence they
            are, in words, for the protocol; None: as they are.
        modes: of the data, for points, where they are known.
        full: the panel as well, which takes a minute and more; the reference must be
            summarized with keep=True. keep_floors: see `Panel`.
        mesh: where state and batches live; None for a single device.
        should_stop: asked between batches and chunks; it must give the same answer on
            every process, or they wait for each other. True raises Stopped.
        say: is told what comes next, where that takes its time.
        Raises UserError if num_samples or sample_chunk makes no sense.
        """
        _check_numbers(num_samples, sample_chunk)
        self._experiment, self._spec = experiment, spec
        self._batches, self._reference = batches, reference
        self._test_key, self._sample_key = jax.random.split(key)
        self._seed = seed
        self._num_samples, self._sample_chunk = num_samples, sample_chunk
        self._labels, self._labels_from = labels, labels_from
        self._extractor = extractor
        self._modes = modes
        self._full = full
        self._keep_floors = keep_floors
        self.nearest_training: np.ndarray | None = None
        self._should_stop, self._say = should_stop, say
        whole = None if mesh is None else NamedSharding(mesh, PartitionSpec())
        # Replicated results: under several processes no other array can be fetched.
        self._fetchable = jax.jit(lambda tree: tree, out_shardings=whole)
        self._values = jax.jit(self._per_example, out_shardings=whole)
        if experiment.sample is not None:
            self._sample = compile_sample(experiment.sample, mesh=mesh)

    def __call__(self, state: StateT, *, weights: Weights | None = None) -> Result:
        """The scores of a state.

        weights: "ema" or "raw"; None takes the moving average where there is one.
        Raises UserError if "ema" is asked of an experiment that keeps no average;
        Stopped when should_stop() is true.
        """
        state, weights = choose_weights(self._experiment, state, weights)
        means, likelihood = self._test_metrics(state)
        baselines = baseline_metrics(self._baselines, self._spec)
        metrics = likelihood | baselines | self._sample_metrics(state)
        if clash := sorted(means.keys() & metrics.keys()):
            raise ValueError(f"evaluate() returns {clash}, which have other meanings")
        metrics = means | metrics
        protocol = self._protocol(weights)
        protocol["not_finite"] = [k for k, v in metrics.items() if not math.isfinite(v)]
        return {"protocol": protocol, "metrics": metrics}

    def names(self, abstract_state: StateT) -> set[str]:
        """The metrics that a call gives; the model computes nothing for it."""
        found = set(baseline_metrics(self._baselines, self._spec))
        if self._experiment.evaluate or self._experiment.likelihood:
            batch, mask = next(self._test_batches())
            values, log_prob, _ = jax.eval_shape(
                self._per_example, abstract_state, batch, mask, self._test_key
            )
            found |= values.keys()
            if log_prob is not None:
                found |= likelihood_metrics(np.zeros(len(mask)), self._spec).keys()
        if self._experiment.sample is not None and self._num_samples:
            found |= self._floors.keys() | self._scores_of(self._test).keys()
        return found

    # What is asked of the model.

    def _test_metrics(self, state: StateT) -> tuple[dict[str, float], dict[str, float]]:
        """(means of `evaluate`, `likelihood_metrics`), in float64 on the host."""
        if not (self._experiment.evaluate or self._experiment.likelihood):
            return {}, {}
        self._say("scoring the test examples")
        named: dict[str, list[np.ndarray]] = {}
        log_probs: list[np.ndarray] = []
        for j, (batch, mask) in enumerate(self._test_batches()):
            key = jax.random.fold_in(self._test_key, j)
            values, log_prob, kept = self._values(state, batch, mask, key)
            kept = np.asarray(kept)
            of_domain = self._rows_of_domains(batch, kept)
            for name, value in values.items():
                counted = of_domain.get(name[-2:], kept)
                named.setdefault(name, []).append(_rows(name, value, counted))
            if log_prob is not None:
                log_probs.append(_rows("log_prob", log_prob, kept))
        means = {k: float(np.concatenate(v).mean()) for k, v in named.items()}
        if not log_probs:
            return means, {}
        return means, likelihood_metrics(np.concatenate(log_probs), self._spec)

    def _rows_of_domains(self, batch: Batch, kept: np.ndarray) -> dict[str, np.ndarray]:
        """Which rows count for values of one domain, "_a" or "_b": each image once."""
        if not self._spec.eval_sizes:
            return {}
        (index,) = self._fetchable((batch["index"],))
        a, b = (kept & (np.asarray(index) < size) for size in self._spec.eval_sizes)
        return {"_a": a, "_b": b}

    def _per_example(self, state: StateT, batch: Batch, mask: Array, key: Key):
        """(named values, log-likelihoods or None, the mask): traced once."""
        evaluate_key, likelihood_key = jax.random.split(key)
        evaluate = self._experiment.evaluate
        likelihood = self._experiment.likelihood
        values = dict(evaluate(state, batch, evaluate_key)) if evaluate else {}
        log_prob = None
        if likelihood is not None:
            log_prob = likelihood.log_prob(state, batch, likelihood_key)
        return values, log_prob, mask

    def _sample_metrics(self, state: StateT) -> dict[str, float]:
        if self._experiment.sample is None or self._num_samples == 0:
            return {}
        self._say(f"drawing {self._num_samples:,} samples to compare with the data")
        chunks = generate(
            self._sample,
            state,
            key=self._sample_key,
            num=self._num_samples,
            chunk=self._sample_chunk,
            labels=self._labels,
            should_stop=self._should_stop,
        )
        samples = summarize(
            chunks,
            name="samples",
            spec=self._spec,
            extractor=self._extractor,
            keep=self._full,
        )
        metrics = self._scores_of(samples)
        if self._full and self._panel.missing(samples.count) is None:
            self._say("comparing them by the panel, neighbour by neighbour")
            metrics |= self._panel(samples)
            self.nearest_training = self._nearest_training(samples)
        return metrics | self._floors

    def _scores_of(self, samples: Summary) -> dict[str, float]:
        return sample_metrics(
            samples,
            reference=self._reference,
            test=self._test,
            extractor=self._extractor,
            labels=self._labels,
            modes=self._modes,
            num_classes=self._spec.num_classes,
        )

    def _nearest_training(self, samples: Summary) -> np.ndarray:
        """(n, 1 + k, *shape): samples, each with its nearest training examples."""
        which, index = self._panel.nearest_training(samples, NUM_SHOWN, NUM_NEIGHBORS)
        assert samples.rows is not None and self._reference.rows is not None
        pairs = samples.rows[which][:, None], self._reference.rows[index]
        shown = np.concatenate(pairs, axis=1)
        return shown.reshape(*shown.shape[:2], *self._spec.shape)

    # What does not depend on the model, and is computed once.

    @functools.cached_property
    def _test(self) -> Summary:
        return summarize(
            self._test_images(),
            name="test",
            spec=self._spec,
            extractor=self._extractor,
            keep=self._full,
        )

    @functools.cached_property
    def _panel(self) -> Panel:
        return Panel(
            self._reference,
            self._test,
            spec=self._spec,
            extractor=self._extractor and self._extractor.name,
            keep_floors=self._keep_floors,
            should_stop=self._should_stop,
        )

    @functools.cached_property
    def _floors(self) -> dict[str, float]:
        return floors(
            reference=self._reference,
            test=self._test,
            num_samples=self._num_samples,
            extractor=self._extractor,
            num_classes=self._spec.num_classes,
        )

    @functools.cached_property
    def _baselines(self) -> dict[str, Baseline]:
        likelihood = self._experiment.likelihood
        if likelihood is None:
            return {}
        return likelihood_baselines(
            self._reference, self._test, self._spec, likelihood.of, self._keep_floors
        )

    def _test_batches(self) -> Iterator[tuple[Batch, Array]]:
        for batch, mask in self._batches():
            if self._should_stop():
                raise Stopped("while evaluating on the test set")
            yield batch, mask

    def _test_images(self) -> Iterator[np.ndarray]:
        for batch, mask in self._test_batches():
            image, kept = self._fetchable((batch["image"], mask))
            yield np.asarray(image)[np.asarray(kept)]

    # How it was done.

    def _protocol(self, weights: Weights) -> dict[str, Any]:
        protocol: dict[str, Any] = {
            "data": self._spec.name,
            "n_test": self._test.count,
            "weights": weights,
            "seed": self._seed,
            "not_available": self._not_available(),
        }
        likelihood = self._experiment.likelihood
        if likelihood is not None:
            protocol |= likelihood_protocol(likelihood, self._spec, self._test.count)
            protocol["likelihood_baselines"] = {
                name: {"kind": baseline.kind, "note": baseline.note}
                for name, baseline in self._baselines.items()
            }
        if self._experiment.sample is not None and self._num_samples:
            protocol |= sample_protocol(
                reference=self._reference,
                num_samples=self._num_samples,
                extractor=self._extractor,
                modes=self._modes,
                num_classes=self._spec.num_classes,
            )
            protocol["sample_chunk"] = self._sample_chunk
            protocol["sample_labels"] = (
                "the model's"
                if self._labels is None
                else self._labels_from
                or f"in turn {', '.join(str(label) for label in self._labels)}"
            )
            protocol |= floor_protocol(self._test, self._num_samples)
            if self._full and self._panel.missing(self._num_samples) is None:
                protocol |= self._panel.protocol(self._num_samples)
        return protocol

    def _not_available(self) -> dict[str, str]:
        names = ("sample", "likelihood", "evaluate")
        reasons = {
            name: "the experiment has none"
            for name in names
            if getattr(self._experiment, name) is None
        }
        likelihood = self._experiment.likelihood
        if likelihood is not None and likelihood.of == "data":
            if missing := no_ppca(self._reference, self._spec):
                reasons["ppca"] = missing
        if self._full and self._experiment.sample is not None:
            if missing := self._panel.missing(self._num_samples):
                reasons["panel"] = missing
        return reasons | not_available(self._reference, self._spec)


def _check_numbers(num_samples: int, sample_chunk: int) -> None:
    if num_samples < 0 or num_samples == 1:
        raise UserError(
            "the number of samples to evaluate must be 0 (none) or at least 2, but is "
            f"{num_samples}"
        )
    if sample_chunk < 1:
        raise UserError(
            f"the samples drawn at a time must be 1 or more, but are {sample_chunk}"
        )


def choose_weights(
    experiment: Experiment[StateT], state: StateT, weights: Weights | None
) -> tuple[StateT, Weights]:
    """The state with the weights asked for, and which they are.

    weights: None takes the moving average where there is one.
    Raises UserError if "ema" is asked of an experiment that keeps no average.
    """
    if experiment.raw_weights is None:
        if weights == "ema":
            raise UserError(
                "this experiment keeps no moving average of its weights; evaluate "
                "with weights 'raw'"
            )
        return state, "raw"
    if weights == "raw":
        return experiment.raw_weights(state), "raw"
    return state, "ema"


def _rows(name: str, value: Array, kept: np.ndarray) -> np.ndarray:
    """The rows of a batch that are no padding, in float64."""
    if value.shape != kept.shape:
        raise ValueError(
            f"{name} must be one value an example, {kept.shape}, got {value.shape}; "
            "leave the mean to the evaluation"
        )
    return np.asarray(value)[kept].astype(np.float64)
