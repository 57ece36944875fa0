"""--mode=classify: p(y | x) by Bayes from a class-conditional model's likelihoods.

For every experiment whose likelihood is conditioned on the label. Each test image is
scored once for each class, with the same key, and so the same noise, for all of them;
`genjax.evaluation.bayes` makes class probabilities of that, under a uniform prior over
classes. The cost is that of the test set's likelihood times the number of classes;
evaluation.limit takes only the first images.

Writes <workdir>/evaluation/classify_<step>.json: {"step", "protocol", "metrics",
"confusion"}, the last of counts, a row for each true class.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from genjax.evaluation import bayes
from genjax.modes.mode import Mode, Trained, check_stop, data_and_weights, report
from genjax.run import Run
from genjax.streams import Stream, stream_key
from genjax.training import distributed
from genjax.training.sharding import replicated
from genjax.typing import Array, Batch, Key, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Trained):
    """The flags of --mode=classify."""


def check(run: Run, options: Options) -> None:
    """Raises UserError unless the likelihood is conditioned on the label."""
    likelihood = run.experiment.likelihood
    assert likelihood is not None
    if likelihood.given != "label":
        raise UserError(
            f"the likelihood of experiments/{run.config.experiment}.py is not given a "
            "label, so it is the same for all classes: --mode=classify is for "
            "class-conditional models, trained with config.model.num_classes > 0"
        )


def classify(run: Run, options: Options) -> None:
    """Classifies the test set by a checkpoint, and writes what this module's head says.

    With --weights=raw or another --seed the name ends in _raw, _seed1.
    """
    state, weights = run.state(options.weights)
    log_likelihood, labels = score(
        run, state, stream_key(options.seed, Stream.CLASSIFY)
    )
    posterior = bayes.log_posterior(log_likelihood)
    likelihood, num_classes = run.experiment.likelihood, run.spec.num_classes
    assert likelihood is not None
    protocol = data_and_weights(run, options, weights) | {
        "n_test": len(labels),
        "num_classes": num_classes,
        "prior": f"uniform over {num_classes} classes",
        "noise": "one key for all classes of an example",
        "likelihood_kind": likelihood.kind,
        "likelihood_note": likelihood.note,
        "likelihood_of": likelihood.of,
        "n_undecided": int((~bayes.decided(posterior)).sum()),
    }
    report(
        run,
        f"classify_{{step}}{options.suffix}",
        protocol,
        bayes.classification_metrics(posterior, labels),
        confusion=bayes.confusion(posterior, labels).tolist(),
    )


def score(
    run: Run, state: Any, key: Key
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, " n"]]:
    """(log p(x | y) of every test example and class y, true classes)."""
    num_classes = run.spec.num_classes
    given, fetchable = compile_scores(run)
    total, first = run.num_test * num_classes, distributed.is_first()
    rows, labels = [], []
    with tqdm(total=total, unit="likelihood", disable=not first) as bar:
        for j, (batch, mask) in enumerate(run.test_batches()):
            label, kept = map(np.asarray, fetchable((batch["label"], mask)))
            noise_key = jax.random.fold_in(key, j)  # the same for all classes
            columns = []
            for y in range(num_classes):
                check_stop(run, "while classifying the test set")
                log_prob = given(state, batch, np.int32(y), noise_key)
                columns.append(np.asarray(log_prob)[kept])
                bar.update(len(columns[-1]))
            rows.append(np.stack(columns, axis=1))
            labels.append(label[kept])
    return np.concatenate(rows), np.concatenate(labels)


def compile_scores(run: Run) -> tuple[Callable[..., Array], Callable[..., Any]]:
    """(state, batch, y, key) -> (B,) log p(x | y); and arrays to themselves, jitted.

    The results are whole on every process: under several no others can be fetched.
    """
    likelihood = run.experiment.likelihood
    assert likelihood is not None

    def given(state: Any, batch: Batch, y: Array, key: Key) -> Array:
        label = jnp.full_like(batch["label"], y)
        return likelihood.log_prob(state, {**batch, "label": label}, key)

    whole = replicated(run.compiled.mesh)
    return (
        jax.jit(given, out_shardings=whole),
        jax.jit(lambda arrays: arrays, out_shardings=whole),
    )


MODE = Mode(
    name="classify",
    summary="reads the class of test images off a class-conditional model, by Bayes",
    example="python launch.py --config=configs/flow_matching_digits.py --mode=classify",
    options=Options,
    needs=("likelihood",),
    models="class-conditional models whose log p(x | y) is known",
    check=check,
    run=classify,
)
