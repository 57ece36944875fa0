"""Multistep solvers in log-SNR: DPM-Solver++ and UniPC, one evaluation a step.

With lambda = log(alpha / sigma), which grows by h from t to s, the probability flow is

  (1) x_s = sigma_s/sigma_t x_t + alpha_s int_0^h e^(u - h) x0(lambda_t + u) du

(Lu et al. 2022, arXiv:2211.01095, proposition 4.1). Only x0 in between is unknown. A
polynomial through x0 at p nodes, lambda_t + h r_j, makes the integral a weighted sum of
them, whose weights w solve

  (2) sum_j w_j r_j^k = I_k,   I_k = int_0^h e^(u - h) (u / h)^k du,   k = 0 ... p - 1.

The nodes are the last p times (predictor), or these and s itself (corrector). For two
unknowns with I_0 / 2 in the place of I_1 it is DPM-Solver++(2M), and UniPC's choice
B(h) = e^h - 1; both agree with (2) as h goes to 0.

Where lambda is infinite (at t = 0, and at t = 1 on paths that end in noise alone) x0 is
taken to be constant, and so is it in the first step.

along: the x at all the times, (n, B, ...), and not only at the last.
"""

from math import factorial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.diffusion.steps import States
from genjax.typing import Array, Key

Times = Float[Array | np.ndarray, " n"]
TERMS = 20  # of the series of I_k, which is used for h < 1


def dpmpp(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Times,
    *,
    path: GaussianPath,
    order: Literal[2, 3] = 2,
    along: bool = False,
) -> States:
    """The x at times[-1], from x at times[0], by DPM-Solver++ 2M or 3M.

    Lu et al. 2022 (arXiv:2211.01095, algorithm 2); 3M has three nodes in (2), and so
    order 3. The 3M of diffusers takes half of the second difference, which makes its
    order 2: it gives other samples.
    """
    grid = _grid(path, jnp.asarray(times, x.dtype), order)
    return _run(denoise, x, grid.t, grid.keep, _predictor(grid), along=along)


def sde_dpmpp(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Times,
    *,
    path: GaussianPath,
    key: Key,
    along: bool = False,
) -> States:
    """Draws of x at times[-1], from x at times[0], by SDE-DPM-Solver++(2M).

    Lu et al. 2022 (arXiv:2211.01095, section 5): the reverse SDE with the flow's
    marginals, whose solution forgets x_t as e^(-2h) where (1) does as e^(-h).
    """
    grid = _grid(path, jnp.asarray(times, x.dtype), 2)
    weights = (1.0 + jnp.exp(-grid.h))[:, None] * _predictor(grid)
    return _run(
        denoise,
        x,
        grid.t,
        grid.keep * jnp.exp(-grid.h),
        weights,  # 1 - e^(-2h) = (1 - e^(-h)) (1 + e^(-h))
        std=grid.sigma_s * jnp.sqrt(-jnp.expm1(-2.0 * grid.h)),
        key=key,
        along=along,
    )


def unipc(
    denoise: Denoise,
    x: Float[Array, " b *d"],
    times: Times,
    *,
    path: GaussianPath,
    order: Literal[2, 3] = 3,
    along: bool = False,
) -> States:
    """The x at times[-1], from x at times[0], by UniPC with B(h) = e^h - 1 ("bh2").

    Zhao et al. 2023 (arXiv:2302.04867, section 3, data prediction). The predictor is
    `dpmpp`'s. x0 at the predicted point corrects the step that led there, one order
    higher, and serves the next step too. The last step stays uncorrected.
    """
    grid = _grid(path, jnp.asarray(times, x.dtype), order)
    return _run(
        denoise,
        x,
        grid.t,
        grid.keep,
        _predictor(grid),
        corrector=_corrector(grid),
        along=along,
    )


def _run(
    denoise: Denoise,
    x: Array,
    t: Array,  # (n,)
    keep: Array,  # (n,)
    weights: Array,  # (n, order)
    *,
    corrector: Array | None = None,  # (n, order + 1)
    std: Array | None = None,  # (n,)
    key: Key | None = None,
    along: bool,
) -> Array:
    """Takes n linear steps x_s = keep x_t + sum_j weights_j x0_j + std noise.

    x0_j: the newest first; for the corrector x0 at s stands before them.
    along: all x, before their correction.
    """
    num_steps, order = weights.shape
    correct = None
    if corrector is not None:
        # step i begins with the correction of step i - 1; none at i = 0
        nothing = jnp.zeros_like(corrector[:1])
        ones = jnp.ones_like(keep[:1])
        correct = (
            jnp.concatenate([ones, keep[:-1]]),
            jnp.concatenate([nothing, corrector[:-1]]),
        )
    noise = None if key is None else (std, jax.random.split(key, num_steps))

    def step(carry: tuple[Array, Array, Array], now) -> tuple:
        before, x, x0s = carry
        t, keep, weights, correct, noise = now
        x0s = jnp.concatenate([denoise(x, t)[None], x0s])  # (order + 1, B, ...)
        if correct is not None:
            x = correct[0] * before + _weighted(correct[1], x0s)
        x0s = x0s[:-1]
        xs = keep * x + _weighted(weights, x0s)
        if noise is not None:
            xs = xs + noise[0] * jax.random.normal(noise[1], x.shape, x.dtype)
        return (x, xs, x0s), xs if along else None

    start = x, x, jnp.zeros((order, *x.shape), x.dtype)
    steps = t, keep, weights, correct, noise
    (_, last, _), states = jax.lax.scan(step, start, steps)
    return jnp.concatenate([x[None], states]) if along else last


def _weighted(weights: Array, values: Array) -> Array:
    # no matrix product: an accelerator would round its factors
    return jnp.sum(weights.reshape(-1, *(1 for _ in values.shape[1:])) * values, axis=0)


# --- weights --------------------------------------------------------------------------


class _Grid(NamedTuple):
    """What (1) and (2) need of n steps from t to s."""

    t: Array  # (n,)
    alpha_s: Array  # (n,)
    sigma_s: Array  # (n,)
    keep: Array  # (n,): sigma_s / sigma_t
    h: Array  # (n,), perhaps infinite
    nodes: Array  # (n, order): r_j <= 0 of t and the times before; -j where unusable
    usable: Array  # (n,): how many nodes there are, 1 ... order


def _grid(path: GaussianPath, times: Array, order: int) -> _Grid:
    half_logsnr = 0.5 * path.logsnr(times)
    start, h = half_logsnr[:-1], jnp.diff(half_logsnr)
    age = jnp.arange(order)[None]
    source = jnp.arange(len(h))[:, None] - age  # (n, order)
    earlier = start[jnp.maximum(source, 0)]
    known = (source >= 0) & jnp.isfinite(earlier) & jnp.isfinite(h)[:, None]
    nodes = jnp.where(known, (earlier - start[:, None]) / h[:, None], -1.0 * age)
    usable = jnp.sum(jnp.cumprod(known, axis=1), axis=1)
    return _Grid(
        t=times[:-1],
        alpha_s=path.alpha(times[1:]),
        sigma_s=path.sigma(times[1:]),
        keep=path.sigma(times[1:]) / path.sigma(times[:-1]),
        h=h,
        nodes=nodes,
        usable=jnp.maximum(usable, 1),
    )


def _predictor(grid: _Grid) -> Array:
    """Weights (n, order) of x0 at t and the times before."""
    order = grid.nodes.shape[1]
    integrals = _integrals(grid.h, order)
    choices = []
    for p in range(1, order + 1):
        moments = integrals[:, :p]
        if p == 2:  # I_0 / 2 for I_1
            moments = integrals[:, :1] * jnp.array([1.0, 0.5], grid.h.dtype)[None]
        choices.append(_solve(grid.nodes[:, :p], moments, order))
    return grid.alpha_s[:, None] * _pick(choices, grid.usable)


def _corrector(grid: _Grid) -> Array:
    """Weights (n, order + 1) of x0 at s, at t and the times before."""
    order = grid.nodes.shape[1]
    integrals = _integrals(grid.h, order + 1)
    nodes = jnp.concatenate([jnp.ones_like(grid.nodes[:, :1]), grid.nodes], axis=1)
    half = jnp.array([0.5, 0.5] + [0.0] * (order - 1), grid.h.dtype)
    choices = [integrals[:, :1] * half[None]]  # I_0 / 2 for I_1
    for p in range(2, order + 1):
        choices.append(_solve(nodes[:, : p + 1], integrals[:, : p + 1], order + 1))
    constant = integrals[:, :1] * jnp.eye(order + 1, dtype=grid.h.dtype)[1:2]
    weights = _pick(choices, grid.usable)
    weights = jnp.where(jnp.isfinite(grid.h)[:, None], weights, constant)
    return grid.alpha_s[:, None] * weights


def _pick(choices: list[Array], usable: Array) -> Array:
    """choices[usable - 1], row by row."""
    return jnp.take_along_axis(
        jnp.stack(choices, axis=1), (usable - 1)[:, None, None], axis=1
    )[:, 0]


def _solve(nodes: Array, moments: Array, width: int) -> Array:
    """The weights of (2), (n, p), filled up with zeros to (n, width)."""
    p = nodes.shape[1]
    powers = nodes[:, None, :] ** jnp.arange(p)[None, :, None]  # (n, k, j)
    weights = jnp.linalg.solve(powers, moments[..., None])[..., 0]
    return jnp.pad(weights, ((0, 0), (0, width - p)))


def _integrals(h: Array, num: int) -> Array:
    """I_0 ... I_{num - 1} of (2), (n, num). For infinite h only I_0 has a meaning."""
    short = jnp.minimum(h, 1.0)
    m = np.arange(TERMS)
    factors = np.array(
        [
            [(-1) ** i * factorial(k) / factorial(i + k + 1) for i in m]
            for k in range(num)
        ]
    )
    powers = short[:, None, None] ** (m + 1)[None, None]
    series = jnp.sum(jnp.asarray(factors, h.dtype)[None] * powers, axis=-1)
    long = jnp.where(jnp.isfinite(h), jnp.maximum(h, 1.0), 1.0)
    by_parts = [-jnp.expm1(-h)]
    for k in range(1, num):
        by_parts.append(1.0 - k / long * by_parts[-1])
    return jnp.where(h[:, None] < 1.0, series, jnp.stack(by_parts, axis=1))
