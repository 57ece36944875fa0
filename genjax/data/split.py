"""What a data set is to the rest of the library: rows that can be read by number."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Shaped

from genjax.typing import DataSpec

Rows = Int[np.ndarray, " n"]
Examples = Shaped[np.ndarray, "n *shape"]
Labels = Int32[np.ndarray, "n *domains"]  # (n,), or (n, 2) of two domains


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Examples 0 ... num_examples - 1, readable in any order, from many threads.

    arrays: {"image", "label"} of all examples when they fit in memory (perhaps
        memory-mapped from a file), otherwise None.
    read_examples: the images and labels of the given rows.
    """

    name: str
    num_examples: int
    read_examples: Callable[[Rows], tuple[Examples, Labels]]
    arrays: Mapping[str, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.num_examples

    def read(self, rows: Rows) -> dict[str, np.ndarray]:
        """The rows as a batch {"image", "label", "index"}; index repeats `rows`.

        Raises UserError that names the file where an example cannot be decoded.
        """
        image, label = self.read_examples(rows)
        return {"image": image, "label": label, "index": rows.astype(np.int32)}

    def chunks(self, size: int = 4096) -> Iterator[Examples]:
        """All images or points in order, `size` at a time."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield self.read_examples(rows)[0]


def split_from_arrays(name: str, image: Examples, label: Labels) -> Split:
    """A split that lies in memory (or in a memory-mapped file)."""
    return Split(
        name=name,
        num_examples=len(image),
        read_examples=lambda rows: (image[rows], label[rows]),
        arrays={"image": image, "label": label},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """What `load` gives: two splits and what an experiment may know of them.

    fingerprint: a short hash of name, version, splits, number of examples and
        preprocessing. It is stored with a checkpoint, so that a run does not go on with
        other data; it does not depend on where the files lie.
    notes: what else a person may want to know, JSON values, kept in config.json:
        the classes' names, the examples that were left out and why.
    """

    spec: DataSpec
    train: Split
    eval: Split
    fingerprint: str
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def image_spec(
    name: str,
    train: Split,
    held_out: Split,
    *,
    shape: tuple[int, ...],
    num_levels: int = 256,
    num_classes: int,
) -> DataSpec:
    """What two splits of uint8 images are."""
    return DataSpec(
        name=name,
        shape=shape,
        dtype="uint8",
        num_levels=num_levels,
        num_train=len(train),
        num_eval=len(held_out),
        num_classes=num_classes,
    )


def fingerprint_of(spec: DataSpec, **choices: str | int | float | None) -> str:
    """12 hexadecimal digits of what makes two data sets the same.

    choices: version, splits, preprocessing: all that is not in the spec. Never a path.
    """
    # what few data sets have is left out of the others' hash, which so stays the same
    fields = {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if getattr(spec, field.name) != field.default
    }
    described = json.dumps({"spec": fields, "choices": choices}, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:12]
