"""What a network may predict, and how each quantity follows from any other.

On a path x_t = alpha x_0 + sigma eps each quantity is q = a x_0 + b eps:

      q          a          b
      x0         1          0
      eps        0          1
      v         -sigma      alpha       (Salimans & Ho 2022, arXiv:2202.00512, app. D)
      velocity   alpha'     sigma'      d x_t / dt at fixed x_0 and eps
      score      0         -1/sigma     E of it given x_t: grad log p(x_t)

Two equations, two unknowns: with the determinant  det = alpha b - sigma a

  (1) x0  = (b x_t - sigma q) / det
  (2) eps = (alpha q - a x_t) / det

and all of it is linear, so it holds for the conditional means given x_t, which are what
a network learns.
"""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
from jaxtyping import Float

from genjax.axes import per_example
from genjax.diffusion.paths import GaussianPath
from genjax.typing import Array

Quantity = Literal["x0", "eps", "v", "velocity", "score"]
Denoise = Callable[[Array, Array], Array]  # (x_t, t) -> E[x0 | x_t]; t scalar or (B,)


def _coefficients(name: Quantity, path: GaussianPath, t: Array) -> tuple[Array, Array]:
    """The factors a and b of the table."""
    zero, one = jnp.zeros_like(t), jnp.ones_like(t)
    match name:
        case "x0":
            return one, zero
        case "eps":
            return zero, one
        case "v":
            return -path.sigma(t), path.alpha(t)
        case "velocity":
            return path.alpha_dot(t), path.sigma_dot(t)
        case "score":
            return zero, -1.0 / path.sigma(t)
    raise ValueError(
        f"unknown quantity {name!r}; one of {', '.join(get_args(Quantity))}"
    )


def determinant(
    name: Quantity, path: GaussianPath, t: Float[Array, "*s"]
) -> Float[Array, "*s"]:
    """The determinant of (1) and (2) for the quantity `name`."""
    a, b = _coefficients(name, path, t)
    return path.alpha(t) * b - path.sigma(t) * a


def quantity(
    x0: Float[Array, " b *d"],
    eps: Float[Array, " b *d"],
    t: Float[Array, " b"] | Float[Array, ""],
    *,
    path: GaussianPath,
    name: Quantity,
) -> Float[Array, " b *d"]:
    """The target of a network that predicts `name`: q = a x_0 + b eps of the table."""
    a, b = _coefficients(name, path, t)
    return per_example(a, x0) * x0 + per_example(b, x0) * eps


def convert(
    value: Float[Array, " b *d"],
    xt: Float[Array, " b *d"],
    t: Float[Array, " b"] | Float[Array, ""],
    *,
    path: GaussianPath,
    source: Quantity,
    target: Quantity,
) -> Float[Array, " b *d"]:
    """The quantity `target` at x_t, from `value`, which is `source` there: (1), (2).

    Needs 0 < t; at t = 1 also det != 0 (eps does not tell x0 where alpha is 0).
    """
    if source == target:
        return value
    alpha, sigma = path.alpha(t), path.sigma(t)
    a, b = _coefficients(source, path, t)
    det = alpha * b - sigma * a
    # each factor is divided first: for the score both b and det are 1/sigma
    x0 = per_example(b / det, xt) * xt - per_example(sigma / det, xt) * value
    if target == "x0":
        return x0
    eps = per_example(alpha / det, xt) * value - per_example(a / det, xt) * xt
    return quantity(x0, eps, t, path=path, name=target)


def as_denoiser(
    net: Callable[[Array, Array], Array], path: GaussianPath, prediction: Quantity
) -> Denoise:
    """denoise(x, t) -> E[x0 | x_t = x], from a network net(x, t) of `prediction`.

    denoise takes t as a scalar or (B,); net always sees (B,).
    """

    def denoise(x: Array, t: Array) -> Array:
        value = net(x, jnp.broadcast_to(t, x.shape[:1]))
        return convert(value, x, t, path=path, source=prediction, target="x0")

    return denoise


def clipped(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """`denoise` with its result held in the data's range, as DDPM's sampler does."""
    return lambda x, t: jnp.clip(denoise(x, t), low, high)
