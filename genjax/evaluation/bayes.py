"""The class of an example, by Bayes' rule, from likelihoods given each class.

  (1) p(y | x) = p(x | y) p(y) / sum over classes c of p(x | c) p(c)

With a bound on log p(x | y) in its place this is the diffusion classifier (Li et al.
2023, arXiv:2303.16203; Clark & Jaini 2023, arXiv:2303.15233): any class-conditional
generative model classifies. Since hundreds of nats of log p(x | y) are the same for all
classes, an estimate must make its draws the same for all of them: then they cancel.
With a bound (1) is right only so far as its gap is the same for all classes too.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int


def log_posterior(
    log_likelihood: Float[np.ndarray, "n k"],
    log_prior: Float[np.ndarray, " k"] | None = None,
) -> Float[np.ndarray, "n k"]:
    """The logarithm of (1) in nats, from log p(x | y); float64.

    log_prior: log p(y), up to a constant; None: all classes are equally likely.
    A row is NaN where (1) is 0 / 0 or a likelihood is infinite or NaN.
    """
    joint = log_likelihood.astype(np.float64)
    if log_prior is not None:
        joint = joint + log_prior[None]
    with np.errstate(invalid="ignore"):  # NaN is the answer then
        joint = joint - joint.max(axis=1, keepdims=True)
        return joint - np.log(np.exp(joint).sum(axis=1, keepdims=True))


def decided(log_posterior: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, " n"]:
    """Which examples have a posterior at all: rows without NaN."""
    return np.logical_not(np.isnan(log_posterior).any(axis=1))


def classification_metrics(
    log_posterior: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """How often the most likely class is the true one, and how sure it is.

    accuracy: an example without a posterior counts as wrong.
    log_posterior_nats: the mean of log p(y | x) of the true class; larger is better.
    Standard errors, _stderr, are over the examples (ddof 1; NaN for a single one).
    largest_class_share: the accuracy of always naming the most frequent class of these
        labels. uniform_log_posterior_nats: of knowing nothing, -log k.
    """
    num, num_classes = log_posterior.shape
    right = (log_posterior.argmax(axis=1) == labels) & decided(log_posterior)
    of_true = log_posterior[np.arange(num), labels]
    return {
        **_mean("accuracy", right.astype(np.float64)),
        **_mean("log_posterior_nats", of_true),
        "largest_class_share": float(np.bincount(labels).max() / num),
        "uniform_log_posterior_nats": -math.log(num_classes),
    }


def confusion(
    log_posterior: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "k k"]:
    """How many examples of class i (row) were taken for j (column), where decided."""
    num_classes = log_posterior.shape[1]
    kept = decided(log_posterior)
    cells = labels[kept] * num_classes + log_posterior[kept].argmax(axis=1)
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _mean(name: str, values: Float[np.ndarray, " n"]) -> dict[str, float]:
    count = len(values)
    with np.errstate(invalid="ignore"):  # an infinite value shows in the result
        deviation = float(values.std(ddof=1)) if count > 1 else math.nan
    return {
        name: float(values.mean()),
        f"{name}_stderr": deviation / math.sqrt(count),
    }
