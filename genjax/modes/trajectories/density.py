"""Learned and true densities on a grid of the plane, and how far they are apart."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.data import toy
from genjax.modes.trajectories.scene import Scene
from genjax.pictures.grids import Bounds

Values = Float[np.ndarray, " n"]


class Grid(NamedTuple):
    """The middles of side x side equal cells of a rectangle, x running fastest."""

    bounds: Bounds
    side: int

    @property
    def points(self) -> Float[np.ndarray, "n 2"]:
        """(side^2, 2)."""
        x_min, x_max, y_min, y_max = self.bounds
        middles = (np.arange(self.side) + 0.5) / self.side
        x, y = x_min + (x_max - x_min) * middles, y_min + (y_max - y_min) * middles
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)

    @property
    def cell(self) -> float:
        """The area of a cell."""
        x_min, x_max, y_min, y_max = self.bounds
        return (x_max - x_min) * (y_max - y_min) / self.side**2


def true_density(scene: Scene, grid: Grid) -> Values | None:
    """None for data whose density nobody knows."""
    name = scene.run.settings.data.name
    if name not in toy.NAMES:
        return None
    log_prob = jax.jit(toy.density(name).log_prob)
    return np.exp(np.asarray(log_prob(jnp.asarray(grid.points)), np.float64))


def learned_density(scene: Scene, grid: Grid) -> tuple[Values | None, str]:
    """(exp of log p on the grid, what it is); (None, why there is none).

    Where log p is given the class: the mean over the classes, taken as equally likely.
    """
    likelihood = scene.run.experiment.likelihood
    if likelihood is None:
        return None, "the experiment has no likelihood: samples"
    num_classes = scene.run.spec.num_classes if likelihood.given == "label" else 1
    total = np.zeros(len(grid.points))
    for label in range(num_classes):
        total += np.exp(_log_probs(scene, grid.points, label))
    return total / num_classes, f"learned ({likelihood.kind.replace('_', ' ')})"


def _log_probs(scene: Scene, points: np.ndarray, label: int) -> Values:
    """In chunks of evaluation.batch_size, the last one filled up."""
    likelihood = scene.run.experiment.likelihood
    assert likelihood is not None
    size, num = scene.run.settings.evaluation.batch_size, len(points)
    log_prob = scene.compiled(likelihood.log_prob)
    parts = []
    for c in range(math.ceil(num / size)):
        scene.check_stop()
        rows = np.arange(c * size, (c + 1) * size) % num
        batch = {
            "image": points[rows],
            "label": np.full(size, label, np.int32),
            "index": rows.astype(np.int32),
        }
        parts.append(log_prob(batch, jax.random.fold_in(scene.key, c)))
    return np.concatenate(parts)[:num].astype(np.float64)


def compare(learned: Values, true: Values, cell: float) -> dict[str, float]:
    """learned_mass, total_variation and kl, of densities on cells of one area.

    The last two after division by the sums: half the integral of |p - q|, and that of
    p log(p / q), p being true; infinite where only q vanishes.
    """
    mass = float(learned.sum() * cell)
    p, q = true / true.sum(), learned / learned.sum()
    inside = p > 0
    with np.errstate(divide="ignore"):
        kl = np.sum(p[inside] * (np.log(p[inside]) - np.log(q[inside])))
    return {
        "learned_mass": mass,
        "total_variation": float(0.5 * np.abs(p - q).sum()),
        "kl": float(kl),
    }
