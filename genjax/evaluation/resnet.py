"""A classifier of CIFAR-10 whose features samples of color images are compared in.

The residual network of 18 layers (He et al. 2016, arXiv:1512.03385, table 1) as it is
usual for small images: the first convolution is 3x3 with stride 1, and no pool follows
it. It has half the usual channels, so that a laptop can train it and read 50,000 images
with it. The features are the 256 means of the last block, not negative. Never compare
its distances with those of another network.

On one CPU core a step of 128 images takes 1.0 s, and the training 65 minutes. It then
reads 85.8 % of the test images of the copy that was stored as JPEG; of CIFAR-10 itself
it was not yet trained. More of EPOCHS and width would be right more often.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int, UInt8

from genjax.evaluation import train_classifier
from genjax.nn.conv import Conv
from genjax.typing import Array, Key, Params

SHAPE = (32, 32, 3)
NUM_CLASSES = 10
EPOCHS = 10
MARGIN = 4  # pixels by which a picture is shifted in training

_kernel_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet(nn.Module):
    """uint8 images to (features, not negative; 10 logits), both float32.

    width: channels of the first stage; each further one has twice as many, and the last
        one's are the features.
    blocks: in each stage; the default has 18 layers.
    dtype: of the convolutions and norms; weights and statistics are float32.
    """

    width: int = 32
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: UInt8[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b f"], Float[Array, "b 10"]]:
        """train: norms use the statistics of the batch, and update "batch_stats"."""
        # about the mean and the deviation of CIFAR-10's pixels
        h = ((images.astype(jnp.float32) / 255.0 - 0.5) / 0.25).astype(self.dtype)
        h = nn.relu(_conv_norm(h, self.width, 3, 1, train=train, name="stem"))
        for i, blocks in enumerate(self.blocks):
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                block = Block(self.width * 2**i, stride, name=f"stage{i}_block{j}")
                h = block(h, train=train)
        features = h.astype(jnp.float32).mean(axis=(1, 2))
        return features, nn.Dense(NUM_CLASSES, name="logits")(features)


RESNET18 = ResNet()


class Block(nn.Module):
    """Two convolutions beside a path that carries the input on (figure 2)."""

    features: int
    stride: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w ci"], *, train: bool
    ) -> Float[Array, "b h2 w2 co"]:
        """In the dtype of x; where the shape changes, a 1x1 convolution carries x."""
        norm = functools.partial(_conv_norm, train=train)
        h = nn.relu(norm(x, self.features, 3, self.stride, name="a"))
        h = norm(h, self.features, 3, 1, name="b")
        if h.shape != x.shape:
            x = norm(x, self.features, 1, self.stride, name="shortcut")
        return nn.relu(x + h)


def _conv_norm(
    x: Array, features: int, side: int, stride: int, *, train: bool, name: str
) -> Array:
    """A convolution without a bias, and a batch norm, in the dtype of x."""
    pad = (side // 2, side // 2)
    h = Conv(
        features,
        (side, side),
        (stride, stride),
        (pad, pad),
        use_bias=False,
        kernel_init=_kernel_init,
        name=f"{name}_conv",
    )(x)
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        dtype=x.dtype,
        name=f"{name}_norm",
    )(h)


def features_and_logits(
    variables: Params,
    images: UInt8[Array | np.ndarray, "b h w c"],
    *,
    network: ResNet = RESNET18,
) -> tuple[Float[Array, "b f"], Float[Array, "b 10"]]:
    """Of the trained network, in float32: TF32 would change the distance."""
    with jax.default_matmul_precision("highest"):
        out: Any = network.apply(variables, jnp.asarray(images))
        return out


def fit(
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    *,
    key: Key,
    epochs: int = EPOCHS,
    batch_size: int = 128,
    network: ResNet = RESNET18,
    say: train_classifier.Say = lambda step, total, loss: None,
) -> Params:
    """Weights and batch statistics, see `train_classifier.fit`.

    SGD with Nesterov's momentum; the step size rises to 0.1 over the first 30 % and
    falls as a cosine. Pictures are flipped and shifted. The dtype is
    bfloat16, on a CPU float32.
    """
    on_cpu = jax.default_backend() == "cpu"
    return train_classifier.fit(
        network.clone(dtype=jnp.float32 if on_cpu else jnp.bfloat16),
        sgd,
        images,
        labels,
        key=key,
        epochs=epochs,
        batch_size=batch_size,
        augment=flip_and_move,
        say=say,
    )


def sgd(total: int) -> optax.GradientTransformation:
    """Over `total` steps; the kernels decay, norms and biases do not."""
    return optax.chain(
        optax.add_decayed_weights(
            5e-4, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
        ),
        optax.sgd(
            optax.cosine_onecycle_schedule(total, 0.1), momentum=0.9, nesterov=True
        ),
    )


def flip_and_move(key: Key, images: UInt8[Array, "b h w c"]) -> UInt8[Array, "b h w c"]:
    """Each image flipped or not, and shifted by up to MARGIN pixels, 0 outside."""
    flip_key, move_key = jax.random.split(key)
    num, *shape = images.shape
    flip = jax.random.bernoulli(flip_key, 0.5, (num, 1, 1, 1))
    images = jnp.where(flip, images[:, :, ::-1], images)
    edge = (MARGIN, MARGIN)
    padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
    corners = jax.random.randint(move_key, (num, 2), 0, 2 * MARGIN + 1)

    def cut(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), shape)

    return jax.vmap(cut)(padded, corners)
