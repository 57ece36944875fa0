"""Scores samples from anywhere, and trains the networks that judge them.

python -m genjax.evaluation --samples=FOLDER_OR_NPZ --data=mnist
    scores pictures, or arr_0 of an .npz, against a data set, or against another folder
    or .npz, and prints the same JSON as --mode=evaluate.
python -m genjax.evaluation --reference=mnist --extractor=mnist_lenet512_v1
    works out what such a score needs of a data set, and keeps it: --samples and
    --mode=evaluate then begin at once. --samples keeps it as well.
python -m genjax.evaluation --train=mnist_lenet512_v1
    trains a network; a second call says that it is there. Of the copy of CIFAR-10 that
    was stored as JPEG, that of CIFAR-10 is called cifar10_jpeg75_resnet18_v1.

Weights lie in extractors/, references in references/ and floors, which are worked out
once for each number of samples, in floors/ of $GENJAX_CACHE, or else of
~/.cache/genjax. What --extractor may be: see genjax/evaluation/extractors.py.
"""

import argparse
import sys
from collections.abc import Sequence

import jax
import numpy as np
from tqdm import tqdm

from genjax.choices import local_path
from genjax.data import datasets
from genjax.disk import check_writable, drop_output, write_atomically
from genjax.evaluation import classifiers, extractors, score
from genjax.evaluation.train_classifier import accuracy
from genjax.places import place
from genjax.training import compile, metrics
from genjax.typing import SaveError, UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command line says, and returns the exit code."""
    options = parse(argv)
    try:
        readers = {"samples": place, "out": place, "data_dir": local_path}
        for flag, read_path in readers.items():
            if (given := getattr(options, flag)) is not None:
                setattr(options, flag, read_path(given, f"--{flag}"))
        if options.out:
            check_writable(options.out.parent, "the folder ")
        if options.train:
            train(options.train, options.data_dir)
        else:
            compile.use_persistent_cache()
            print(metrics.to_json(work(options), indent=2))
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        return 141  # as of a program that SIGPIPE ends
    except (UserError, SaveError) as error:
        print(f"genjax: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags; a mistake ends the program with code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m genjax.evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--samples", help="folder of pictures, or .npz")
    task.add_argument("--reference", help="data set, folder or .npz to sum up")
    task.add_argument("--train", choices=extractors.NAMES, help="network to train")
    parser.add_argument("--data", help="to compare with: data set, folder or .npz")
    parser.add_argument(
        "--split",
        choices=score.SPLITS,
        default="train",
        help="of the data set, to compare with; the other one gives the floors",
    )
    parser.add_argument("--extractor", help="network to compare in; default: pixels")
    parser.add_argument("--image_size", type=int, help="resizes the data, no samples")
    parser.add_argument("--data_dir", help="where TFDS keeps its data sets")
    parser.add_argument("--out", help="file for the same JSON")
    options = parser.parse_args(argv)
    if options.samples is not None and not options.data:
        parser.error("--samples needs --data, what to compare them with")
    return options


def work(options: argparse.Namespace) -> dict:
    """What --samples or --reference found; written to --out as well."""
    source = score.open_source(
        options.data if options.samples else options.reference,
        options.split,
        image_size=options.image_size,
        data_dir=options.data_dir,
    )
    if options.samples:
        result = score.score(options.samples, source, options.extractor)
    else:
        result = score.keep_reference(source, options.extractor)
    if options.out:
        content = metrics.to_json(result, indent=2) + "\n"
        write_atomically(options.out, content.encode())
    return result


def train(name: str, data_dir: str | None) -> None:
    """Fits the network to its data set and keeps the weights.

    Raises UserError for another data set of that name.
    """
    path = extractors.folder() / f"{name}.npz"
    if path.exists():
        print(f"{path} is there: delete it to train it again")
        return
    compile.use_persistent_cache()
    classifier = classifiers.CLASSIFIERS[name]
    dataset = datasets.load(classifier.data, data_dir)
    train_set, test_set = (
        split.read(np.arange(len(split))) for split in (dataset.train, dataset.eval)
    )
    classifiers.check_images(name, train_set["image"])
    with tqdm(unit="step") as bar:

        def say(step: int, total: int, loss: float) -> None:
            bar.total = total
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(step - bar.n)

        key = jax.random.key(0)
        images, labels = train_set["image"], train_set["label"]
        params = classifier.fit(images, labels, key=key, say=say)
    read = extractors.in_batches(classifier.features_and_logits, params)
    found = accuracy(read, test_set["image"], test_set["label"])
    write_atomically(path, extractors.to_bytes(params, found))
    print(f"{path}: test accuracy {found:.4f}")


if __name__ == "__main__":
    sys.exit(main())
