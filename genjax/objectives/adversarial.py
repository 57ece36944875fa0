"""Losses of a discriminator and its generator on logits, and penalties on gradients.

With data of density p, samples of density q and a discriminator's logit t(x), D =
sigmoid(t), the least discriminator losses lie at

  (1) minimax, non_saturating   t = log p - log q, with the value 2 log 2 - 2 JSD(p, q)
  (2) least_squares             t = p / (p + q)
  (3) hinge                     t = sign(p - q), with the value 2 - 2 TV(p, q)
  (4) relativistic              t = log p - log q + any constant
  (5) wasserstein               no finite t, or over 1-Lipschitz t the value -W1(p, q)

JSD is the Jensen-Shannon divergence in nats, TV the total variation distance in [0, 1].
Sources: Goodfellow et al. 2014 (arXiv:1406.2661, algorithm 1 and section 3) for (1);
Mao et al. 2017 (arXiv:1611.04076, eq. 5) for (2), with the targets 1 for data and 0 for
samples; Lim & Ye 2017 (arXiv:1705.02894) for (3); Jolicoeur-Martineau 2019
(arXiv:1807.00734) for (4), as R3GAN uses it (Huang et al. 2024, arXiv:2501.05441, eq.
2); Arjovsky et al. 2017 (arXiv:1701.07875, eq. 2) for (5).

All losses are lowered, and take one value a pair of a datum and a sample; those of
which pairs are no part add the loss of the one and of the other.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from genjax.axes import sum_over_dims
from genjax.fields import Count, NonNegative, Positive
from genjax.typing import Array, Key, UserError

Logits = Float[Array, "*b"]
Examples = Float[Array, " b *d"]
Critic = Callable[[Examples], Logits]


class Loss(NamedTuple):
    """What each of the two lowers: (logits of data, logits of samples) -> values.

    signed: at the optimum the sign of a logit tells data from samples.
    """

    discriminator: Callable[[Logits, Logits], Logits]
    generator: Callable[[Logits, Logits], Logits]
    signed: bool = False

    def undecided(self, real: Logits, fake: Logits) -> Float[Array, ""]:
        """The logit between data and samples: 0, or the middle of the means."""
        if self.signed:
            return jnp.zeros(())
        return (real.mean() + fake.mean()) / 2.0


# --- losses ---------------------------------------------------------------------------


def classify(real: Logits, fake: Logits) -> Logits:
    """-log D(real) - log(1 - D(fake)), in nats."""
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def saturating(real: Logits, fake: Logits) -> Logits:
    """log(1 - D(fake)), in nats; its slope in the logit is -D.

    So it vanishes where the discriminator is sure of a sample: see `non_saturating`.
    """
    return -jax.nn.softplus(fake)


def non_saturating(real: Logits, fake: Logits) -> Logits:
    """-log D(fake), in nats; its slope in the logit t is -(1 - D).

    That is exp(-t) times the slope of `saturating`.
    """
    return jax.nn.softplus(-fake)


def least_squares(real: Logits, fake: Logits) -> Logits:
    """Half the squared errors for the targets 1 and 0."""
    return 0.5 * (jnp.square(real - 1.0) + jnp.square(fake))


def least_squares_generator(real: Logits, fake: Logits) -> Logits:
    """Half the squared error of a sample that should be taken for data, 1."""
    return 0.5 * jnp.square(fake - 1.0)


def hinge(real: Logits, fake: Logits) -> Logits:
    """What is missing to logits of 1 for data and -1 for samples."""
    return jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake)


def wasserstein(real: Logits, fake: Logits) -> Logits:
    """What fake has over real, in the unit of the data.

    For a 1-Lipschitz t minus its mean is a bound on W1 from below.
    """
    return fake - real


def raise_fake(real: Logits, fake: Logits) -> Logits:
    """-fake: the generator's part of the hinge and the Wasserstein loss."""
    return -fake


def relativistic(real: Logits, fake: Logits) -> Logits:
    """-log sigmoid(real - fake), in nats: is the datum the more real of the two?"""
    return jax.nn.softplus(fake - real)


def relativistic_generator(real: Logits, fake: Logits) -> Logits:
    """-log sigmoid(fake - real), in nats: the same question, the other answer."""
    return jax.nn.softplus(real - fake)


LOSSES = {
    "minimax": Loss(classify, saturating, signed=True),
    "non_saturating": Loss(classify, non_saturating, signed=True),
    "least_squares": Loss(least_squares, least_squares_generator),
    "hinge": Loss(hinge, raise_fake, signed=True),
    "wasserstein": Loss(wasserstein, raise_fake),
    "relativistic": Loss(relativistic, relativistic_generator),
}
LossName = Literal[
    "minimax", "non_saturating", "least_squares", "hinge", "wasserstein", "relativistic"
]


# --- penalties ------------------------------------------------------------------------


def zero_centered(critic: Critic, x: Examples) -> Float[Array, " b"]:
    """|grad critic(x)|^2 / 2 of each x: R1 at data, R2 at samples.

    Mescheder et al. 2018 (arXiv:1801.04406, eq. 9 and 10), whose gamma is the factor to
    give it. The critic must take each row by itself.
    """
    return 0.5 * squared_slope(critic, x)


def one_centered(critic: Critic, x: Examples) -> Float[Array, " b"]:
    """(|grad critic(x)| - 1)^2 of each x.

    At `interpolates` it is the penalty of WGAN-GP (Gulrajani et al. 2017,
    arXiv:1704.00028, eq. 3), at `perturbed` data that of DRAGAN (Kodali et al. 2017,
    arXiv:1705.07215, there of D and here of the logit); both papers multiply it
    by 10. The critic must take each row by itself.
    """
    # A norm has no gradient at 0, where a dead network may be; this one has 0 there.
    norm = jnp.sqrt(jnp.maximum(squared_slope(critic, x), 1e-24))
    return jnp.square(norm - 1.0)


def squared_slope(critic: Critic, x: Examples) -> Float[Array, " b"]:
    """|grad critic(x)|^2 of each x, summed over its dimensions."""
    slope = jax.grad(lambda x: jnp.sum(critic(x)))(x)
    return sum_over_dims(jnp.square(slope))


def interpolates(key: Key, real: Examples, fake: Examples) -> Examples:
    """A uniform point on the line from each datum to the sample of the same row."""
    share = jax.random.uniform(key, (len(real),) + (1,) * (real.ndim - 1))
    return real + share * (fake - real)


def perturbed(key: Key, real: Examples, *, scale: float = 0.5) -> Examples:
    """Each datum with Gaussian noise of `scale` standard deviations of the whole batch.

    The scale is that of DRAGAN's released code, which adds noise uniform in [0, 1] and
    so of mean 1/2; here it has mean zero, as in the paper.
    """
    return real + scale * jnp.std(real) * jax.random.normal(key, real.shape)


PENALTIES: dict[
    str, Callable[[Critic, Examples, Examples, Key], Float[Array, " b"]]
] = {
    "wgan_gp": lambda critic, real, fake, key: one_centered(
        critic, interpolates(key, real, fake)
    ),
    "dragan": lambda critic, real, fake, key: one_centered(
        critic, perturbed(key, real)
    ),
    "r1": lambda critic, real, fake, key: zero_centered(critic, real),
    "r1_r2": lambda critic, real, fake, key: (
        zero_centered(critic, real) + zero_centered(critic, fake)
    ),
}
"""(critic, data, samples, key) -> values, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalty:
    """One of PENALTIES: its weight, and how often it is taken.

    Lazy regularisation (Karras et al. 2020, arXiv:1912.04958, appendix B): every k-th
    turn k times the penalty, so that the mean over the turns stays the same.
    """

    name: Literal["none", "r1", "r1_r2", "wgan_gp", "dragan"] = "none"  # the penalty
    weight: NonNegative = 0.0  # gamma of R1 and R2, lambda of the others
    weight_end: NonNegative | None = None  # final weight, along half a cosine (R3GAN)
    decay_steps: Count | None = None  # steps until weight_end is reached
    every: Count = 1  # penalise every n-th turn, with n times the weight

    def __post_init__(self) -> None:
        if (self.weight_end is None) != (self.decay_steps is None):
            raise UserError(
                "config.method.penalty.weight_end is reached after decay_steps: give "
                "both, or neither for a constant weight"
            )

    def weight_at(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """The factor of the penalty at this step of the training."""
        if self.weight_end is None or self.decay_steps is None:
            return jnp.float32(self.weight)
        falls = optax.cosine_decay_schedule(
            self.weight - self.weight_end, self.decay_steps
        )
        return jnp.asarray(self.weight_end + falls(step))

    def __call__(
        self,
        critic: Critic,
        real: Examples,
        fake: Examples,
        key: Key,
        *,
        turn: Int[Array, ""],
    ) -> Float[Array, ""]:
        """The mean penalty, without its weight; 0 in turns in which none is taken."""
        if self.name == "none":
            return jnp.zeros(())
        values, every = PENALTIES[self.name], self.every

        def taken() -> Array:
            return every * values(critic, real, fake, key).mean()

        if every == 1:
            return taken()
        return jax.lax.cond(turn % every == 0, taken, lambda: jnp.zeros(()))


# --- noise ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseSampler:
    """config.sampler: how the noise of samples is drawn; not so in training."""

    truncation: Positive | None = None  # largest |z_i|, as in BigGAN; None: no limit

    def __call__(self, key: Key, num: int, dim: int) -> Float[Array, "n d"]:
        """N(0, I), its numbers drawn anew until they lie within the limit.

        BigGAN's truncation trick (Brock et al. 2019, arXiv:1809.11096, section 3.1):
        the lower the limit, the likelier and the more alike are the samples.
        """
        limit, shape = self.truncation, (num, dim)
        if limit is None:
            return jax.random.normal(key, shape)
        return jax.random.truncated_normal(key, -limit, limit, shape)
