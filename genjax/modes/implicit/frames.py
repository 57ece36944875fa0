"""One checkpoint on the line: both densities, the discriminator, and how they fit."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from genjax.evaluation import pushforward

BINS = 400


@dataclasses.dataclass(frozen=True)
class Line:
    """What all frames share.

    z: the grid on which the generator is known. edges: of BINS equal bins. p_cdf: of
    the data, at the edges.
    """

    z: Float[np.ndarray, " n"]
    edges: Float[np.ndarray, " e"]
    p_cdf: Float[np.ndarray, " e"]

    @property
    def middles(self) -> Float[np.ndarray, " m"]:
        """The middles of the bins."""
        return 0.5 * (self.edges[:-1] + self.edges[1:])

    @property
    def width(self) -> float:
        """The width of a bin."""
        return float(self.edges[1] - self.edges[0])

    @property
    def p(self) -> Float[np.ndarray, " m"]:
        """The data's density, as the mean of each bin."""
        return np.diff(self.p_cdf) / self.width


@dataclasses.dataclass(frozen=True)
class Frame:
    """A checkpoint: x = g(z) on the grid, and D = sigmoid(logit) at the middles."""

    step: int
    line: Line
    x: Float[np.ndarray, " n"]
    d: Float[np.ndarray, " m"]

    @functools.cached_property
    def q_cdf(self) -> Float[np.ndarray, " e"]:
        """The generator's CDF at the edges."""
        return pushforward.pushforward_cdf(self.line.z, self.x, self.line.edges)

    @property
    def q(self) -> Float[np.ndarray, " m"]:
        """The generator's density, as the mean of each bin."""
        return np.diff(self.q_cdf) / self.line.width

    @property
    def optimum(self) -> Float[np.ndarray, " m"]:
        """The best D, p / (p + q), of each bin."""
        return pushforward.optimal_discriminator(self.line.p, self.q)

    def numbers(self) -> dict[str, float]:
        """What `genjax.modes.implicit.mode` writes of a frame.

        jsd in nats, discriminator_gap, wasserstein1 in the unit of x, and outside, the
        mass of q beyond the edges.
        """
        line = self.line
        p, q = (pushforward.masses(cdf) for cdf in (line.p_cdf, self.q_cdf))
        return {
            "jsd": pushforward.jensen_shannon(p, q),
            "discriminator_gap": pushforward.discriminator_gap(
                self.d, p[1:-1], q[1:-1]
            ),
            "wasserstein1": pushforward.wasserstein1(
                line.p_cdf, self.q_cdf, line.edges
            ),
            "outside": float(q[0] + q[-1]),
        }
