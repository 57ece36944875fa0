"""Data sets of pictures, from a folder or elsewhere: splits, and rows as arrays."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from genjax.data import cache
from genjax.data.crop import Crop
from genjax.data.picture import BadPicture, Form, read_picture
from genjax.data.split import (
    Dataset,
    Examples,
    Labels,
    Rows,
    Split,
    fingerprint_of,
    image_spec,
)
from genjax.data.survey import PictureSet, Survey, form_of, sha256, survey
from genjax.typing import DataSpec, UserError

Numbers = list[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How pictures are read.

    image_size: cut out a square as `crop` of `genjax.data.crop.CROPS` says, resized to
        this side. None: pictures as they are, which must all have one size.
    color: "rgb" or "gray". None: gray where all pictures are.
    background: "white" or "black", what lies under transparent parts.
    skip_bad: go on without pictures that cannot be used, and say which they are.
    in_memory: decode once into the cache. None: splits of up to cache.CACHE_BYTES.
    check: is told what the data will be, before all pictures are read for the first
        time, and raises UserError if that is of no use. Colors are a guess.
    """

    image_size: int | None = None
    crop: Crop = "square"
    color: str | None = None
    background: str = "white"
    skip_bad: bool = False
    in_memory: bool | None = None
    cache_dir: str | None = None
    check: Callable[[DataSpec], None] | None = None


def dataset_of(
    name: str,
    pictures: PictureSet,
    labels: Sequence[int],
    classes: Sequence[str],
    parts: Callable[[Numbers], tuple[Numbers, Numbers]],
    how: Reading,
    **choices: str | float | None,
) -> Dataset:
    """These pictures as a data set.

    parts: the numbers of all that are good -> (of the training split, of the other).
    choices: of `fingerprint_of`, what else makes two data sets the same.
    Raises UserError that lists the pictures that cannot be used, unless how.skip_bad.
    """
    found = survey(
        pictures,
        skip_bad=how.skip_bad,
        cache_dir=how.cache_dir,
        before=lambda: _check_ahead(name, pictures, len(classes), how),
    )
    form, shape = _form(found, pictures, how)
    good = [i for i, title in enumerate(pictures.names) if title not in found.bad]
    if len(good) < 2:
        raise UserError(
            f"{pictures.where} holds {len(good)} pictures that can be used, and two "
            "are needed, to train and to evaluate; set data.dir"
        )
    train, test = (
        _split_of(
            f"{name} {title}",
            _Reader(
                pictures=pictures,
                rows=np.array(numbers),
                labels=np.array([labels[i] for i in numbers], np.int32),
                form=form,
                shape=shape,
            ),
            found,
            how,
        )
        for title, numbers in zip(("train", "eval"), parts(good), strict=True)
    )
    spec = image_spec(name, train, test, shape=shape, num_classes=len(classes))
    fingerprint = fingerprint_of(
        spec,
        content=found.content,
        image_size=how.image_size,
        crop=how.crop,
        background=how.background,
        **choices,
    )
    return Dataset(
        spec=spec,
        train=train,
        eval=test,
        fingerprint=fingerprint,
        notes={"classes": list(classes), "left_out": found.bad},
    )


def _form(
    found: Survey, pictures: PictureSet, how: Reading
) -> tuple[Form, tuple[int, int, int]]:
    return form_of(
        found,
        pictures.where,
        color=how.color,
        image_size=how.image_size,
        crop=how.crop,
        background=how.background,
    )


def _check_ahead(
    name: str, pictures: PictureSet, num_classes: int, how: Reading
) -> None:
    if how.check is None:
        return
    channels, num = 1 if how.color == "gray" else 3, len(pictures.names)
    if how.image_size is not None:
        size = (how.image_size, how.image_size)
    else:
        try:
            size = read_picture(pictures.source(0), "L", how.background).size
        except (OSError, BadPicture):  # which will be said together with the others
            return
    spec = DataSpec(
        name=name,
        shape=(size[1], size[0], channels),
        dtype="uint8",
        num_levels=256,
        num_train=num,
        num_eval=num,
        num_classes=num_classes,
    )
    how.check(spec)


def all_of(title: str, pictures: PictureSet, how: Reading) -> tuple[Split, str]:
    """All of these pictures as one split, streamed, and a fingerprint of it.

    Raises UserError that lists the pictures that cannot be used.
    """
    found = survey(pictures, cache_dir=how.cache_dir)
    form, shape = _form(found, pictures, how)
    num = len(pictures.names)
    reader = _Reader(
        pictures=pictures,
        rows=np.arange(num),
        labels=np.zeros(num, np.int32),
        form=form,
        shape=shape,
    )
    split = Split(name=title, num_examples=num, read_examples=reader.read)
    return split, sha256(repr((form, found.content)))


def held_out(
    numbers: Numbers, names: Sequence[str], fraction: float | None = None
) -> tuple[Numbers, Numbers]:
    """(the numbers of the training examples, those held out).

    Held out are the fraction (None: 0.1; at least one) whose names have the smallest
    SHA-256, and in that order, so that the first n are a fair sample; the others keep
    their order.
    names: of all examples, by number.
    Raises UserError for a fraction that is not between 0 and 1.
    """
    fraction = 0.1 if fraction is None else fraction
    if not 0 < fraction < 1:
        raise UserError(
            f"eval_fraction must lie between 0 and 1, got {fraction}; set "
            "data.eval_fraction"
        )
    ranked = sorted(numbers, key=lambda i: sha256(repr(names[i])))
    num = min(max(round(fraction * len(numbers)), 1), len(numbers) - 1)
    return sorted(ranked[num:]), ranked[:num]


def _split_of(title: str, reader: "_Reader", found: Survey, how: Reading) -> Split:
    """The reader's rows as a split, streamed or from the cache."""
    num = len(reader.rows)
    split = Split(name=title, num_examples=num, read_examples=reader.read)
    keep = how.in_memory
    if keep is None:
        keep = num * int(np.prod(reader.shape)) <= cache.CACHE_BYTES
    if not keep:
        return split
    names = reader.pictures.names
    pairs = zip(reader.rows.tolist(), reader.labels.tolist(), strict=True)
    chosen = [(names[row], label) for row, label in pairs]
    source = {
        "content": found.content,
        "rows": sha256(repr(chosen)),
        "form": dataclasses.asdict(reader.form),
    }
    return cache.in_memory(
        split, shape=reader.shape, source=source, cache_dir=how.cache_dir
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reader:
    """Some pictures by row. rows: their numbers. labels: one for each row."""

    pictures: PictureSet
    rows: np.ndarray
    labels: np.ndarray
    form: Form
    shape: tuple[int, int, int]

    def read(self, rows: Rows) -> tuple[Examples, Labels]:
        """Images (n, h, w, c) and labels (n,). Raises UserError for a bad picture."""
        image = np.empty((len(rows), *self.shape), np.uint8)
        for i, row in enumerate(rows.tolist()):
            image[i] = self._pixels(int(self.rows[row]))
        return image, self.labels[rows]

    def _pixels(self, number: int) -> np.ndarray:
        try:
            pixels = self.form.pixels(self.pictures.source(number))
            if pixels.shape == self.shape:
                return pixels
            problem = f"has the shape {pixels.shape}, not {self.shape}"
        except BadPicture as error:
            problem = str(error)
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
        raise UserError(  # so it was changed since, or the disk is at fault
            f"the picture {self.pictures.names[number]} in {self.pictures.where} "
            f"{problem}, and was good when the data were opened; start again"
        )
