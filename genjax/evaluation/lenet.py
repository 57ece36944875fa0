"""A small classifier of MNIST-like digits: the judge of samples, and their features.

Two 5x5 convolutions with pooling and a dense layer of 512 units, whose activations are
the features, after the network in which Binkowski et al. 2018 (arXiv:1801.01401)
measure MNIST samples. Never compare its distances with those of another network.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int, UInt8

from genjax.evaluation import train_classifier
from genjax.nn.conv import Conv
from genjax.typing import Array, Key, Params

SHAPE = (28, 28, 1)
NUM_CLASSES = 10


class LeNet(nn.Module):
    """uint8 images to (512 features, not negative; 10 logits)."""

    @nn.compact
    def __call__(
        self, images: UInt8[Array, "b 28 28 1"], *, train: bool = False
    ) -> tuple[Float[Array, "b 512"], Float[Array, "b 10"]]:
        """train: half of the features are dropped; needs the stream "dropout"."""
        h = images.astype(jnp.float32) / 255.0 - 0.5
        for i, channels in enumerate((32, 64)):
            h = Conv(channels, (5, 5), padding="VALID", name=f"conv{i}")(h)
            h = nn.relu(_pool(h))
        h = h.reshape(len(h), -1)
        features = nn.relu(nn.Dense(512, name="features")(h))
        kept = nn.Dropout(0.5, deterministic=not train)(features)
        return features, nn.Dense(NUM_CLASSES, name="logits")(kept)


def features_and_logits(
    params: Params, images: Array | np.ndarray
) -> tuple[Array, Array]:
    """Of the trained network."""
    out: Any = LeNet().apply({"params": params}, jnp.asarray(images))
    return out


def of_channels(
    params: Params, images: UInt8[Array | np.ndarray, "b 28 28 c"]
) -> tuple[Float[Array, "b f"], Float[Array, "b k"]]:
    """Of pictures with a digit in each channel: (c * 512 features, 10^c logits).

    The features of the channels lie side by side. A class is the figures of all
    channels, the first in front, and its logit, the channels being read apart, the sum
    of theirs: the largest logit belongs to the largest of each channel.
    """
    read = [
        features_and_logits(params, images[..., c, None])
        for c in range(images.shape[-1])
    ]
    total = jnp.zeros((len(images), 1))
    for _, logits in read:
        total = (total[:, :, None] + logits[:, None, :]).reshape(len(images), -1)
    return jnp.concatenate([features for features, _ in read], axis=-1), total


def fit(
    images: UInt8[np.ndarray, "n 28 28 1"],
    labels: Int[np.ndarray, " n"],
    *,
    key: Key,
    epochs: int = 10,
    batch_size: int = 128,
    say: train_classifier.Say = lambda step, total, loss: None,
) -> Params:
    """Weights by Adam, the step size falling as a cosine: `train_classifier.fit`."""
    return train_classifier.fit(
        LeNet(),
        lambda total: optax.adam(optax.cosine_decay_schedule(1e-3, total)),
        images,
        labels,
        key=key,
        epochs=epochs,
        batch_size=batch_size,
        say=say,
    )["params"]


def _pool(h: Array) -> Array:
    """The largest of each 2x2 block."""
    b, height, width, c = h.shape
    return h.reshape(b, height // 2, 2, width // 2, 2, c).max(axis=(2, 4))
