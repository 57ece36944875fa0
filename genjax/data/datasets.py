"""One way in to every data set: `load(name)`."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from genjax.data import toy
from genjax.data.crop import Crop
from genjax.data.domains import known_map as mapped_domains
from genjax.data.domains import two_domains
from genjax.data.folder import folder
from genjax.data.hugging_face import hugging_face
from genjax.data.npz import npz
from genjax.data.split import (
    Dataset,
    fingerprint_of,
    image_spec,
    split_from_arrays,
)
from genjax.data.stacked_mnist import stacked_mnist
from genjax.data.tfds_images import builder_names, tfds_images
from genjax.typing import DataSpec, UserError

# scikit-learn's 1,797 digits, split as in J. Tomczak's teaching code, so that its
# published likelihoods compare.
_DIGITS_SPLITS = {
    "train": slice(0, 1000),
    "validation": slice(1000, 1350),
    "test": slice(1350, None),
}


def load(
    name: str,
    dir: str | None = None,
    *,
    train_split: str | None = None,
    eval_split: str | None = None,
    image_size: int | None = None,
    crop: Crop | None = None,
    color: str | None = None,
    background: str | None = None,
    eval_fraction: float | None = None,
    skip_bad: bool | None = None,
    num_train: int | None = None,
    num_eval: int | None = None,
    seed: int | None = None,
    in_memory: bool | None = None,
    a: Mapping[str, Any] | None = None,
    b: Mapping[str, Any] | None = None,
    known_map: str | None = None,
    cache_dir: str | None = None,
    download: bool = True,
    check: Callable[[DataSpec], None] | None = None,
) -> Dataset:
    """The data set called `name`. None leaves an option at the data set's default.

    - "digits" (`digits`): eval_split.
    - a density of `genjax.data.toy` (`toy_points`): num_train, num_eval, seed.
    - "stacked_mnist" (`stacked_mnist`): dir, num_train, num_eval, seed.
    - "folder", your own pictures (`folder`): dir, image_size, crop, color, background,
      eval_fraction, skip_bad, in_memory.
    - "npz", your own arrays (`npz`): dir, image_size, crop, eval_fraction.
    - "hf", "hf:NAME" (`hugging_face`): those of a folder, train_split, eval_split.
    - "domains", pairs from two of the others (`domains`): a, b, known_map, their form.
    - any image data set of TFDS (`tfds_images`), say "mnist", "cifar10": dir,
      train_split, eval_split, image_size, crop, in_memory. It is downloaded if need be.

    dir, cache_dir, download: where the data are. check: see `picture_split.Reading`.

    Raises UserError for an unknown name, an option that this data set does not have,
    and data that are missing or damaged.
    """
    place = {"dir": dir, "cache_dir": cache_dir, "download": download, "check": check}
    options = {
        "train_split": train_split,
        "eval_split": eval_split,
        "image_size": image_size,
        "crop": crop,
        "color": color,
        "background": background,
        "eval_fraction": eval_fraction,
        "skip_bad": skip_bad,
        "num_train": num_train,
        "num_eval": num_eval,
        "seed": seed,
        "in_memory": in_memory,
        "a": a,
        "b": b,
        "known_map": known_map,
    }
    return _load(name, options, place)


def _load(name: str, options: Mapping[str, Any], place: Mapping[str, Any]) -> Dataset:
    loader, takes = _loader(name), options_of(name)
    given = _given(name, options, takes)
    dataset = loader(name, **given, **{k: place[k] for k in place.keys() & takes})
    if dataset is None:
        raise _unknown(name)
    return dataset


def options_of(name: str) -> Collection[str]:
    """The arguments of `load` that mean something for the data set of that name."""
    return inspect.signature(_loader(name)).parameters.keys()


def _given(
    name: str, options: Mapping[str, Any], takes: Collection[str]
) -> dict[str, Any]:
    """The options that are not None. Raises UserError for one that is not taken."""
    given = {key: value for key, value in options.items() if value is not None}
    for option in given:
        if option not in takes:
            known = ", ".join(key for key in options if key in takes) or "none"
            raise UserError(
                f"the data set {name!r} has no option {option!r} (it has: {known}); "
                f"leave data.{option} out"
            )
    return given


def _loader(name: str) -> Callable[..., Dataset | None]:
    if name == "digits":
        return digits
    if name == "stacked_mnist":
        return stacked_mnist
    if name == "folder":
        return folder
    if name == "npz":
        return npz
    if name == "hf" or name.startswith("hf:"):
        return hugging_face
    if name == "domains":
        return domains
    return toy_points if name in toy.NAMES else tfds_images


def _unknown(name: str) -> UserError:
    ours = ["digits", "stacked_mnist", "folder", "npz", "hf", "domains", *toy.NAMES]
    near = difflib.get_close_matches(name, [*ours, *builder_names()], n=1, cutoff=0.5)
    if near:
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = f"known are {', '.join(ours)}, and the image data sets of TFDS"
    return UserError(f"there is no data set called {name!r}; {hint}")


def digits(name: str = "digits", *, eval_split: str = "test") -> Dataset:
    """scikit-learn's digits: (8, 8, 1), 17 levels 0 ... 16, 10 classes.

    Trains on the first 1,000; eval_split is "validation" (350) or "test" (447).
    """
    from sklearn.datasets import load_digits  # a second, which others need not wait

    if eval_split not in ("validation", "test"):
        raise UserError(
            f"the digits are evaluated on 'validation' or 'test', not {eval_split!r}; "
            "set data.eval_split"
        )
    bunch: Any = load_digits()
    image = bunch.images.astype(np.uint8)[..., None]
    label = bunch.target.astype(np.int32)
    train, held_out = (
        split_from_arrays(
            f"digits {part}", image[_DIGITS_SPLITS[part]], label[_DIGITS_SPLITS[part]]
        )
        for part in ("train", eval_split)
    )
    spec = image_spec(
        name, train, held_out, shape=(8, 8, 1), num_levels=17, num_classes=10
    )
    fingerprint = fingerprint_of(spec, eval_split=eval_split)
    return Dataset(spec=spec, train=train, eval=held_out, fingerprint=fingerprint)


_SIDE_OPTIONS = ("name", "dir", "train_split", "eval_split", "label")


def domains(
    name: str = "domains",
    dir: str | None = None,
    *,
    a: Mapping[str, Any],
    b: Mapping[str, Any] | None = None,
    known_map: str | None = None,
    image_size: int | None = None,
    color: str | None = None,
    background: str | None = None,
    skip_bad: bool | None = None,
    cache_dir: str | None = None,
    download: bool = True,
) -> Dataset:
    """Pairs of an image of domain A and one of domain B: see `genjax.data.domains`.

    a, b: {"name": any image data set of `load`, "dir", "train_split", "eval_split",
        "label": only this class}, all but the name optional. The domains may be two
        classes, or two splits, of one set.
    known_map: in the place of b: B is A inverted, rotated or its edges.
    image_size, color: what images of both are brought to; None: as they are.
    background, skip_bad: of the sides that have them, like a folder.
    """
    first, second = _side_options("a", a), _side_options("b", b)
    if not first or bool(second) == (known_map is not None):
        raise UserError(
            "the data set 'domains' needs data.a.name, and either data.b.name or "
            "data.known_map"
        )

    form = {"image_size": image_size, "color": color}
    names = [side["name"] for side in (first, second) if side]
    own = _of_files(names, {"background": background, "skip_bad": skip_bad})

    def load_side(name: str, dir_of_side: str | None, splits: dict[str, Any]):
        takes = options_of(name)
        return load(
            name,
            dir_of_side or dir,
            cache_dir=cache_dir,
            download=download,
            **{k: v for k, v in (form | own).items() if k in takes},
            **splits,
        )

    labels = [side.pop("label", None) for side in (first, second)]
    loaded = [
        load_side(side.pop("name"), side.pop("dir", None), side)
        for side in (first, second)
        if side
    ]
    if known_map is not None:
        pairs = mapped_domains(loaded[0], known_map, label=labels[0], name=name, **form)
    else:
        pairs = two_domains(
            *loaded, label_a=labels[0], label_b=labels[1], name=name, **form
        )
    notes = {side: data.notes for side, data in zip("ab", loaded, strict=False)}
    return dataclasses.replace(pairs, notes=notes)


def _of_files(names: Collection[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not None. Raises UserError for one that no side has."""
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if not any(option in options_of(name) for name in names):
            raise UserError(
                f"data.{option} is for pictures in files, and {' and '.join(names)} "
                "has none; leave it out"
            )
    return given


def _side_options(side: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is given of a side; {} for one without a name."""
    given = dict(options or {})
    for key in given.keys() - set(_SIDE_OPTIONS):
        raise UserError(
            f"data.{side} has no option {key!r} (it has: {', '.join(_SIDE_OPTIONS)})"
        )
    given = {key: value for key, value in given.items() if value is not None}
    if given and "name" not in given:
        raise UserError(f"data.{side} has {', '.join(given)} but no data.{side}.name")
    return given


def toy_points(
    name: str, *, num_train: int = 50_000, num_eval: int = 10_000, seed: int = 0
) -> Dataset:
    """A fixed set of points of a toy density, float32; the label is the mode.

    The density itself, with log_prob and score, is `genjax.data.toy.density(name)`.
    """
    if num_train < 1 or num_eval < 1:
        raise UserError(
            f"num_train and num_eval must be positive, got {num_train} and {num_eval}; "
            "set data.num_train and data.num_eval"
        )
    train, held_out = toy.fixed_samples(name, seed, num_train, num_eval)
    p = toy.density(name)
    spec = DataSpec(
        name=name,
        shape=(p.dim,),
        dtype="float32",
        num_levels=0,
        num_train=num_train,
        num_eval=num_eval,
        num_classes=p.num_modes,
    )
    return Dataset(
        spec=spec,
        train=split_from_arrays(f"{name} train", *train),
        eval=split_from_arrays(f"{name} eval", *held_out),
        fingerprint=fingerprint_of(spec, seed=seed),
    )
