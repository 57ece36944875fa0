"""The probability-flow ODE: a deterministic map of noise to data and back.

With eps = (x - alpha x0) / sigma and x0 = denoise(x, t)

  (1) dx/dt = alpha'(t) x0 + sigma'(t) eps

has the marginals of the path (Song et al. 2021, arXiv:2011.13456, eq. 13, written for
any path). `multistep` solves the same flow in log-SNR.

`euler`, `midpoint` and `heun` step in t; on paths that say so (`paths.ve`) in sigma, as
EDM does (Karras et al. 2022, arXiv:2206.00364, section 3): there alpha = 1, and (1) is
dx/dsigma = eps.

A step that ends at t = 0 is x = denoise(x, t) instead, one evaluation: sigma' may be
infinite at 0, and no network is trained there.

along: the x at all the times, (n, B, ...), and not only at the last.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.axes import sum_over_dims
from genjax.diffusion.denoiser import Denoise, convert
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.steps import States, scan_steps
from genjax.typing import Array, Key

Times = Float[Array | np.ndarray, " n"]
Slope = Callable[[Array, Array], Array]


def velocity(denoise: Denoise, path: GaussianPath) -> Slope:
    """dx/dt of (1) as a function of x and t > 0."""

    def slope(x: Array, t: Array) -> Array:
        x0 = denoise(x, t)
        return convert(x0, x, t, path=path, source="x0", target="velocity")

    return slope


class _Clock(NamedTuple):
    """What the steps are taken in. slope: dx/du at (x, t). of: u(t). time: t(u)."""

    slope: Slope
    of: Callable[[Array], Array]
    time: Callable[[Array], Array]


def _clock(denoise: Denoise, path: GaussianPath) -> _Clock:
    if not path.steps_in_sigma:
        return _Clock(velocity(denoise, path), lambda t: t, lambda t: t)

    def eps(x: Array, t: Array) -> Array:
        return convert(denoise(x, t), x, t, path=path, source="x0", target="eps")

    return _Clock(eps, path.sigma, lambda sigma: path.time(-2.0 * jnp.log(sigma)))


def euler(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Times,
    *,
    path: GaussianPath,
    along: bool = False,
) -> States:
    """The x at times[-1], from x at times[0], by Euler's method.

    Order 1, one evaluation a step. The times may also rise, from above 0.
    """
    clock = _clock(denoise, path)

    def step(xt: Array, t: Array, s: Array) -> Array:
        return xt + (clock.of(s) - clock.of(t)) * clock.slope(xt, t)

    return _scan(step, denoise, x, times, along)


def midpoint(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Times,
    *,
    path: GaussianPath,
    along: bool = False,
) -> States:
    """The x at times[-1], from x at times[0], by the midpoint method.

    Order 2, two evaluations a step. The times may also rise, from above 0.
    """
    clock = _clock(denoise, path)

    def step(xt: Array, t: Array, s: Array) -> Array:
        here, there = clock.of(t), clock.of(s)
        middle = 0.5 * (here + there)
        halfway = xt + (middle - here) * clock.slope(xt, t)
        return xt + (there - here) * clock.slope(halfway, clock.time(middle))

    return _scan(step, denoise, x, times, along)


def heun(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Times,
    *,
    path: GaussianPath,
    key: Key | None = None,
    churn: float = 0.0,
    churn_range: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
    along: bool = False,
) -> States:
    """The x at times[-1], from x at times[0], by Heun's method, with EDM's churn.

    Karras et al. 2022 (arXiv:2206.00364, algorithm 2): order 2, two evaluations a step.
    On `paths.edm` it is theirs; on other paths sigma / alpha stands for their sigma.
    churn noises x before a step, back to the time where sigma / alpha is 1 + churn /
    (number of steps) times what it was, at most sqrt(2) times, and at most to t = 1.

    churn: S_churn; 0 is deterministic and needs no key; then the times may also rise.
    churn_range: S_tmin and S_tmax, the sigma / alpha between which x is noised.
    churn_noise: S_noise, a factor of the noise.
    Raises ValueError if churn > 0 comes without a key.
    """
    clock = _clock(denoise, path)

    def step(xt: Array, t: Array, s: Array) -> Array:
        return _heun_step(clock, xt, t, s)

    if churn == 0.0:
        return _scan(step, denoise, x, times, along)
    if key is None:
        raise ValueError(f"heun with churn={churn} draws noise: give a key")

    times = jnp.asarray(times, x.dtype)
    num_steps = len(times) - 1
    factor = 1.0 + min(churn / num_steps, math.sqrt(2.0) - 1.0)
    back, keep, std = _noised_back(path, times[:-1], factor, churn_range)

    def noisy_step(xt: Array, now: tuple[Array, ...]) -> tuple[Array, None]:
        t, s, keep, std, step_key = now
        noise = jax.random.normal(step_key, xt.shape, xt.dtype)
        xt = keep * xt + churn_noise * std * noise
        return _step_or_denoise(step, denoise, xt, t, s), None

    keys = jax.random.split(key, num_steps)
    steps = back, times[1:], keep, std, keys
    return scan_steps(noisy_step, x, steps, along=along)


def invert(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Times,
    *,
    path: GaussianPath,
    along: bool = False,
) -> States:
    """The noise at times[0] from which the flow leads to x: `heun`, upwards.

    times: falling, as for sampling. A last time of 0 is left out: x is taken to lie at
    the time before it, where there should be hardly any noise.
    along: the first of the states is x and the last the noise.
    """
    clock = _clock(denoise, path)
    times = jnp.asarray(times, x.dtype)[::-1]

    def step(xt: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        t, s = now
        up = jax.lax.cond(
            t > 0.0, lambda xt: _heun_step(clock, xt, t, s), lambda xt: xt, xt
        )
        return up, None

    return scan_steps(step, x, (times[:-1], times[1:]), along=along)


def adaptive(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    *,
    path: GaussianPath,
    start: float | Array = 1.0,
    end: float | Array = 1e-3,
    tolerance: float = 1e-4,
) -> tuple[Float[Array, " b *d"], Array]:
    """(x at 0, evaluations used), with steps as long as the tolerance allows.

    Solves (1) from x at start to end > 0 (`integrate`), then denoises once.
    """
    x, evaluations = integrate(
        velocity(denoise, path), x, start, end, tolerance=tolerance
    )
    return denoise(x, jnp.asarray(end, x.dtype)), evaluations + 1


def integrate(
    slope: Callable[[Any, Array], Any],
    state: Any,
    start: float | Array,
    end: float | Array,
    *,
    tolerance: float,
) -> tuple[Any, Array]:
    """(state at end, evaluations of slope) of d state / dt = slope(state, t).

    Dormand & Prince's pair of orders 5 and 4, as in scipy's RK45, in one loop on the
    device. A step, the same for the whole batch, is taken if the root mean square over
    all numbers of error / (tolerance (1 + |state|)) is at most 1.
    NaN where 10,000 steps do not suffice, as of a model that has diverged.
    """
    import diffrax  # late: it takes half a second

    dtype = jax.tree.leaves(state)[0].dtype
    # Plain numbers stay plain: other times diffrax checks when run, by a call of the
    # host, and a program with such a call is not kept in the compilation cache.
    start, end = (
        t.astype(dtype) if isinstance(t, jax.Array) else t for t in (start, end)
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: slope(y, jnp.asarray(t, dtype))),
        diffrax.Dopri5(),
        start,
        end,
        dt0=0.01 * (end - start),
        y0=state,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=10_000,
        throw=False,
    )
    assert solution.ys is not None
    solved = solution.result == diffrax.RESULTS.successful
    last = jax.tree.map(lambda y: jnp.where(solved, y[-1], jnp.nan), solution.ys)
    # six new stages a step, taken or not; the seventh is the first of the next
    return last, 6 * jnp.asarray(solution.stats["num_steps"]) + 1


def path_energy(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    path: GaussianPath,
    num_steps: int = 100,
) -> Float[Array, " b"]:
    """The integral of |dx/dt|^2 along the trajectory from each noise x, by Euler.

    On `paths.rectified_flow` its mean is at least the squared Wasserstein-2 distance of
    noise and data, and equal where the flow is the optimal transport (Benamou & Brenier
    2000): straight paths that do not cross.
    """
    flow = velocity(denoise, path)

    def step(x: Array, t: Array) -> tuple[Array, Array]:
        v = flow(x, t)
        return x - v / num_steps, sum_over_dims(jnp.square(v))

    times = jnp.linspace(1.0, 0.0, num_steps + 1)[:-1]
    return jnp.mean(jax.lax.scan(step, x, times)[1], axis=0)


def _heun_step(clock: _Clock, xt: Array, t: Array, s: Array) -> Array:
    stride, first = clock.of(s) - clock.of(t), clock.slope(xt, t)
    return xt + stride * 0.5 * (first + clock.slope(xt + stride * first, s))


def _noised_back(
    path: GaussianPath, t: Array, factor: float, inside: tuple[float, float]
) -> tuple[Array, Array, Array]:
    """Times where sigma / alpha is `factor` times that at t, and how to get there.

    x there is keep x_t + std noise. Outside the range of sigma / alpha it is x_t.
    """
    logsnr = path.logsnr(t)
    level = jnp.exp(-0.5 * logsnr)
    wanted = (level >= inside[0]) & (level <= inside[1])
    back = path.time(logsnr - 2.0 * math.log(factor))
    churned = wanted & (back > t)
    back = jnp.where(churned, back, t)
    keep = jnp.where(churned, path.alpha(back) / path.alpha(t), 1.0)
    added = jnp.square(path.sigma(back)) - jnp.square(keep * path.sigma(t))
    return back, keep, jnp.sqrt(jnp.maximum(added, 0.0))


def _scan(
    step: Callable[[Array, Array, Array], Array],
    denoise: Denoise,
    x: Array,
    times: Array | np.ndarray,
    along: bool,
) -> Array:
    """step(x, t, s) over neighbouring times t, s; denoise where s is 0."""
    times = jnp.asarray(times, x.dtype)

    def body(xt: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        return _step_or_denoise(step, denoise, xt, *now), None

    return scan_steps(body, x, (times[:-1], times[1:]), along=along)


def _step_or_denoise(step, denoise: Denoise, xt: Array, t: Array, s: Array) -> Array:
    return jax.lax.cond(
        s > 0.0, lambda xt: step(xt, t, s), lambda xt: denoise(xt, t), xt
    )
