"""The classifiers that are trained here, by one command each."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

from genjax.evaluation import lenet, resnet
from genjax.typing import Array, Params, UserError

NUM_CLASSES = 10  # of all of them

# Of the training images, in TFDS's order, of a copy of CIFAR-10 that was stored as
# JPEG: it has the name, the version and the counts of the real set.
JPEG75_SHA256 = "a012783a2ef42bf2c2a8c601a9f3ef4599786f7aca5417c5a84625e08e9b004a"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """A network, what it is trained on, and how.

    data: the name of its data set in TFDS.
    shape: of its images, which have 256 levels.
    duration: of the training, for the user.
    fit: (images, labels, key=, say=) -> weights, any nested dict of arrays.
    features_and_logits: (weights, images (B, *shape)) -> ((B, D), (B, NUM_CLASSES)).
    of_channels: the same of pictures with one of its images in each channel, and with
        NUM_CLASSES^channels logits; None for a network that reads colors.
    """

    data: str
    shape: tuple[int, int, int]
    duration: str
    fit: Callable[..., Params]
    features_and_logits: Callable[[Params, Array], tuple[Array, Array]]
    of_channels: Callable[[Params, Array], tuple[Array, Array]] | None = None


_CIFAR10 = Classifier(
    data="cifar10",
    shape=resnet.SHAPE,
    duration="a minute on a GPU, or an hour and more on a CPU",
    fit=resnet.fit,
    features_and_logits=resnet.features_and_logits,
)
REAL, JPEG75 = "cifar10_resnet18_v1", "cifar10_jpeg75_resnet18_v1"
CLASSIFIERS = {
    "mnist_lenet512_v1": Classifier(
        data="mnist",
        shape=lenet.SHAPE,
        duration="some minutes",
        fit=lenet.fit,
        features_and_logits=lenet.features_and_logits,
        of_channels=lenet.of_channels,
    ),
    "fashion_mnist_lenet512_v1": Classifier(
        data="fashion_mnist",
        shape=lenet.SHAPE,
        duration="some minutes",
        fit=lenet.fit,
        features_and_logits=lenet.features_and_logits,
    ),
    REAL: _CIFAR10,
    JPEG75: _CIFAR10,
}


def check_images(name: str, images: np.ndarray) -> None:
    """Raises UserError where training images belong to the other name of CIFAR-10."""
    if name not in (REAL, JPEG75):
        return
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    lossy = digest == JPEG75_SHA256
    wanted = JPEG75 if lossy else REAL
    if name != wanted:
        what = "a lossy copy of CIFAR-10" if lossy else "not the lossy copy of CIFAR-10"
        raise UserError(
            f"these training images are {what} (sha256 {digest[:12]}); the network for "
            f"them is --train={wanted}"
        )
