"""What every generator and every discriminator of a GAN is, whatever its layers."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.nn.conv import Initializer
from genjax.nn.embeddings import check_label
from genjax.typing import Array

Classes = Int[Array, " b"]


class Generator(nn.Module):
    """Noise, and perhaps a class, to examples: a subclass says how in `examples`.

    shape: of an example: (height, width, channels), or (dim,).
    num_classes: 0: unconditional, else labels are 0 ... num_classes - 1.
    """

    shape: tuple[int, ...]
    num_classes: int = 0

    @nn.compact
    def __call__(
        self, z: Float[Array, "b d"], label: Classes | None = None, *, train: bool
    ) -> Float[Array, " b *shape"]:
        """(B, *shape); train: by the batch's statistics, not running ones.

        Raises ValueError if labels and num_classes do not go together, or for fields
        that do not fit the shape.
        """
        check_label(label, self.num_classes)
        return self.examples(z, label, train)

    def examples(self, z: Array, label: Array | None, train: bool) -> Array:
        """The layers."""
        raise NotImplementedError


class Discriminator(nn.Module):
    """Examples, or packs of them along the last axis, and perhaps a class, to logits.

    A subclass says how in `logits`.

    num_classes: 0: unconditional, else labels are 0 ... num_classes - 1.
    """

    num_classes: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, " b *shape"], label: Classes | None = None, *, train: bool
    ) -> Float[Array, " b"]:
        """Logits (B,), each of its own row alone when not train.

        Raises ValueError if labels and num_classes do not go together, or for fields
        that do not fit the shape.
        """
        check_label(label, self.num_classes)
        return self.logits(x, label, train)

    def logits(self, x: Array, label: Array | None, train: bool) -> Array:
        """The layers."""
        raise NotImplementedError


def with_one_hot(
    x: Float[Array, "b d"], label: Classes | None, num_classes: int
) -> Float[Array, "b e"]:
    """The rows with the one-hot label behind them, where there is one.

    Mirza & Osindero 2014, arXiv:1411.1784.
    """
    if label is None:
        return x
    return jnp.concatenate([x, jax.nn.one_hot(label, num_classes)], axis=-1)


def projection(
    features: Float[Array, "b d"],
    label: Classes | None,
    num_classes: int,
    *,
    init: Initializer,
    wrap: Callable[[nn.Module], Callable[[Array], Array]],
) -> Float[Array, " b"]:
    """psi(phi) + <v_y, phi> of the features phi, or psi(phi) without a label.

    Miyato & Koyama 2018, arXiv:1802.05637, eq. 3. For the body of a compact module:
    makes its layers "out" and, with a label, "label". wrap: what is done to both, say
    spectral normalisation.
    """
    logits = wrap(nn.Dense(1, kernel_init=init, name="out"))(features)[:, 0]
    if label is None:
        return logits
    table = nn.Embed(num_classes, features.shape[-1], embedding_init=init, name="label")
    return logits + jnp.sum(wrap(table)(label) * features, axis=-1)
