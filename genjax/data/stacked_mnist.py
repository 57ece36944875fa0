"""Stacked MNIST: 1,000 modes that can be counted.

Three digits drawn at random are the three channels of one picture, and their three
figures its class, 0 ... 999. After Metz et al. 2017 (arXiv:1611.02163) in the sizes of
PacGAN (Lin et al. 2018, arXiv:1712.04086, section 4.2): 128,000 training pictures. The
26,000 held-out ones, as many as PacGAN's samples, are made of MNIST's test digits.
"""

import numpy as np

from genjax.data.split import Dataset, Split, fingerprint_of, split_from_arrays
from genjax.data.tfds_images import tfds_images
from genjax.typing import DataSpec, UserError

CHANNELS = 3


def stacked_mnist(
    name: str = "stacked_mnist",
    dir: str | None = None,
    *,
    num_train: int = 128_000,
    num_eval: int = 26_000,
    seed: int = 0,
    cache_dir: str | None = None,
    download: bool = True,
) -> Dataset:
    """Pictures (28, 28, 3) uint8 of 1,000 classes, all in memory: 360 MB.

    dir, cache_dir, download: of MNIST, see `tfds_images`.
    seed: of the draw of the digits.
    Raises UserError as `tfds_images` does, and for a size below 1.
    """
    if num_train < 1 or num_eval < 1:
        raise UserError(
            f"num_train and num_eval must be positive, got {num_train} and {num_eval}; "
            "set data.num_train and data.num_eval"
        )
    mnist = tfds_images("mnist", dir, cache_dir=cache_dir, download=download)
    assert mnist is not None  # TFDS has it
    train_seed, eval_seed = np.random.SeedSequence(seed).spawn(2)
    train = stacked(mnist.train, num_train, train_seed)
    held_out = stacked(mnist.eval, num_eval, eval_seed)
    spec = DataSpec(
        name=name,
        shape=(*mnist.spec.shape[:2], CHANNELS),
        dtype="uint8",
        num_levels=mnist.spec.num_levels,
        num_train=num_train,
        num_eval=num_eval,
        num_classes=mnist.spec.num_classes**CHANNELS,
    )
    fingerprint = fingerprint_of(spec, digits=mnist.fingerprint, seed=seed)
    return Dataset(spec=spec, train=train, eval=held_out, fingerprint=fingerprint)


def stacked(digits: Split, num: int, seed: np.random.SeedSequence) -> Split:
    """Triples of digits, drawn evenly and with replacement, in memory.

    The label of the digits a, b, c in the channels 0, 1, 2 is 100 a + 10 b + c.
    """
    rows = np.random.default_rng(seed).integers(0, len(digits), (num, CHANNELS))
    drawn, place = np.unique(rows, return_inverse=True)
    found = digits.read(drawn)
    height, width, _ = found["image"].shape[1:]
    image = np.empty((num, height, width, CHANNELS), np.uint8)
    label = np.zeros(num, np.int32)
    for channel, which in enumerate(place.reshape(rows.shape).T):
        image[..., channel] = found["image"][which, ..., 0]
        label = 10 * label + found["label"][which]
    return split_from_arrays(f"{digits.name}, stacked", image, label)
