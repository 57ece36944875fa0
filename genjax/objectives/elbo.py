"""Bounds on log p(x) for models with a latent code z, in nats, one value an example.

With a posterior q(z|x) that approximates p(z|x), and z_1 ... z_k drawn from it,

  (1) log p(x) >= ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z))
  (2) log w_i = log p(x|z_i) + log p(z_i) - log q(z_i|x)
  (3) log p(x) >= L_k = E[log (1/k) sum_i w_i], L_1 = ELBO, L_k <= L_{k+1}

(1) is Kingma & Welling 2014 (arXiv:1312.6114, eq. 3); (2), (3) are Burda et al. 2016
(arXiv:1509.00519, eq. 8 and theorem 1). As k grows, L_k goes to log p(x).

The gradient of (3) in the weights of q has a variance that grows with k. With the
normalised weights v_i = w_i / sum_j w_j, and z_i = z(eps_i, phi), the same gradient is

  (4) grad_phi L_k = E[sum_i v_i^2 (d log w_i / d z_i) (d z_i / d phi)]

where log q is not derived by its parameters (Tucker et al. 2019, arXiv:1810.04152, eq.
7). For k = 1 this is "sticking the landing" (Roeder et al. 2017, arXiv:1703.09194).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Float

from genjax.distributions import normal_log_prob, standard_normal_kl
from genjax.fields import Count
from genjax.typing import Array, Key, Metrics

LogPx = Callable[[Float[Array, "k b d"]], Float[Array, "k b"]]
"""z -> log p(x|z), of k codes of each example."""

LogWeights = Callable[[Key, int], Float[Array, "k b"]]
"""(key, k) -> (2) of k new codes of each example."""


class Gaussian(NamedTuple):
    """Diagonal Gaussians over codes, one an example: q(z|x), most often."""

    mean: Float[Array, "*b d"]
    logvar: Float[Array, "*b d"]

    def draw(self, key: Key) -> Float[Array, "*b d"]:
        """One code of each, differentiable in both."""
        eps = jax.random.normal(key, self.mean.shape)
        return self.mean + jnp.exp(0.5 * self.logvar) * eps

    def log_prob(self, z: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """Of one code of each, summed over d."""
        log_prob = normal_log_prob(z, self.mean, jnp.exp(0.5 * self.logvar))
        return jnp.sum(log_prob, axis=-1)

    def kl(self) -> Float[Array, "*b d"]:
        """KL(q || N(0, I)) of each dimension."""
        return standard_normal_kl(self.mean, self.logvar)


def reparameterize(
    key: Key, mean: Float[Array, "b d"], logvar: Float[Array, "b d"], num: int
) -> Float[Array, "k b d"]:
    """`num` draws of N(mean, exp(logvar)), differentiable in both."""
    eps = jax.random.normal(key, (num, *mean.shape))
    return mean[None] + jnp.exp(0.5 * logvar)[None] * eps


def log_normal(
    z: Float[Array, "k b d"], mean: Float[Array, "b d"], logvar: Float[Array, "b d"]
) -> Float[Array, "k b"]:
    """The log of N(z; mean, diag exp(logvar)), summed over d."""
    log_prob = normal_log_prob(z, mean[None], jnp.exp(0.5 * logvar)[None])
    return jnp.sum(log_prob, axis=-1)


def log_standard_normal(z: Float[Array, "*k d"]) -> Float[Array, "*k"]:
    """The log of N(z; 0, I), summed over d."""
    return -0.5 * jnp.sum(jnp.square(z) + math.log(2 * math.pi), axis=-1)


def log_weights(
    log_px: Float[Array, "k b"],
    z: Float[Array, "k b d"],
    mean: Float[Array, "b d"],
    logvar: Float[Array, "b d"],
) -> Float[Array, "k b"]:
    """(2), for z drawn from N(mean, exp(logvar)) and log_px = log p(x|z)."""
    return log_px + log_standard_normal(z) - log_normal(z, mean, logvar)


def importance_bound(log_weights: Float[Array, "k b"]) -> Float[Array, " b"]:
    """(3) by one draw: log of the mean of k weights."""
    return logsumexp(log_weights, axis=0) - math.log(len(log_weights))


def iwae_loss(log_weights: Float[Array, "k b"]) -> tuple[Array, Metrics]:
    """Minus (3), a mean over examples, with its plain gradient; and both bounds."""
    bound = importance_bound(log_weights).mean()
    return -bound, {"iwae_bound": bound, "elbo": log_weights.mean()}


def dreg_surrogate(
    log_weight: Callable[[Float[Array, "k b d"]], Float[Array, "k b"]],
    z: Float[Array, "k b d"],
) -> Float[Array, " b"]:
    """A number whose gradient is that of (3), by (4) for what z depends on.

    log_weight(z): (2), in which the parameters of q must be behind stop_gradient. The
    value itself means nothing; take `importance_bound` for the bound.
    """
    weights = jax.nn.softmax(log_weight(jax.lax.stop_gradient(z)), axis=0)
    weights = jax.lax.stop_gradient(weights)
    log_weights = log_weight(scale_gradient(z, weights[..., None]))
    return jnp.sum(weights * log_weights, axis=0)


@jax.custom_vjp
def scale_gradient(x: Array, factor: Array) -> Array:
    """x, through which gradients pass multiplied by factor (which gets none)."""
    return x


scale_gradient.defvjp(
    lambda x, factor: (x, factor),
    lambda factor, cotangent: (cotangent * factor, jnp.zeros_like(factor)),
)


def free_bits(kl: Float[Array, "b d"], minimum: float) -> Float[Array, " d"]:
    """The mean over the batch of the KL of each dimension, but at least `minimum` nats.

    Below it a dimension has no gradient, so it pays nothing for some use of the code
    (Kingma et al. 2016, arXiv:1606.04934, eq. 16).
    """
    return jnp.maximum(jnp.mean(kl, axis=0), minimum)


def drawn_terms(
    log_px: LogPx, q: Gaussian, key: Key, num: int
) -> tuple[Float[Array, "k b"], Float[Array, "b d"]]:
    """The terms of (1): log p(x|z) of `num` draws, and the KL of each dimension."""
    return log_px(reparameterize(key, *q, num)), q.kl()


def elbo_loss(
    log_px: LogPx,
    q: Gaussian,
    key: Key,
    num: int,
    *,
    beta: Array | float = 1.0,
    least: float = 0.0,
) -> tuple[Array, Metrics]:
    """Minus (1), a mean over examples and `num` draws; and its terms.

    beta: weight of the KL (Higgins et al. 2017, beta-VAE). least: `free_bits`.
    The terms and the "elbo" among them are without both.
    """
    log_prob, kl = drawn_terms(log_px, q, key, num)
    charged = free_bits(kl, least).sum()
    reconstruction, kl = -log_prob.mean(), kl.sum(axis=-1).mean()
    return reconstruction + beta * charged, {
        "elbo": -reconstruction - kl,
        "reconstruction_nats": reconstruction,
        "kl_nats": kl,
    }


def drawn_elbo(log_px: LogPx, q: Gaussian, key: Key, num: int) -> Float[Array, " b"]:
    """(1), the mean of `num` draws less the KL, which is exact."""
    log_prob, kl = drawn_terms(log_px, q, key, num)
    return log_prob.mean(axis=0) - kl.sum(axis=-1)


def weigh(log_px: LogPx, q: Gaussian) -> LogWeights:
    """(2) of codes drawn from q."""

    def log_weights_of(key: Key, num: int) -> Array:
        z = reparameterize(key, *q, num)
        return log_weights(log_px(z), z, *q)

    return log_weights_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportanceSampling:
    """config.likelihood: (3), with codes drawn from the posterior."""

    importance_samples: Count = 1000  # k: draws of the code for each image

    def __call__(self, log_weights: LogWeights, key: Key) -> Float[Array, " b"]:
        """(3), in the memory of 50 draws."""
        num = self.importance_samples
        return importance_log_likelihood(log_weights, key, num_samples=num, chunk=50)

    @property
    def note(self) -> str:
        """For the protocol of a metric."""
        return f"L_{self.importance_samples} (importance sampling)"


def importance_log_likelihood(
    log_weights: LogWeights,
    key: Key,
    *,
    num_samples: int,
    chunk: int,
) -> Float[Array, " b"]:
    """(3) for k = num_samples, in the memory of `chunk` samples.

    log_weights(key, num): (2) for num new draws. The first chunk may be smaller.
    """
    chunk = min(chunk, num_samples)
    whole, rest = divmod(num_samples, chunk)
    first_key, *keys = jax.random.split(key, whole + bool(rest))

    def add(total: Array, key: Key) -> tuple[Array, None]:
        return jnp.logaddexp(total, logsumexp(log_weights(key, chunk), axis=0)), None

    total = logsumexp(log_weights(first_key, rest or chunk), axis=0)
    if keys:
        total, _ = jax.lax.scan(add, total, jnp.stack(keys))
    return total - math.log(num_samples)
