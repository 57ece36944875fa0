"""--mode=classify: p(y | x) by Bayes from a class-conditional model's likelihoods.

For every experiment whose `log_likelihood` is given the label. Each test image is
scored once for each class, with the same key, and so the same noise, for all of them;
`genjax.evaluation.bayes` makes class probabilities of that, all classes being equally
likely beforehand. The cost is that of the test set's likelihood times the number of
classes; eval.limit takes the first so many images only.

Writes <workdir>/evaluation/classify_<step>.json: {"step", "protocol", "metrics",
"confusion"}, the last of counts, a row for each true class.
"""

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from genjax.commandline import Options
from genjax.evaluation.bayes import (
    classification_metrics,
    confusion,
    decided,
    log_posterior,
)
from genjax.evaluation.runner import choose_weights
from genjax.experiment import MakeExperiment
from genjax.run_setup import Setup, load_trained, num_test, test_batches
from genjax.train import distributed, metrics
from genjax.train.sharding import replicated
from genjax.train.stop import StopRequest
from genjax.typing import Array, Batch, Key, Stopped, UserError

CLASSIFY_STREAM = 5  # of --seed; 2 to 4 are those of other modes


def classify(
    options: Options, make_experiment: MakeExperiment, stop: StopRequest
) -> None:
    """Classifies the test set by a checkpoint, and writes what this module's head says.

    With --weights=raw or another --seed the name ends in _raw, _seed1.
    Raises UserError for a model without likelihoods given the label.
    """
    setup, state, step = load_trained(options, make_experiment, stop)
    check_conditional(setup)
    state, weights = choose_weights(setup.experiment, state, options.weights)
    log_likelihood, labels = score(setup, state)
    if not distributed.is_first():
        return
    posterior = log_posterior(log_likelihood)
    values = classification_metrics(posterior, labels)
    spec, experiment = setup.dataset.spec, setup.experiment
    result: dict[str, Any] = {
        "protocol": {
            "data": spec.name,
            "n_test": len(labels),
            "num_classes": spec.num_classes,
            "weights": weights,
            "seed": options.seed,
            "prior": f"uniform over {spec.num_classes} classes",
            "noise": "one key for all classes of an example",
            "likelihood_kind": experiment.likelihood_kind,
            "likelihood_note": experiment.likelihood_note,
            "likelihood_of": experiment.likelihood_of,
            "n_undecided": int((~decided(posterior)).sum()),
            "not_finite": [k for k, v in values.items() if not math.isfinite(v)],
        },
        "metrics": values,
    }
    print(json.dumps({"step": step, **result}, indent=2))
    write(setup, step, result | {"confusion": confusion(posterior, labels).tolist()})


def score(
    setup: Setup, state: Any
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, " n"]]:
    """(log p(x | y) of every test example and class y, true classes)."""
    num_classes = setup.dataset.spec.num_classes
    given, fetchable = compile_scores(setup)
    key = jax.random.key(setup.options.seed)
    key = jax.random.fold_in(key, CLASSIFY_STREAM)
    total, first = num_test(setup) * num_classes, distributed.is_first()
    rows, labels = [], []
    with tqdm(total=total, unit="likelihood", disable=not first) as bar:
        for j, (batch, mask) in enumerate(test_batches(setup)):
            label, kept = map(np.asarray, fetchable((batch["label"], mask)))
            noise_key = jax.random.fold_in(key, j)  # the same for all classes
            columns = []
            for y in range(num_classes):
                if setup.stop():
                    raise Stopped("while classifying the test set")
                log_prob = given(state, batch, np.int32(y), noise_key)
                columns.append(np.asarray(log_prob)[kept])
                bar.update(len(columns[-1]))
            rows.append(np.stack(columns, axis=1))
            labels.append(label[kept])
    return np.concatenate(rows), np.concatenate(labels)


def compile_scores(setup: Setup) -> tuple[Callable[..., Array], Callable[..., Any]]:
    """(state, batch, y, key) -> (B,) log p(x | y); and arrays to themselves, jitted.

    The results are whole on every process: under several no others can be fetched.
    """
    log_likelihood = setup.experiment.log_likelihood
    assert log_likelihood is not None

    def given(state: Any, batch: Batch, y: Array, key: Key) -> Array:
        label = jnp.full_like(batch["label"], y)
        return log_likelihood(state, {**batch, "label": label}, key)

    whole = replicated(setup.compiled.mesh)
    return (
        jax.jit(given, out_shardings=whole),
        jax.jit(lambda arrays: arrays, out_shardings=whole),
    )


def write(setup: Setup, step: int, result: dict[str, Any]) -> None:
    """The file of the first process, and its path on the standard error."""
    options = setup.options
    suffix = "_raw" if options.weights == "raw" else ""
    suffix += f"_seed{options.seed}" if options.seed else ""
    path = setup.workdir / "evaluation" / f"classify_{step}{suffix}.json"
    text = json.dumps({"step": step, **result}, indent=2) + "\n"
    metrics.write_atomically(path, text.encode())
    print(path, file=sys.stderr)


def check_conditional(setup: Setup) -> None:
    """Raises UserError unless the model has likelihoods given the label."""
    name = f"experiments/{setup.config.experiment}.py"
    if setup.experiment.log_likelihood is None:
        raise UserError(
            f"{name} has no log_likelihood with this config, so --mode=classify has "
            "nothing to compare classes by"
        )
    if setup.experiment.likelihood_given != "label":
        raise UserError(
            f"the likelihood of {name} is not given a label, so it is the same for all "
            "classes: --mode=classify is for class-conditional models, trained with "
            "config.model.num_classes > 0 where there is such a field"
        )
