"""Trains the networks that judge samples.

python -m genjax.evaluation --train=mnist_lenet512_v1

The weights go to extractors/ in $GENJAX_CACHE, or else in ~/.cache/genjax; a second
call says that they are there.
"""

import sys

import jax
import numpy as np
from absl import app, flags
from tqdm import tqdm

from genjax.data import datasets
from genjax.evaluation import extractors, lenet
from genjax.train import compile, metrics
from genjax.typing import UserError

TRAIN = flags.DEFINE_enum(
    "train", None, extractors.NAMES, "the network to train", required=True
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "where TFDS keeps its data sets")


def main(argv: list[str]) -> None:
    """Trains what --train names, unless it is trained already."""
    del argv
    try:
        train(TRAIN.value, DATA_DIR.value)
    except UserError as error:
        print(f"genjax: {error}", file=sys.stderr)
        sys.exit(2)


def train(name: str, data_dir: str | None) -> None:
    """Fits the network to its data set and keeps the weights."""
    path = extractors.folder() / f"{name}.npz"
    if path.exists():
        print(f"{path} is there: delete it to train it again")
        return
    compile.use_persistent_cache()
    dataset = datasets.load("mnist", data_dir)
    train_set, test_set = (
        split.read(np.arange(len(split))) for split in (dataset.train, dataset.eval)
    )
    with tqdm(unit="step") as bar:

        def say(step: int, total: int, loss: float) -> None:
            bar.total = total
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(step - bar.n)

        key = jax.random.key(0)
        params = lenet.fit(train_set["image"], train_set["label"], key=key, say=say)
    accuracy = lenet.accuracy(params, test_set["image"], test_set["label"])
    metrics.write_atomically(path, extractors.to_bytes(params, accuracy))
    print(f"{path}: test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    app.run(main)
