"""Guidance: wrappers around denoisers, which push x0_hat away from a weaker model's.

Given denoise(x, t) of a conditional model, of the same model given no class ("null"),
and of a weaker version of the model given the same class ("guide"), their difference
is made larger:

  (1) guided = conditional + (scale - 1) (conditional - null)
                           + (guide_scale - 1) (conditional - guide)

The first difference is classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598,
eq. 6, whose w is scale - 1), the second autoguidance (Karras et al. 2024,
arXiv:2406.02507, section 3, whose w is guide_scale). Both at once is their plain sum.
The papers mix eps or D; mixing x0 is the same, since quantities of one x_t differ from
multiples of x0 by terms in x_t, and the weights in (1) sum to one.

Rescaling (Lin et al. 2024, arXiv:2305.08891, eqs. 15-16), with the standard deviation
over all dimensions of an example and phi = rescale:

  (2) x0 = (phi std(conditional) / std(guided) + 1 - phi) guided

The paper applies (2) to its network's output, which is v. Here it is x0, which does not
depend on how the network was parameterised: guidance inflates the contrast of the
predicted image. At alpha = 0, the end that the paper cares for, v is -x0 and the two
agree.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.axes import per_example
from genjax.diffusion.denoiser import Denoise
from genjax.diffusion.paths import GaussianPath
from genjax.typing import Array


def guided(
    conditional: Denoise,
    *,
    null: Denoise | None = None,
    guide: Denoise | None = None,
    scale: float = 1.0,
    guide_scale: float = 1.0,
    interval: tuple[float, float] = (0.0, 1.0),
    rescale: float = 0.0,
) -> Denoise:
    """The denoiser (1), rescaled by (2), in the interval; conditional outside of it.

    scale, guide_scale: 1 leaves that difference out and never evaluates its model.
    interval: (low, high), both included; low > high is empty. Guidance only at
        middle noise levels leaves more variety (Kynkaanniemi et al. 2024,
        arXiv:2404.07724, section 3). It is in t: for EDM's path t = sigma / sigma_max.
    rescale: phi of (2), from 0 (none) to 1.

    Cost: one evaluation of conditional, and one of each model whose scale is not 1, at
    every t: a sampler is one compiled loop, whose steps all do the same, so outside of
    the interval the others are evaluated too and not used. An empty interval costs
    nothing.
    Raises ValueError for a scale without its model.
    """
    low, high = interval
    weaker: list[tuple[float, Denoise]] = []
    for name, model, weight in [("null", null, scale), ("guide", guide, guide_scale)]:
        if weight == 1.0:
            continue
        if model is None:
            raise ValueError(f"a scale of {weight} needs the denoiser {name!r}")
        weaker.append((weight, model))
    if not weaker or low > high:
        return conditional

    def denoise(x: Array, t: Array) -> Array:
        plain = conditional(x, t)
        x0 = plain
        for weight, model in weaker:  # (1)
            x0 = x0 + (weight - 1.0) * (plain - model(x, t))
        x0 = rescaled(x0, plain, rescale) if rescale else x0
        if low <= 0.0 and high >= 1.0:
            return x0
        time = per_example(t, x0)
        return jnp.where((time >= low) & (time <= high), x0, plain)

    return denoise


def rescaled(
    x0: Float[Array, " b *d"], like: Float[Array, " b *d"], amount: float
) -> Float[Array, " b *d"]:
    """(2): at amount 1 each example has the standard deviation of `like`."""
    axes = tuple(range(1, x0.ndim))
    own = jnp.std(x0, axis=axes, keepdims=True)
    wanted = jnp.std(like, axis=axes, keepdims=True)
    ratio = wanted / jnp.maximum(own, jnp.finfo(own.dtype).tiny)
    return (amount * ratio + 1.0 - amount) * x0


def classifier(
    denoise: Denoise,
    log_prob: Callable[[Array, Array], Array],
    scale: float,
    *,
    path: GaussianPath,
) -> Denoise:
    """`denoise` pushed towards a class by a classifier of noisy examples.

    Dhariwal & Nichol 2021 (arXiv:2105.05233, algorithm 2, in terms of x0): the mean
    moves by scale sigma^2 / alpha times the gradient of log p_t(y | x). For an
    unconditional denoiser and scale 1 that is Bayes' rule, and gives the conditional
    one; more than 1 sharpens the class.

    log_prob: (x_t, t) -> (B,) log p_t(y | x_t) of the class that is wanted, in nats.
    Needs alpha(t) > 0: start a path that ends at alpha = 0 just before t = 1. Costs a
    gradient of log_prob beside the evaluation.
    """

    def denoise_to_class(x: Array, t: Array) -> Array:
        gradient = jax.grad(lambda x: jnp.sum(log_prob(x, t)))(x)
        factor = scale * jnp.square(path.sigma(t)) / path.alpha(t)
        return denoise(x, t) + per_example(factor, x) * gradient

    return denoise_to_class
