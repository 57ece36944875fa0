"""Images of two domains side by side, for models that translate between them.

An example is a pair, (2, height, width, channels): of domain A, then of domain B. There
are two kinds:

- `two_domains` takes any two data sets. Nothing is known of what belongs together.
- `known_map` makes B of A by a map that evaluation knows and training does not. The two
  domains share no example in training: A has one half of the set, and B what the map
  makes of the other half. The evaluation split is aligned: B is the map of A.

In training B comes in an order of its own, so that sets whose files lie in pairs are
mixed too. Which B stands beside which A means nothing: an unpaired loss is a sum over
the ones and over the others. The shorter domain begins anew until the longer one ends.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from genjax.data.crop import center_square
from genjax.data.picture import MODES
from genjax.data.pipeline import RESIDENT_BYTES, rows
from genjax.data.split import (
    Dataset,
    Examples,
    Labels,
    Rows,
    Split,
    fingerprint_of,
    split_from_arrays,
)
from genjax.typing import DataSpec, UserError

Images = UInt8[np.ndarray, "n h w c"]
Change = Callable[[np.ndarray], np.ndarray]


# --- known maps -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class KnownMap:
    """A map of images with levels 0 ... num_levels - 1: (images, num_levels) -> images.

    undo: its inverse; None where it has none.
    """

    apply: Callable[[Images, int], Images]
    undo: Callable[[Images, int], Images] | None


def invert(images: Images, num_levels: int) -> Images:
    """Black for white."""
    return (num_levels - 1 - images).astype(np.uint8)


def turn_left(images: Images, num_levels: int) -> Images:
    """By 90 degrees counterclockwise."""
    return np.ascontiguousarray(np.rot90(images, 1, axes=(1, 2)))


def turn_right(images: Images, num_levels: int) -> Images:
    """By 90 degrees clockwise."""
    return np.ascontiguousarray(np.rot90(images, -1, axes=(1, 2)))


def edges(images: Images, num_levels: int) -> Images:
    """The length of the gradient, by differences of the next pixels on either side.

    Cut off at the highest level: a step by d levels becomes two pixels of level d.
    """
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    right = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    return np.minimum(np.hypot(down, right).round(), num_levels - 1).astype(np.uint8)


MAPS = {
    "inverted": KnownMap(invert, invert),
    "rotated": KnownMap(turn_left, turn_right),
    "edges": KnownMap(edges, None),
}
"""Names that data.known_map may have."""


# --- pairs ----------------------------------------------------------------------------


def two_domains(
    a: Dataset,
    b: Dataset,
    *,
    name: str = "domains",
    label_a: int | None = None,
    label_b: int | None = None,
    image_size: int | None = None,
    color: str | None = None,
) -> Dataset:
    """Pairs of the images of two data sets, which share their classes or have none.

    label_a, label_b: only images of this class. None: all.
    image_size: the centered squares of both, resized to this side. None: as they are.
    color: "rgb" or "gray"; None: as they are.

    Where the two have other levels or an image is resized, all levels become 0 ... 255.
    Raises UserError where sizes or channels differ, or a class has no images.
    """
    shape, num_levels = common_form(a.spec, b.spec, image_size, color)
    sides = {
        part: (
            _side(data_a, a.spec, label_a, shape, num_levels),
            _side(data_b, b.spec, label_b, shape, num_levels),
        )
        for part, data_a, data_b in [
            ("train", a.train, b.train),
            ("eval", a.eval, b.eval),
        ]
    }
    first, second = sides["train"]
    sides["train"] = (first, second.select(_shuffled(len(second.rows))))
    share_classes = a.spec.num_classes == b.spec.num_classes and label_a == label_b
    return _dataset(
        name,
        sides,
        shape,
        num_levels=num_levels,
        num_classes=a.spec.num_classes if share_classes else 0,
        aligned=False,
        choices={
            "a": a.fingerprint,
            "b": b.fingerprint,
            "label_a": label_a,
            "label_b": label_b,
        },
    )


def known_map(
    dataset: Dataset,
    map_name: str,
    *,
    name: str = "domains",
    label: int | None = None,
    image_size: int | None = None,
    color: str | None = None,
) -> Dataset:
    """Pairs of images and, in the evaluation split, what the map makes of them.

    map_name: one of MAPS. The other options are those of `two_domains`.
    Raises UserError for a map that is not known, or images to turn that are no squares.
    """
    if map_name not in MAPS:
        raise UserError(
            f"data.known_map={map_name!r} does not exist; known: {', '.join(MAPS)}"
        )
    spec = dataset.spec
    shape, num_levels = common_form(spec, spec, image_size, color)
    if map_name == "rotated" and shape[0] != shape[1]:
        raise UserError(
            f"images of {spec.name} are {shape[0]} x {shape[1]}, and only squares can "
            "be turned by 90 degrees; set data.image_size"
        )

    def mapped(images: Images) -> Images:
        return MAPS[map_name].apply(images, num_levels)

    train, held_out = (
        _side(split, spec, label, shape, num_levels)
        for split in (dataset.train, dataset.eval)
    )
    order = _shuffled(len(train.rows))
    half = len(order) // 2
    if half == 0:
        raise UserError(f"{spec.name} has too few images to be cut in half")
    return _dataset(
        name,
        {
            "train": (train.select(order[:half]), train.select(order[half:], mapped)),
            "eval": (held_out, dataclasses.replace(held_out, after=mapped)),
        },
        shape,
        num_levels=num_levels,
        num_classes=spec.num_classes,
        aligned=True,
        choices={"a": dataset.fingerprint, "label": label, "known_map": map_name},
    )


def common_form(
    a: DataSpec, b: DataSpec, image_size: int | None, color: str | None
) -> tuple[tuple[int, ...], int]:
    """((height, width, channels), num_levels) that images of both are brought to.

    Raises UserError where there is no such form without resizing or recoloring.
    """
    for spec in (a, b):
        if spec.num_levels == 0 or len(spec.shape) != 3:
            raise UserError(
                f"{spec.name} has examples of shape {spec.shape}, and a domain is a "
                "set of images; choose another in data.a.name and data.b.name"
            )
    if color is not None and color not in MODES:
        raise UserError(f"color must be 'rgb' or 'gray', not {color!r}; set data.color")
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size must be positive, got {image_size}")
    sizes, channels = {a.shape[:2], b.shape[:2]}, {a.shape[2], b.shape[2]}
    if image_size is not None:
        sizes = {(image_size, image_size)}
    if color is not None:
        channels = {3 if color == "rgb" else 1}
    for wanted, field in [(sizes, "image_size"), (channels, "color")]:
        if len(wanted) > 1:
            raise UserError(
                f"the images of {a.name} are {a.shape}, those of {b.name} {b.shape}; "
                f"set data.{field} to bring them to one form"
            )
    shape = (*sizes.pop(), channels.pop())
    as_they_are = a.shape == b.shape == shape and a.num_levels == b.num_levels
    return shape, a.num_levels if as_they_are else 256


def bring(
    images: Images, *, num_levels: int, shape: tuple[int, ...], to_levels: int
) -> UInt8[np.ndarray, "n h2 w2 c2"]:
    """The images with to_levels levels and of this shape, (height, width, channels).

    Where the size differs, the centered square is resized by `center_square`, with 256
    levels before it comes to to_levels.
    """
    if images.shape[1:] == shape:
        return relevel(images, num_levels, to_levels)
    mode = MODES["rgb" if shape[2] == 3 else "gray"]
    brought = np.empty((len(images), *shape), np.uint8)
    for image, out in zip(relevel(images, num_levels, 256), brought, strict=True):
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        picture = picture.convert(mode)
        if image.shape[:2] != shape[:2]:
            picture = center_square(picture, shape[0])
        out[:] = np.asarray(picture).reshape(shape)
    return relevel(brought, 256, to_levels)


def relevel(images: Images, num_levels: int, to_levels: int) -> Images:
    """Levels 0 ... num_levels - 1 to the nearest of 0 ... to_levels - 1."""
    if num_levels == to_levels:
        return images
    scaled = np.arange(num_levels) * ((to_levels - 1) / (num_levels - 1))
    return scaled.round().astype(np.uint8)[images]


@dataclasses.dataclass(frozen=True)
class _Side:
    """One domain: some rows of a split, in an order, and what becomes of them."""

    split: Split
    rows: Rows
    change: Change
    after: Change | None = None

    def select(self, places: Rows, after: Change | None = None) -> "_Side":
        return dataclasses.replace(self, rows=self.rows[places], after=after)

    def read(self, places: Rows) -> tuple[Examples, Labels]:
        batch = self.split.read(self.rows[places % len(self.rows)])
        images = self.change(batch["image"])
        return images if self.after is None else self.after(images), batch["label"]


def _side(
    split: Split,
    spec: DataSpec,
    label: int | None,
    shape: tuple[int, ...],
    num_levels: int,
) -> _Side:
    def change(images: np.ndarray) -> np.ndarray:
        return bring(
            images, num_levels=spec.num_levels, shape=shape, to_levels=num_levels
        )

    return _Side(split, _rows_of(split, label), change)


def _rows_of(split: Split, label: int | None) -> Rows:
    """The rows of that class, or all."""
    everything = np.arange(len(split))
    if label is None:
        return everything
    labels = (split.arrays or split.read(everything))["label"]
    found = np.flatnonzero(labels == label)
    if len(found) == 0:
        raise UserError(
            f"{split.name} has no images of class {label}; set data.a.label and "
            "data.b.label to classes that it has"
        )
    return found


def _shuffled(num: int) -> Rows:
    """0 ... num - 1 in an order that is the same for ever."""
    return rows(0, 0, batch_size=num, num_examples=num) if num else np.arange(0)


def _pairs(name: str, a: _Side, b: _Side, shape: tuple[int, ...]) -> Split:
    num = max(len(a.rows), len(b.rows))

    def read(places: Rows) -> tuple[Examples, Labels]:
        images, labels = zip(a.read(places), b.read(places), strict=True)
        return np.stack(images, axis=1), np.stack(labels, axis=1)

    in_memory = a.split.arrays is not None and b.split.arrays is not None
    if in_memory and 2 * num * int(np.prod(shape)) <= RESIDENT_BYTES:
        return split_from_arrays(name, *read(np.arange(num)))
    return Split(name=name, num_examples=num, read_examples=read)


def _dataset(
    name: str,
    sides: dict[str, tuple[_Side, _Side]],
    shape: tuple[int, ...],
    *,
    num_levels: int,
    num_classes: int,
    aligned: bool,
    choices: dict[str, str | int | None],
) -> Dataset:
    train, held_out = (
        _pairs(f"{name} {part}", *sides[part], shape) for part in ("train", "eval")
    )
    spec = DataSpec(
        name=name,
        shape=(2, *shape),
        dtype="uint8",
        num_levels=num_levels,
        num_train=len(train),
        num_eval=len(held_out),
        num_classes=num_classes,
        aligned=aligned,
    )
    sizes = tuple(len(side.rows) for side in sides["eval"])
    if len(set(sizes)) > 1:
        spec = dataclasses.replace(spec, eval_sizes=sizes)
    fingerprint = fingerprint_of(spec, **choices)
    return Dataset(spec=spec, train=train, eval=held_out, fingerprint=fingerprint)
