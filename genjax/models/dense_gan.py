"""The two dense networks of a generative adversarial network."""

import math

import jax.numpy as jnp
from jaxtyping import Float

from genjax.models.mlp import MLP, Activation
from genjax.models.players import Classes, Discriminator, Generator, with_one_hot
from genjax.typing import Array


class DenseGenerator(Generator):
    """An MLP from noise, and a one-hot label, to points or to images in [-1, 1].

    widths: of the hidden layers. activation: after each of them.
    """

    widths: tuple[int, ...] = (400, 400)
    activation: Activation = "leaky_relu"

    def examples(
        self, z: Float[Array, "b d"], label: Classes | None, train: bool
    ) -> Float[Array, " b *shape"]:
        """Training makes no difference."""
        z = with_one_hot(z, label, self.num_classes)
        mlp = MLP(self.widths, math.prod(self.shape), self.activation, name="mlp")
        x = mlp(z).reshape(len(z), *self.shape)
        return jnp.tanh(x) if len(self.shape) == 3 else x


class DenseDiscriminator(Discriminator):
    """An MLP from points or images, and a one-hot label, to a logit.

    widths: of the hidden layers. activation: after each of them.
    """

    widths: tuple[int, ...] = (400, 400)
    activation: Activation = "leaky_relu"

    def logits(
        self, x: Float[Array, " b *shape"], label: Classes | None, train: bool
    ) -> Float[Array, " b"]:
        """Training makes no difference."""
        x = with_one_hot(x.reshape(len(x), -1), label, self.num_classes)
        return MLP(self.widths, 1, self.activation, name="mlp")(x)[:, 0]
