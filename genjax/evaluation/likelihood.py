"""From log-likelihoods to a report, and the two bars that any model must clear."""

import math

import numpy as np
from jaxtyping import Float, Int

from genjax.typing import DataSpec

# Small enough that a level never seen in 1,000 examples of 17 levels costs little.
SMOOTHING = 0.1


def likelihood_metrics(
    log_prob: Float[np.ndarray, " n"], spec: DataSpec
) -> dict[str, float]:
    """Means over a test set of log-likelihoods in nats; smaller is better.

    nll_nats: the mean of -log_prob; nll_nats_stderr: its standard error over the
    examples (ddof 1; NaN for a single one), not over runs.
    bits_per_dim: nll_nats / (D ln 2), of the discrete pixels. Absent for points, whose
    density has a unit.
    """
    count = len(log_prob)
    nll = -log_prob.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an infinite value shows in the result
        deviation = float(nll.std(ddof=1)) if count > 1 else math.nan
    metrics = {
        "nll_nats": float(nll.mean()),
        "nll_nats_stderr": deviation / math.sqrt(count),
    }
    if spec.num_levels:
        metrics["bits_per_dim"] = bits_per_dim(metrics["nll_nats"], spec)
    return metrics


def bits_per_dim(nll_nats: float, spec: DataSpec) -> float:
    """nll_nats / (D ln 2), D the number of pixels times channels."""
    return nll_nats / (math.prod(spec.shape) * math.log(2.0))


def level_counts(images: np.ndarray, num_levels: int) -> Int[np.ndarray, "d l"]:
    """How often each pixel and channel takes each level, over (n, ...) uint8 images.

    Raises ValueError for a level of num_levels or more.
    """
    flat = images.reshape(len(images), -1)
    if flat.max(initial=0) >= num_levels:
        raise ValueError(
            f"pixels must lie in 0 ... {num_levels - 1}, got {flat.max()}; is "
            "num_levels that of this data set?"
        )
    dims = flat.shape[1]
    cells = flat + np.arange(dims) * num_levels  # one bin a (pixel, level)
    counts = np.bincount(cells.ravel(), minlength=dims * num_levels)
    return counts.reshape(dims, num_levels)


def independent_pixels_nll(
    train: Int[np.ndarray, "d l"],
    test: Int[np.ndarray, "d l"],
    smoothing: float = SMOOTHING,
) -> float:
    """Nats a test image under one categorical a pixel, fitted to the training split.

    p(level) = (count + smoothing) / (n + smoothing * L). Counts are enough on both
    sides, since the pixels are independent.
    """
    smoothed = train + smoothing
    log_prob = np.log(smoothed / smoothed.sum(axis=1, keepdims=True))
    return -float(np.sum(test * log_prob) / test[0].sum())


def independent_bernoulli_nll(
    train: Int[np.ndarray, "d l"],
    test: Int[np.ndarray, "d l"],
    smoothing: float = SMOOTHING,
) -> float:
    """Nats a randomly binarised test image under one Bernoulli a pixel.

    P(1) = (sum of grey + smoothing) / (n + 2 smoothing), over the training split; the
    mean over the binarisations of the test split is taken exactly.
    """
    grey = np.linspace(0.0, 1.0, train.shape[1])
    mean = (train @ grey + smoothing) / (train.sum(axis=1) + 2 * smoothing)
    ones = test @ grey / test.sum(axis=1)
    return -float(np.sum(ones * np.log(mean) + (1.0 - ones) * np.log1p(-mean)))


def binarized_baseline_metrics(
    train: Int[np.ndarray, "d l"], test: Int[np.ndarray, "d l"], spec: DataSpec
) -> dict[str, float]:
    """What needs no model of binary pixels: `independent_bernoulli_nll`."""
    nats = independent_bernoulli_nll(train, test)
    return {
        "independent_bernoulli_nll_nats": nats,
        "independent_bernoulli_bits_per_dim": bits_per_dim(nats, spec),
    }


def baseline_metrics(
    train: Int[np.ndarray, "d l"], test: Int[np.ndarray, "d l"], spec: DataSpec
) -> dict[str, float]:
    """What needs no model: uniform levels, and `independent_pixels_nll`."""
    nats = {
        "uniform": math.prod(spec.shape) * math.log(spec.num_levels),
        "independent_pixels": independent_pixels_nll(train, test),
    }
    bits = {f"{name}_bits_per_dim": bits_per_dim(n, spec) for name, n in nats.items()}
    return {f"{name}_nll_nats": n for name, n in nats.items()} | bits
