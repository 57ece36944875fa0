"""Where to go in a space of codes: between two, along one dimension, over the plane.

Everything is a (..., D) array of codes, made from codes alone: no model is asked.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

Code = Float[np.ndarray, " d"]
Codes = Float[np.ndarray, "n d"]


def lerp(a: Code, b: Code, t: Float[np.ndarray, " n"]) -> Codes:
    """The straight line: a at t = 0, b at t = 1."""
    weight = t[:, None]
    return ((1.0 - weight) * a[None] + weight * b[None]).astype(a.dtype)


def slerp(a: Code, b: Code, t: Float[np.ndarray, " n"]) -> Codes:
    """The arc around the origin: the angle grows evenly (Shoemake 1985).

    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, with w the angle between a and b.
    In high dimensions codes of N(0, I) lie near a sphere, and so does the arc, while
    the line cuts through its inside (White 2016, arXiv:1609.04468). Where the arc is
    not defined (w = 0, w = pi, a code of 0) this is the line.
    """
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / lengths if lengths else 1.0
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.sin(angle) < 1e-6:
        return lerp(a, b, t)
    from_a, from_b = np.sin((1.0 - t) * angle), np.sin(t * angle)
    walk = from_a[:, None] * a[None] + from_b[:, None] * b[None]
    return (walk / np.sin(angle)).astype(a.dtype)


def widest(codes: Codes, num: int) -> Int[np.ndarray, " k"]:
    """The dimensions in which the codes vary most, the widest first; at most `num`."""
    order = np.argsort(-codes.astype(np.float64).var(axis=0), kind="stable")
    return order[:num]


def traversal(
    codes: Codes, dims: Int[np.ndarray, " k"], steps: int, deviations: float = 3.0
) -> Float[np.ndarray, "k steps d"]:
    """One dimension at a time from mean - 3 to mean + 3 standard deviations.

    The others stay at the mean of the codes.
    """
    mean, spread = codes.mean(axis=0), codes.std(axis=0)
    walk = np.tile(mean, (len(dims), steps, 1))
    for row, dim in enumerate(dims):
        reach = deviations * spread[dim]
        walk[row, :, dim] = mean[dim] + np.linspace(-reach, reach, steps)
    return walk


def manifold_grid(
    side: int, codes: Float[np.ndarray, "m 2"] | None = None
) -> Float[np.ndarray, "n 2"]:
    """Codes of two numbers, side x side of them; rows from above to below.

    codes: evenly spaced percentiles of these, dimension by dimension; None: of N(0, 1)
        (Kingma & Welling 2014, arXiv:1312.6114, appendix A).
    """
    levels = (np.arange(side) + 0.5) / side
    if codes is None:
        across = up = ndtri(levels)
    else:
        across, up = np.quantile(codes, levels, axis=0).T
    x, y = np.meshgrid(across, up[::-1])
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def draw_gaussian(
    codes: Float[np.ndarray, "m d"], num: int, rng: np.random.Generator
) -> Codes:
    """Draws of the Gaussian with the mean and the whole covariance of the codes.

    The simplest density put under a finished autoencoder (Ghosh et al. 2020,
    arXiv:1903.12436, section 4). The covariance itself is never formed: a Gaussian mix
    of the centred codes has it, for any D.
    """
    mean = codes.mean(axis=0)
    weights = rng.standard_normal((num, len(codes))) / np.sqrt(len(codes))
    return (mean[None] + weights @ (codes - mean[None])).astype(codes.dtype)


def random_pairs(
    num_rows: int, num: int, rng: np.random.Generator
) -> Int[np.ndarray, "n 2"]:
    """Pairs of two different rows. Raises ValueError if there are not two."""
    if num_rows < 2:
        raise ValueError(f"a pair takes two rows, and there are {num_rows}")
    first = rng.integers(0, num_rows, num)
    step = rng.integers(1, num_rows, num)
    return np.stack([first, (first + step) % num_rows], axis=1)
