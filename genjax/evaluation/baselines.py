"""Baselines for any likelihood: models that need no training.

Each is fitted to the training split and scored on the test split, and of both it takes
no more than a `Summary` keeps.
"""

import dataclasses
import functools
import hashlib
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from genjax.evaluation.frechet import SampleMoments
from genjax.evaluation.kept import Keep, code
from genjax.evaluation.likelihood_table import bits_per_dim
from genjax.evaluation.summary import MAX_DIMS, Summary
from genjax.objectives import ppca
from genjax.typing import Array, DataSpec

# Small enough that a level never seen in 1,000 examples of 17 levels costs little.
SMOOTHING = 0.1
NUM_COMPONENTS = 30  # of probabilistic PCA, as many as Hinton & Salakhutdinov 2006 kept


@dataclasses.dataclass(frozen=True)
class Baseline:
    """nll_nats: the mean over the test split of -log_prob, in nats.

    kind: as `LogLikelihood.kind`. note: how it was taken, for the protocol.
    """

    nll_nats: float
    kind: Literal["exact", "lower_bound"]
    note: str


def likelihood_baselines(
    train: Summary,
    test: Summary,
    spec: DataSpec,
    likelihood_of: Literal["data", "binarized"] = "data",
    keep: Keep | None = None,
) -> dict[str, Baseline]:
    """All that fit the data, by name; likelihood_of: `LogLikelihood.of`.

    keep: for later evaluations: the spectrum of 3,072 pixels takes ten seconds.

    Images: uniform levels, `independent_pixels_nll` and, up to MAX_DIMS pixels,
    `ppca_nll`. Binarised ones: `independent_bernoulli_nll`. Points: `ppca_nll`.
    """
    if likelihood_of == "binarized":
        assert train.levels is not None and test.levels is not None  # pixels
        return {
            "independent_bernoulli": Baseline(
                independent_bernoulli_nll(train.levels, test.levels),
                "exact",
                f"mean grey of {train.name}, {SMOOTHING} of each added; the mean over "
                "binarisations in closed form",
            )
        }
    found = {}
    if train.levels is not None and test.levels is not None:
        nats = math.prod(spec.shape) * math.log(spec.num_levels)
        found["uniform"] = Baseline(nats, "exact", f"{spec.num_levels} equal levels")
        found["independent_pixels"] = Baseline(
            independent_pixels_nll(train.levels, test.levels),
            "exact",
            f"one categorical a pixel, counted on {train.name}, {SMOOTHING} added to "
            "each count",
        )
    if no_ppca(train, spec) is None:
        assert train.moments is not None and test.moments is not None
        found["ppca"] = _ppca(train.name, train.moments, test.moments, spec, keep)
    return found


def baseline_metrics(found: dict[str, Baseline], spec: DataSpec) -> dict[str, float]:
    """<name>_nll_nats of each, and for images <name>_bits_per_dim."""
    metrics = {f"{name}_nll_nats": b.nll_nats for name, b in found.items()}
    if spec.num_levels:
        for name, baseline in found.items():
            metrics[f"{name}_bits_per_dim"] = bits_per_dim(baseline.nll_nats, spec)
    return metrics


def no_ppca(train: Summary, spec: DataSpec) -> str | None:
    """Why these data have no `ppca_nll`, if they have none."""
    dims = math.prod(spec.shape)
    if train.moments is not None and dims > 1:
        return None
    return f"{dims} numbers an example; it takes 2 ... {MAX_DIMS}"


def independent_pixels_nll(
    train: Int[np.ndarray, "d l"],
    test: Int[np.ndarray, "d l"],
    smoothing: float = SMOOTHING,
) -> float:
    """Nats per test image, one categorical per pixel, fitted to the training split.

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
    """Nats per randomly binarised test image under one Bernoulli per pixel.

    P(1) = (sum of grey + smoothing) / (n + 2 smoothing), over the training split; the
    mean over the binarisations of the test split is taken exactly.
    """
    grey = np.linspace(0.0, 1.0, train.shape[1])
    mean = (train @ grey + smoothing) / (train.sum(axis=1) + 2 * smoothing)
    ones = test @ grey / test.sum(axis=1)
    return -float(np.sum(ones * np.log(mean) + (1.0 - ones) * np.log1p(-mean)))


def ppca_nll(
    train: SampleMoments,
    test: SampleMoments,
    *,
    num_levels: int,
    num_components: int = NUM_COMPONENTS,
) -> float:
    """Nats per test example under probabilistic PCA, fitted by maximum likelihood.

    Of points (num_levels 0) the density. Of pixels k / (L - 1), L = num_levels, a bound
    on the discrete levels by uniform dequantisation (Theis et al. 2016,
    arXiv:1511.01844, section 3.1): with u uniform on [-1/2, 1/2]^D,

      log P(x) >= E_u log p(x + u / (L - 1)) - D log(L - 1)

    where p is fitted to dequantised pixels, whose covariance is that of the pixels plus
    I / (12 (L - 1)^2). log p is quadratic, so that the mean over u and over the test
    split follows from moments, with no draw.
    num_components: at most; always fewer than dimensions.
    Raises ValueError below two dimensions.
    """
    dims = len(train.mean)
    width = 1.0 / (num_levels - 1) if num_levels else 0.0
    noise = width**2 / 12.0 * np.eye(dims)
    log_density = _fitted_mean_log_density(
        *(jnp.asarray(mean, jnp.float32) for mean in (train.mean, test.mean)),
        *(
            jnp.asarray(split.scatter / split.count + noise, jnp.float32)
            for split in (train, test)
        ),
        min(num_components, dims - 1),
    )
    return -float(log_density) - (dims * math.log(width) if width else 0.0)


def _ppca(
    name: str,
    train: SampleMoments,
    test: SampleMoments,
    spec: DataSpec,
    keep: Keep | None,
) -> Baseline:
    num_components = min(NUM_COMPONENTS, len(train.mean) - 1)
    note = f"probabilistic PCA, {num_components} components, moments of {name}"

    def work() -> dict[str, float]:
        return {"nll_nats": ppca_nll(train, test, num_levels=spec.num_levels)}

    key = "" if keep is None else _hash_of(note, spec.num_levels, train, test)
    nats = (work() if keep is None else keep(key, work))["nll_nats"]
    if not spec.num_levels:
        return Baseline(nats, "exact", f"{note}; density of the points")
    return Baseline(
        nats,
        "lower_bound",
        f"{note}; pixels in [0, 1], log-det -D log {spec.num_levels - 1}; uniform "
        "dequantisation, its mean in closed form",
    )


@functools.partial(jax.jit, static_argnums=4)
def _fitted_mean_log_density(
    train_mean: Float[Array, " D"],
    test_mean: Float[Array, " D"],
    train_cov: Float[Array, "D D"],
    test_cov: Float[Array, "D D"],
    num_components: int,
) -> Float[Array, ""]:
    model = ppca.fit(train_mean, train_cov, num_components)
    return ppca.mean_log_density(model, test_mean, test_cov)


def _hash_of(note: str, num_levels: int, *moments: SampleMoments) -> str:
    """Of all that `ppca_nll` depends on: the data, and what computes it."""
    digest = hashlib.sha256(f"{code()} {note} {num_levels}".encode())
    for of in moments:
        for array in (of.mean, of.scatter, np.array(of.count)):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
