"""Learned and true densities on a grid of the plane, and how far they are apart."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.data import toy
from genjax.pictures.grids import Bounds
from genjax.trajectories.view import View

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
        """The area of one."""
        x_min, x_max, y_min, y_max = self.bounds
        return (x_max - x_min) * (y_max - y_min) / self.side**2


def true_density(view: View, grid: Grid) -> Values | None:
    """None for data whose density nobody knows."""
    name = view.setup.config.data.name
    if name not in toy.NAMES:
        return None
    log_prob = jax.jit(toy.density(name).log_prob)
    return np.exp(np.asarray(log_prob(jnp.asarray(grid.points)), np.float64))


def learned_density(view: View, grid: Grid) -> tuple[Values | None, str]:
    """(exp of log_likelihood on the grid, what it is); (None, why there is none).

    Of a model with classes: the mean over the classes, which are taken as equally
    likely.
    """
    experiment = view.setup.experiment
    if experiment.log_likelihood is None:
        return None, "the experiment has no likelihood: samples"
    num_classes = view.setup.config.model.get("num_classes", 0)
    total = np.zeros(len(grid.points))
    for label in range(max(num_classes, 1)):
        total += np.exp(_log_likelihoods(view, grid.points, label))
    kind = (experiment.likelihood_kind or "").replace("_", " ")
    return total / max(num_classes, 1), f"learned ({kind})"


def _log_likelihoods(view: View, points: np.ndarray, label: int) -> Values:
    """In chunks of eval.batch_size, the last one filled up."""
    log_likelihood = view.setup.experiment.log_likelihood
    assert log_likelihood is not None
    size, num = view.setup.config.eval.batch_size, len(points)
    run = view.compiled(log_likelihood)
    parts = []
    for c in range(math.ceil(num / size)):
        view.check_stop()
        rows = np.arange(c * size, (c + 1) * size) % num
        batch = {
            "image": points[rows],
            "label": np.full(size, label, np.int32),
            "index": rows.astype(np.int32),
        }
        parts.append(run(batch, jax.random.fold_in(view.key, c)))
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
