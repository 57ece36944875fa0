"""Inception-v3 as the Frechet Inception distance uses it: the graph of 2015.

The network of Szegedy et al. 2015 (arXiv:1512.00567, table 1) without its auxiliary
classifier, as TensorFlow published it in December 2015 and FID took it over (Heusel et
al. 2017, arXiv:1706.08500). It differs from the usual Inception-v3 in that an average
pool divides by the values that it covers and not by nine, that the last block pools by
the maximum, and that there are 1008 classes. The features are the 2048 means of the
last block.

A batch norm with fixed statistics is a factor and a shift, so `from_torch` puts it into
the convolution before it:

  (1) gamma (w * x - mean) / sqrt(var + eps) + beta
      = (w s) * x + (beta - mean s),    s = gamma / sqrt(var + eps)

Weights are the user's: this module knows only the names that torchvision gives them.
"""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from genjax.nn.conv import Conv
from genjax.typing import Array, Params, UserError

# Of pt_inception-2015-12-05-6726825d.pth, from the pages of pytorch-fid. The same bytes
# are weights-inception-2015-12-05-6726825d.pth of torch-fidelity.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

SIDE = 299
NUM_CLASSES = 1008
BATCH_NORM_EPS = 1e-3

Resize = Literal["half_pixel", "tf1"]


class Unit(nn.Module):
    """Convolution with the batch norm in it, by (1), and a ReLU."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w ci"]) -> Float[Array, "b h2 w2 co"]:
        """Strides above 1 come with "VALID" padding only."""
        strides = (self.stride, self.stride)
        h = Conv(self.features, self.kernel, strides, self.padding, name="conv")(x)
        return nn.relu(h)


class BlockA(nn.Module):
    """35 x 35: a 5x5 and two 3x3 convolutions beside a pool (figure 5)."""

    pooled: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w ci"]) -> Float[Array, "b h w co"]:
        """64 + 64 + 96 + pooled channels."""
        one = Unit(64, name="branch1x1")(x)
        five = Unit(48, name="branch5x5_1")(x)
        five = Unit(64, (5, 5), name="branch5x5_2")(five)
        double = Unit(64, name="branch3x3dbl_1")(x)
        double = Unit(96, (3, 3), name="branch3x3dbl_2")(double)
        double = Unit(96, (3, 3), name="branch3x3dbl_3")(double)
        pool = Unit(self.pooled, name="branch_pool")(average_pool(x))
        return jnp.concatenate([one, five, double, pool], axis=-1)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17, pool and convolutions side by side (figure 10)."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w ci"]) -> Float[Array, "b h2 w2 co"]:
        """384 + 96 channels, and those of x."""
        three = Unit(384, (3, 3), 2, "VALID", name="branch3x3")(x)
        double = Unit(64, name="branch3x3dbl_1")(x)
        double = Unit(96, (3, 3), name="branch3x3dbl_2")(double)
        double = Unit(96, (3, 3), 2, "VALID", name="branch3x3dbl_3")(double)
        return jnp.concatenate([three, double, halving_pool(x)], axis=-1)


class BlockC(nn.Module):
    """17 x 17: 7x7 convolutions, taken apart into 1x7 and 7x1 (figure 6)."""

    inner: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w ci"]) -> Float[Array, "b h w co"]:
        """4 times 192 channels; `inner` between two of the long kernels."""
        across, down, inner = (1, 7), (7, 1), self.inner
        one = Unit(192, name="branch1x1")(x)
        seven = Unit(inner, name="branch7x7_1")(x)
        seven = Unit(inner, across, name="branch7x7_2")(seven)
        seven = Unit(192, down, name="branch7x7_3")(seven)
        double = Unit(inner, name="branch7x7dbl_1")(x)
        double = Unit(inner, down, name="branch7x7dbl_2")(double)
        double = Unit(inner, across, name="branch7x7dbl_3")(double)
        double = Unit(inner, down, name="branch7x7dbl_4")(double)
        double = Unit(192, across, name="branch7x7dbl_5")(double)
        pool = Unit(192, name="branch_pool")(average_pool(x))
        return jnp.concatenate([one, seven, double, pool], axis=-1)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w ci"]) -> Float[Array, "b h2 w2 co"]:
        """320 + 192 channels, and those of x."""
        three = Unit(192, name="branch3x3_1")(x)
        three = Unit(320, (3, 3), 2, "VALID", name="branch3x3_2")(three)
        seven = Unit(192, name="branch7x7x3_1")(x)
        seven = Unit(192, (1, 7), name="branch7x7x3_2")(seven)
        seven = Unit(192, (7, 1), name="branch7x7x3_3")(seven)
        seven = Unit(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(seven)
        return jnp.concatenate([three, seven, halving_pool(x)], axis=-1)


class BlockE(nn.Module):
    """8 x 8: 3x3 convolutions, spread out into 1x3 beside 3x1 (figure 7)."""

    pool: Literal["average", "max"]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w ci"]) -> Float[Array, "b h w co"]:
        """320 + 768 + 768 + 192 channels."""
        one = Unit(320, name="branch1x1")(x)
        three = Unit(384, name="branch3x3_1")(x)
        double = Unit(448, name="branch3x3dbl_1")(x)
        double = Unit(384, (3, 3), name="branch3x3dbl_2")(double)
        spread = [
            Unit(384, kernel, name=f"{name}{letter}")(h)
            for h, name in ((three, "branch3x3_2"), (double, "branch3x3dbl_3"))
            for kernel, letter in (((1, 3), "a"), ((3, 1), "b"))
        ]
        pooled = average_pool(x) if self.pool == "average" else max_pool(x)
        pool = Unit(192, name="branch_pool")(pooled)
        return jnp.concatenate([one, *spread, pool], axis=-1)


class Inception(nn.Module):
    """Images in about [-1, 1] to (2048 features, 1008 logits)."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b 299 299 3"]
    ) -> tuple[Float[Array, "b 2048"], Float[Array, "b 1008"]]:
        """The logits are those of the Inception Score: without the last layer's bias.

        So in its first code (Salimans et al. 2016), in torch-fidelity and in EDM's.
        """
        h = Unit(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)  # (B, 149, 149, 32)
        h = Unit(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(h)
        h = Unit(64, (3, 3), name="Conv2d_2b_3x3")(h)  # (B, 147, 147, 64)
        h = halving_pool(h)
        h = Unit(80, padding="VALID", name="Conv2d_3b_1x1")(h)  # (B, 73, 73, 80)
        h = Unit(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(h)
        h = halving_pool(h)  # (B, 35, 35, 192)
        for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
            h = BlockA(pooled, name=f"Mixed_5{letter}")(h)  # (B, 35, 35, 256 or 288)
        h = BlockB(name="Mixed_6a")(h)  # (B, 17, 17, 768)
        for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
            h = BlockC(inner, name=f"Mixed_6{letter}")(h)
        h = BlockD(name="Mixed_7a")(h)  # (B, 8, 8, 1280)
        h = BlockE("average", name="Mixed_7b")(h)  # (B, 8, 8, 2048)
        h = BlockE("max", name="Mixed_7c")(h)
        features = h.mean(axis=(1, 2))
        return features, nn.Dense(NUM_CLASSES, use_bias=False, name="fc")(features)


def features_and_logits(
    params: Params, images: UInt8[Array, "b h w c"], *, resize: Resize = "half_pixel"
) -> tuple[Float[Array, "b 2048"], Float[Array, "b 1008"]]:
    """Of uint8 images of any size with one or three channels; one is repeated.

    resize: "half_pixel" as pytorch-fid, and grey values go to 2 x / 255 - 1; "tf1" as
        TensorFlow 1 and torch-fidelity, and they go to (x - 128) / 128.
    In float32 on every device: TF32 and bfloat16 move the distance.
    """
    x = images.astype(jnp.float32)
    if x.shape[-1] == 1:
        x = jnp.repeat(x, 3, axis=-1)
    with jax.default_matmul_precision("highest"):
        if resize == "half_pixel":
            x = 2.0 * resized(x / 255.0, "half_pixel") - 1.0
        else:
            x = (resized(x, "tf1") - 128.0) / 128.0
        out: Any = Inception().apply({"params": params}, x)
        return out


def resized(
    x: Float[Array, "b h w c"], resize: Resize, side: int = SIDE
) -> Float[Array, "b side side c"]:
    """Linear interpolation between the two nearest pixels, also when it shrinks."""
    rows = jnp.asarray(interpolation(x.shape[1], side, resize))
    columns = jnp.asarray(interpolation(x.shape[2], side, resize))
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)


def interpolation(num: int, side: int, resize: Resize) -> Float[np.ndarray, "side num"]:
    """The matrix from `num` pixels in a row to `side`; each row sums to 1.

    "half_pixel": pixels are areas, and place i lies at (i + 1/2) num / side - 1/2.
    "tf1": pixel i lies at i num / side, so that the picture moves by half a pixel.
    Places beyond the first and the last pixel get its value.
    """
    place = np.arange(side) * (num / side)
    if resize == "half_pixel":
        place = (np.arange(side) + 0.5) * (num / side) - 0.5
    place = np.clip(place, 0, num - 1)
    low = np.floor(place).astype(int)
    matrix = np.zeros((side, num), np.float32)
    matrix[np.arange(side), low] += 1.0 - (place - low)
    matrix[np.arange(side), np.minimum(low + 1, num - 1)] += place - low
    return matrix


def average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The mean of the 3x3 values around; at the edge, of those that there are."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The largest of the 3x3 values around."""
    return nn.max_pool(x, (3, 3), padding="SAME")


def halving_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """The largest of every second 3x3 block that lies inside."""
    return nn.max_pool(x, (3, 3), (2, 2))


def from_torch(arrays: Mapping[str, np.ndarray]) -> Params:
    """The parameters from torchvision's names, with the batch norms in them by (1).

    arrays: "Mixed_5b.branch1x1.conv.weight" (co, ci, kh, kw), ".bn.weight", ".bn.bias",
        ".bn.running_mean", ".bn.running_var", "fc.weight" (1008, 2048). Others, like an
        auxiliary classifier, are left unused.
    Raises UserError for arrays that are missing or of another shape.
    """
    image = jnp.zeros((1, SIDE, SIDE, 3))
    tree: Any = jax.eval_shape(Inception().init, jax.random.key(0), image)
    shapes: dict[tuple, Any] = flax.traverse_util.flatten_dict(tree["params"])
    flat = {}
    for path, leaf in shapes.items():
        if path == ("fc", "kernel"):
            flat[path] = _array(arrays, "fc.weight", leaf.shape[::-1]).T
        elif path[-2:] == ("conv", "kernel"):
            kernel, bias = _unit(arrays, ".".join(path[:-2]), leaf.shape)
            flat |= {path: kernel, (*path[:-1], "bias"): bias}
    placed = {path: jnp.asarray(array, jnp.float32) for path, array in flat.items()}
    return flax.traverse_util.unflatten_dict(placed)


def _unit(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (kh, kw, ci, co) and bias (co,) by (1), in float64."""
    kh, kw, ci, co = shape
    weight = _array(arrays, f"{name}.conv.weight", (co, ci, kh, kw))
    gamma, beta, mean, var = (
        _array(arrays, f"{name}.bn.{part}", (co,))
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gamma / np.sqrt(var + BATCH_NORM_EPS)
    kernel = weight.transpose(2, 3, 1, 0) * factor[None, None, None]
    return kernel, beta - mean * factor


def _array(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> np.ndarray:
    found = arrays[name].shape if name in arrays else "missing"
    if found != shape:
        raise UserError(
            "these are no weights of the Inception network of FID, with torchvision's "
            f"names: {name} must have the shape {shape} and is {found}"
        )
    return arrays[name].astype(np.float64)
