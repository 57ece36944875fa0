"""What a user may get wrong in a config or a call, answered in one sentence."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from genjax.typing import DataSpec, UserError


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The words "; did you mean X?" for the most similar known name, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {matches[0]}?" if matches else ""


def one_of(field: str, value: object, names: Iterable[str]) -> None:
    """Raises UserError, with the nearest name, unless value is one of names.

    field: where the value stands in the config, like "sampler.name".
    """
    names = list(names)
    if value in names:
        return
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(
        f"config.{field}={value!r} does not exist; {hint}known: {', '.join(names)}"
    )


def near_multiples(size: int, factor: int) -> str:
    """The words "24 or 32": the sizes about `size` that divide by the factor."""
    below, above = size // factor * factor, -(-size // factor) * factor
    return f"{below} or {above}" if 0 < below < above else str(above)


def local_path(path: str | os.PathLike[str], name: str) -> Path:
    """The absolute path. Raises UserError for none, and for one of another machine.

    name: of the flag or argument, for the message.
    """
    text = os.fspath(path)
    if not text:
        raise UserError(f"{name} needs a path, and is empty")
    if "://" in text:
        raise UserError(
            f"{name}={text} is no local path: give one, say of a mounted disk or bucket"
        )
    return Path(text).expanduser().absolute()


def images_only(model: str, spec: DataSpec) -> None:
    """Raises UserError, which names the model, unless an example is an image."""
    if spec.num_levels == 0:
        raise UserError(
            f"{spec.name} has points of shape {spec.shape}, and {model} is made for "
            "images: choose data of images, like digits or mnist"
        )
    if len(spec.shape) != 3:
        raise UserError(
            f"{spec.name} has examples of shape {spec.shape}, and {model} takes one "
            "image each, (height, width, channels): choose data like digits or mnist"
        )


def no_labels(label: object) -> None:
    """Raises UserError for a label: for samplers of models that learn none."""
    if label is not None:
        raise UserError(
            "this model is trained without labels, so it cannot be given any: leave "
            "them out"
        )
