"""Densities of the plane and the line, known exactly: log-probability, score, samples.

All but the checkerboard are mixtures of K equally likely Gaussians with one width,

    (1)  p(x) = 1/K sum_k N(x; centers_k, sigma^2 I),

perhaps turned by an angle that depends on the distance from the origin (`pinwheel`). So
the moons and the spirals are densities too, not recipes for drawing points: their
Gaussians are strung along the arcs, closer than one sigma to each other.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr

from genjax.typing import Array, Key

Points = Float[Array, "n d"]
Values = Float[Array, " n"]
Modes = Int[Array, " n"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Density:
    """A normalised density p on the plane, or on the line.

    dim: 2 or 1, the numbers a point has.
    log_prob: log p(x), in nats; -inf where p vanishes.
    sample_with_mode: (key, num) -> points and the mode, 0 ... num_modes - 1, of each.
    num_modes: separate pieces: Gaussians of the ring and the grid, arcs, squares.
    centers, sigma: of the Gaussians in (1), for `gaussians8` and `gaussians25`, where
        they are the modes, and for those of the line; otherwise None.
    cdf: P(X <= x) of each x, in float64, on the line; None on the plane.
    """

    log_prob: Callable[[Points], Values]
    sample_with_mode: Callable[[Key, int], tuple[Points, Modes]]
    num_modes: int
    dim: int = 2
    centers: Float[np.ndarray, "k d"] | None = None
    sigma: float | None = None
    cdf: Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]] | None = None

    def score(self, x: Points) -> Points:
        """The gradient of log p; zero for the checkerboard, inside its squares and out.

        (It is piecewise constant: its score does not exist on the edges, and has no
        meaning where p = 0.)
        """
        return jax.grad(lambda points: self.log_prob(points).sum())(x)

    def sample(self, key: Key, num: int) -> Points:
        """Draw num independent points."""
        return self.sample_with_mode(key, num)[0]


def density(name: str) -> Density:
    """The density called `name`, one of NAMES. Raises KeyError for another."""
    return _DENSITIES[name]()


def fixed_samples(
    name: str, seed: int, num_train: int, num_eval: int
) -> list[tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]]:
    """Training and held-out points of a density, with their modes, drawn once."""
    p = density(name)
    train_key, eval_key = jax.random.split(jax.random.key(seed))
    drawn = (
        p.sample_with_mode(train_key, num_train),
        p.sample_with_mode(eval_key, num_eval),
    )
    return [(np.asarray(x), np.asarray(mode)) for x, mode in drawn]


def gaussian_mixture(
    centers: Float[np.ndarray, "k d"],
    sigma: float,
    modes: Int[np.ndarray, " k"] | None = None,
) -> Density:
    """Equation (1). modes: the mode each Gaussian belongs to; None: its own."""
    dim = centers.shape[1]
    log_normalizer = 0.5 * dim * math.log(2 * math.pi * sigma**2) + math.log(
        len(centers)
    )

    def log_prob(x: Points) -> Values:
        square = jnp.sum((x[:, None, :] - centers[None]) ** 2, axis=-1)  # (n, k)
        return jax.nn.logsumexp(-0.5 * square / sigma**2, axis=-1) - log_normalizer

    def sample_with_mode(key: Key, num: int) -> tuple[Points, Modes]:
        component_key, eps_key = jax.random.split(key)
        component = jax.random.randint(component_key, (num,), 0, len(centers))
        eps = jax.random.normal(eps_key, (num, dim))
        x = jnp.asarray(centers, jnp.float32)[component] + sigma * eps
        mode = component if modes is None else jnp.asarray(modes)[component]
        return x, mode

    def cdf(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        away = x.astype(np.float64)[:, None] - centers[None, :, 0]
        return ndtr(away / sigma).mean(axis=1)

    return Density(
        log_prob=log_prob,
        sample_with_mode=sample_with_mode,
        num_modes=len(centers) if modes is None else int(modes.max()) + 1,
        dim=dim,
        centers=centers if modes is None else None,
        sigma=sigma if modes is None else None,
        cdf=cdf if dim == 1 else None,
    )


def _ring(num: int, radius: float) -> Float[np.ndarray, "k 2"]:
    angle = 2 * np.pi * np.arange(num) / num
    return (radius * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)


def gaussians8() -> Density:
    """Eight Gaussians on a ring of radius 2, sigma 0.1: 15 sigma between neighbours."""
    return gaussian_mixture(_ring(8, radius=2.0), 0.1)


def gaussians25() -> Density:
    """A grid, centers {-4, -2, 0, 2, 4}^2, sigma 0.05.

    The protocol of PacGAN (arXiv:1712.04086) for counting modes.
    """
    side = np.arange(-4, 5, 2, dtype=np.float32)
    return gaussian_mixture(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), 0.05)


def moons() -> Density:
    """Two interleaved half circles of radius 1, 32 Gaussians of sigma 0.1 on each.

    The arcs of scikit-learn's make_moons: the upper around (0, 0), the lower around
    (1, 0.5).
    """
    angle = np.pi * (np.arange(32) + 0.5) / 32
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    lower = np.array([1.0, 0.5]) - upper
    centers = np.concatenate([upper, lower]).astype(np.float32)
    return gaussian_mixture(centers, 0.1, np.repeat(np.arange(2), 32))


def spirals() -> Density:
    """Two arms of an Archimedean spiral, 1.5 turns, out to radius 3.

    64 Gaussians of sigma 0.15 on each arm, evenly spaced along it.
    """
    angle = np.linspace(0.5, 3 * np.pi, 2049)
    radius = 3.0 * angle / angle[-1]
    arm = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    steps = np.linalg.norm(np.diff(arm, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    even = np.linspace(0.0, length[-1], 64)
    arm = np.stack([np.interp(even, length, arm[:, i]) for i in range(2)], 1)
    centers = np.concatenate([arm, -arm]).astype(np.float32)
    return gaussian_mixture(centers, 0.15, np.repeat(np.arange(2), 64))


def pinwheel() -> Density:
    """Five blades: strings of Gaussians from the middle outwards, twisted.

    The blade is a row of eight Gaussians, radii 0.6 to 2.7, sigma 0.2; then each point
    x is turned by 0.3 |x|^2. A turn by an angle that depends on |x| alone keeps areas,
    so log p is that of the straight blades at the point turned back.
    """
    radii = np.linspace(0.6, 2.7, 8, dtype=np.float32)
    centers = np.concatenate([_ring(5, radius=r) for r in radii.tolist()])
    straight = gaussian_mixture(centers, 0.2, np.tile(np.arange(5), len(radii)))

    def turn(x: Points, rate: float) -> Points:
        angle = rate * jnp.sum(x**2, axis=-1)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        x1, x2 = x[:, 0], x[:, 1]
        return jnp.stack([cos * x1 - sin * x2, sin * x1 + cos * x2], axis=-1)

    def sample_with_mode(key: Key, num: int) -> tuple[Points, Modes]:
        x, mode = straight.sample_with_mode(key, num)
        return turn(x, 0.3), mode

    return Density(
        log_prob=lambda x: straight.log_prob(turn(x, -0.3)),
        sample_with_mode=sample_with_mode,
        num_modes=5,
    )


def checkerboard() -> Density:
    """Uniform on the 8 black squares, 2 x 2 each, of a 4 x 4 board on [-4, 4)^2."""

    def log_prob(x: Points) -> Values:
        column, row = jnp.floor(x / 2).T
        black = ((column + row) % 2 == 0) & jnp.all((x >= -4) & (x < 4), axis=-1)
        return jnp.where(black, -math.log(32.0), -jnp.inf)

    def sample_with_mode(key: Key, num: int) -> tuple[Points, Modes]:
        square_key, inside_key = jax.random.split(key)
        square = jax.random.randint(square_key, (num,), 0, 8)
        row = square // 2
        column = 2 * (square % 2) + row % 2  # (row + column) is even
        corner = 2.0 * jnp.stack([column, row], -1) - 4.0
        return corner + jax.random.uniform(inside_key, (num, 2), maxval=2.0), square

    return Density(log_prob=log_prob, sample_with_mode=sample_with_mode, num_modes=8)


def gaussian1d() -> Density:
    """N(3, 0.5^2) on the line: six sigma from the origin, where generators begin."""
    return gaussian_mixture(np.array([[3.0]], np.float32), 0.5)


def mixture1d() -> Density:
    """Two Gaussians on the line, at -2 and 2, sigma 0.5."""
    return gaussian_mixture(np.array([[-2.0], [2.0]], np.float32), 0.5)


_DENSITIES = {
    "gaussians8": gaussians8,
    "gaussians25": gaussians25,
    "moons": moons,
    "spirals": spirals,
    "pinwheel": pinwheel,
    "checkerboard": checkerboard,
    "gaussian1d": gaussian1d,
    "mixture1d": mixture1d,
}

NAMES = tuple(_DENSITIES)
