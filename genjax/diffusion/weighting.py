"""How much a loss weighs each noise level, whichever quantity the network predicts.

For given x_t the errors of all quantities q = a x_0 + b eps of `denoiser` are the same
up to a factor: alpha dx_0 + sigma deps = 0, so dq = -(det / sigma) dx_0 with the
determinant det = alpha b - sigma a, and

  (1) w_p |dp|^2 = w_q |dq|^2    for    w_q = w_p (det_p / det_q)^2.

On paths with alpha^2 + sigma^2 = 1 that is, for the SNR alpha^2 / sigma^2,
w_eps = w_x0 / SNR and w_v = w_x0 / (SNR + 1).

A weight multiplies the loss at the times that an experiment draws. Papers that write
the loss as an integral over the log-SNR (Kingma & Gao) have a factor -d logSNR / dt
beside it for uniform t; here how often a level is seen stays the experiment's choice.
"""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from genjax.diffusion.denoiser import Quantity, determinant
from genjax.diffusion.paths import GaussianPath
from genjax.fields import Positive
from genjax.typing import Array

WeightingName = Literal["simple", "min_snr", "sigmoid"]
WEIGHTINGS: tuple[WeightingName, ...] = get_args(WeightingName)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighting:
    """config.method.weighting: (t, path, prediction) -> the factor (`weight`)."""

    name: WeightingName = "simple"  # how much the error at each noise level counts
    min_snr_gamma: Positive = 5.0  # of "min_snr"
    sigmoid_bias: float = 2.0  # of "sigmoid"

    def __call__(self, t: Array, path: GaussianPath, prediction: Quantity) -> Array:
        """The factor of the squared error of `prediction` at t."""
        return weight(
            self.name,
            t,
            path=path,
            prediction=prediction,
            min_snr_gamma=self.min_snr_gamma,
            sigmoid_bias=self.sigmoid_bias,
        )


def weight(
    name: WeightingName,
    t: Float[Array, "*s"],
    *,
    path: GaussianPath,
    prediction: Quantity,
    min_snr_gamma: float = 5.0,
    sigmoid_bias: float = 2.0,
) -> Float[Array, "*s"]:
    """The factor of the squared error of `prediction` at t.

    simple: 1. Which weighting that is depends on the prediction.
    min_snr: min(SNR, gamma) for x0 (Hang et al. 2023, arXiv:2303.09556).
    sigmoid: sigmoid(bias - logSNR) for eps (Kingma & Gao 2023, arXiv:2303.00848;
        Hoogeboom et al. 2024, arXiv:2410.19324). With bias 0 it is P2 with k and gamma
        1, 1 / (1 + SNR) (Choi et al. 2022, arXiv:2204.00227).
    """
    match name:
        case "simple":
            return jnp.ones_like(t)
        case "min_snr":
            value = jnp.minimum(jnp.exp(path.logsnr(t)), min_snr_gamma)
            return convert_weight(value, t, path=path, source="x0", target=prediction)
        case "sigmoid":
            value = jax.nn.sigmoid(sigmoid_bias - path.logsnr(t))
            return convert_weight(value, t, path=path, source="eps", target=prediction)
    raise ValueError(f"unknown weighting {name!r}; one of {', '.join(WEIGHTINGS)}")


def convert_weight(
    weight: Float[Array, "*s"],
    t: Float[Array, "*s"],
    *,
    path: GaussianPath,
    source: Quantity,
    target: Quantity,
) -> Float[Array, "*s"]:
    """The weight of errors of `target` that is `weight` of errors of `source`: (1).

    Needs 0 < t; at t = 1 also alpha != 0 where the target is eps or the score.
    """
    if source == target:
        return weight
    ratio = determinant(source, path, t) / determinant(target, path, t)
    return weight * jnp.square(ratio)


# --- learned --------------------------------------------------------------------------

# The log-SNR at which u has its weights: a table in the place of EDM2's small network,
# so that what is learned at one noise level does not move u at the others.
NODES = np.arange(-20.0, 21.0)


def initial_uncertainty() -> Float[Array, " k"]:
    """Weights of `uncertainty` for which it is 0."""
    return jnp.zeros(len(NODES))


def uncertainty(
    weights: Float[Array, " k"], logsnr: Float[Array, "*s"]
) -> Float[Array, "*s"]:
    """u(logSNR): the weights at NODES, straight in between, and constant beyond."""
    return jnp.interp(logsnr, jnp.asarray(NODES), weights)


def uncertain(loss: Float[Array, "*s"], u: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The loss over exp(u), plus u: least where exp(u) is the mean of the losses.

    So trained together with the network, u at each noise level follows the logarithm of
    the loss there, and all levels weigh the same (Karras et al. 2024, arXiv:2312.02696,
    "uncertainty"; for several tasks Kendall et al. 2018, arXiv:1705.07115).
    """
    return loss * jnp.exp(-u) + u
