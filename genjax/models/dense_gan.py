"""The two dense networks of a generative adversarial network."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.models.mlp import MLP, Activation
from genjax.typing import Array


class DenseGenerator(nn.Module):
    """An MLP from noise, and a one-hot label, to points or to images in [-1, 1].

    shape: of an example. num_classes: 0: no labels. widths: of the hidden layers.
    activation: after each of them.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    widths: tuple[int, ...] = (400, 400)
    activation: Activation = "leaky_relu"

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b d"],
        label: Int[Array, " b"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, " b *shape"]:
        """(B, *shape). Training makes no difference."""
        z = _with_label(z, label, self.num_classes)
        mlp = MLP(self.widths, math.prod(self.shape), self.activation, name="mlp")
        x = mlp(z).reshape(len(z), *self.shape)
        return jnp.tanh(x) if len(self.shape) == 3 else x


class DenseDiscriminator(nn.Module):
    """An MLP from points or images, and a one-hot label, to a logit.

    num_classes: 0: no labels. widths: of the hidden layers.
    activation: after each of them.
    """

    num_classes: int = 0
    widths: tuple[int, ...] = (400, 400)
    activation: Activation = "leaky_relu"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, " b *shape"],
        label: Int[Array, " b"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, " b"]:
        """(B,). Training makes no difference."""
        x = _with_label(x.reshape(len(x), -1), label, self.num_classes)
        return MLP(self.widths, 1, self.activation, name="mlp")(x)[:, 0]


def _with_label(
    x: Float[Array, "b d"], label: Int[Array, " b"] | None, num_classes: int
) -> Float[Array, "b e"]:
    """The rows with the one-hot label behind them, where there is one."""
    if label is None:
        return x
    return jnp.concatenate([x, jax.nn.one_hot(label, num_classes)], axis=1)
