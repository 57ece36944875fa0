"""The log-likelihood by the probability-flow ODE.

Along the flow dx/dt = v(x, t) of `ode.velocity` the density changes as

  (1) log p_0(x(0)) = log p_1(x(1)) + int_0^1 div v(x(t), t) dt

(Chen et al. 2018, arXiv:1806.07366, theorem 1; Song et al. 2021, arXiv:2011.13456,
section 4.3 and appendix D.2). p_1 is taken to be the prior, N(0, sigma(1)^2 I), which
on paths with alpha(1) > 0 is nearly true: a data point x at sigma(1) = 1 then is off by
some alpha(1) |x| nats, in either direction, and their mean by about alpha(1)^2 |x|^2.

The result is a density at points x(0). A pixel is no point: add noise to it first
(dequantisation), and the volume of its cell to the logarithm of the density.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.axes import sum_over_dims
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.ode import integrate, velocity
from genjax.diffusion.paths import GaussianPath
from genjax.distributions import normal_log_prob
from genjax.typing import Array, Key

Trace = Literal["hutchinson", "exact"]


def log_likelihood(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    *,
    path: GaussianPath,
    key: Key,
    trace: Trace = "hutchinson",
    prior: Callable[[Array], Array] | None = None,
    tolerance: float = 1e-5,
    end: float = 1e-5,
) -> tuple[Float[Array, " b"], Array]:
    """(log p(x) in nats for each example, evaluations of denoise).

    trace: of dv/dx. "exact" goes through all the dimensions, one reverse-mode pass
        each, and uses no chance; "hutchinson" takes one pass with a random vector of
        signs, the same along the whole path (Grathwohl et al. 2019, arXiv:1810.01367),
        and is unbiased for the integral in (1).
    prior: log p_1 of points, (B, ...) -> (B,), in nats; None: as said above.
    tolerance: of `ode.integrate`. end: x is taken to lie at this time: v may be
        infinite at 0. Both are those of score_sde.
    Raises ValueError for another trace.
    """
    if trace == "hutchinson":
        probes = jax.random.rademacher(key, (1, *x.shape), x.dtype)
    elif trace == "exact":
        size = x[0].size
        basis = jnp.eye(size, dtype=x.dtype).reshape(size, 1, *x.shape[1:])
        probes = jnp.broadcast_to(basis, (size, *x.shape))
    else:
        raise ValueError(f"unknown trace {trace!r}; one of hutchinson, exact")
    flow = velocity(denoise, path)

    def slope(state: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        # reverse mode: a network's own convolution may have no forward mode
        dx_dt, pull = jax.vjp(lambda x: flow(x, t), state[0])

        def add(total: Array, probe: Array) -> tuple[Array, None]:
            return total + sum_over_dims(probe * pull(probe)[0]), None

        divergence, _ = jax.lax.scan(add, jnp.zeros_like(state[1]), probes)
        return dx_dt, divergence

    start = x, jnp.zeros(len(x), x.dtype)
    (x1, change), evaluations = integrate(slope, start, end, 1.0, tolerance=tolerance)
    if prior is None:
        zero, one = jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
        log_p1 = sum_over_dims(normal_log_prob(x1, zero, path.sigma(one)))
    else:
        log_p1 = prior(x1)
    return log_p1 + change, evaluations
