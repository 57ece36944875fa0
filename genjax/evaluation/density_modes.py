"""Which of the known modes a set of samples covers, and how evenly.

The modes are those of a mixture of equal Gaussians, or the classes of a classifier: the
protocols of VEEGAN and PacGAN (Lin et al. 2018, arXiv:1712.04086, sections 4.1, 4.2).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

RADIUS = 3.0  # of a high-quality sample, in sigma


@dataclasses.dataclass(frozen=True)
class Modes:
    """Equally likely Gaussians N(centers_k, sigma^2 I), far from each other."""

    centers: Float[np.ndarray, "k d"]
    sigma: float


def mode_metrics(points: Float[np.ndarray, "n d"], modes: Modes) -> dict[str, float]:
    """The three numbers that are usual for points of known modes.

    high_quality: the share of the points within 3 sigma of their nearest centre; in two
        dimensions exact samples reach 1 - exp(-9/2) = 0.989.
    modes: centres with at least one such point.
    mode_kl: KL(shares of the centres || uniform) in nats, each point counted for its
        nearest centre; from 0 to log K, see `mode_kl_floor`.
    """
    distance = cdist(points, modes.centers)
    nearest, num_modes = distance.argmin(axis=1), len(modes.centers)
    good = distance.min(axis=1) <= RADIUS * modes.sigma
    return {
        "modes": float(len(np.unique(nearest[good]))),
        "high_quality": float(good.mean()),
        "mode_kl": kl_to_uniform(np.bincount(nearest, minlength=num_modes)),
    }


def class_mode_metrics(
    predicted: Int[np.ndarray, " n"], num_classes: int
) -> dict[str, float]:
    """The two numbers that are usual where a classifier's classes are the modes.

    predicted: the class that it reads each sample as.
    modes: classes with at least one sample.
    mode_kl: KL(shares of the classes || uniform) in nats; see `mode_kl_floor`.
    """
    counts = np.bincount(predicted, minlength=num_classes)
    return {
        "modes": float(np.count_nonzero(counts)),
        "mode_kl": kl_to_uniform(counts),
    }


def kl_to_uniform(counts: Int[np.ndarray, " k"]) -> float:
    """KL(counts / their sum || uniform over k) in nats, from 0 to log k."""
    share = counts / counts.sum()
    present = share[share > 0]
    return float(np.sum(present * np.log(present * len(counts))))


def mode_kl_floor(num_modes: int, num_points: int) -> float:
    """What mode_kl is for exact samples, on average: (K - 1) / (2 N) nats.

    2 N mode_kl is the likelihood ratio statistic, of chi-squared law with K - 1 degrees
    of freedom as N grows (Wilks 1938).
    """
    return (num_modes - 1) / (2 * num_points)
