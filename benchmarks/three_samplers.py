"""Three samplers that the panel has to tell apart: honest, copying, dropping classes.

    python benchmarks/three_samplers.py --data=mnist --extractor=mnist_lenet512_v1

None is a model. The honest one draws from one half of the test split, and the other
half is the test split here; the copying one draws from the training split; the dropping
one is the honest one without the upper half of the classes, drawn with replacement.
Prints a table with the floor in the last column and the seconds that it took.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from genjax.data.datasets import load
from genjax.data.split import Split
from genjax.evaluation import extractors
from genjax.evaluation.extractors import Extractor
from genjax.evaluation.panel import Panel
from genjax.evaluation.summary import Summary, summarize
from genjax.pictures.grids import image_grid, save_png
from genjax.typing import DataSpec

SHOWN, NEIGHBORS = 16, 3  # samples in a picture, and training images beside each


def read(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels), whole."""
    batch = split.read(np.arange(len(split)))
    return batch["image"], batch["label"]


def draw(
    train: np.ndarray, held_out: np.ndarray, labels: np.ndarray, num: int
) -> dict[str, np.ndarray]:
    """`num` images of each sampler; held_out with its labels is the honest one's."""
    rng = np.random.default_rng(0)
    dropped = held_out[labels < (labels.max() + 1) // 2]
    return {
        "honest": rng.permutation(held_out)[:num],
        "copying": rng.permutation(train)[:num],
        "dropping": dropped[rng.integers(0, len(dropped), num)],
    }


def kept(
    images: np.ndarray, name: str, spec: DataSpec, extractor: Extractor | None
) -> Summary:
    chunks = np.array_split(images, -(-len(images) // 4096))
    return summarize(chunks, name=name, spec=spec, extractor=extractor, keep=True)


def table(scores: dict[str, dict[str, float]]) -> str:
    """In Markdown; the floors are the same for every sampler of one size."""
    some = scores["honest"]
    lines = [f"| | {' | '.join(scores)} | floor |", "|---" * (len(scores) + 2) + "|"]
    for name in (name for name in some if not name.endswith("_floor")):
        values = [scores[s][name] for s in scores] + [some[f"{name}_floor"]]
        lines.append(f"| {name} | {' | '.join(f'{v:.4g}' for v in values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data_dir")
    parser.add_argument("--extractor", help="of genjax.evaluation.extractors")
    parser.add_argument("--num", type=int, default=2000, help="samples of each")
    parser.add_argument("--out", type=Path, help="a folder for <sampler>.png")
    flags = parser.parse_args()

    data = load(flags.data, flags.data_dir)
    spec = data.spec
    extractor = flags.extractor and extractors.load(flags.extractor, spec)
    train, _ = read(data.train)
    held_out, labels = read(data.eval)
    num = min(flags.num, (len(held_out) + 1) // 2)
    start = time.perf_counter()
    panel = Panel(
        kept(train, "train", spec, extractor),
        kept(held_out[1::2], "test", spec, extractor),
        spec=spec,
        extractor=flags.extractor,
    )
    print(f"{flags.data}: features in {time.perf_counter() - start:.0f} s")
    scores = {}
    for name, images in draw(train, held_out[::2], labels[::2], num).items():
        start = time.perf_counter()
        samples = kept(images, name, spec, extractor)
        scores[name] = panel(samples)
        print(f"{name}: {num} samples in {time.perf_counter() - start:.0f} s")
        if flags.out:
            which, index = panel.nearest_training(samples, SHOWN, NEIGHBORS)
            shown = np.concatenate([images[which][:, None], train[index]], axis=1)
            picture = image_grid(
                shown.reshape(-1, *spec.shape),
                spec.num_levels,
                columns=2 * (1 + NEIGHBORS),
            )
            save_png(flags.out / f"{name}.png", picture)
    print(panel.protocol(num), "", table(scores), sep="\n")


if __name__ == "__main__":
    main()
