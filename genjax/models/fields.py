"""The fields of flax modules as those of a config's section.

A module is a dataclass whose docstring has a line "name: meaning" for its fields, so a
config need not list them: `fields_of` does.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints

import flax.linen as nn
import jax.numpy as jnp

from genjax.fields import Field, Range

Dtype = Literal["float32", "bfloat16"]
DTYPE = Field(
    Dtype,
    "float32",
    "of the arithmetic; parameters, statistics and losses are float32",
)
"""Of networks whose modules take the dtype of their inputs (`models.traced`)."""

OWN = {"name", "parent"}  # of every flax module


def fields_of(
    module: type[nn.Module], *, without: tuple[str, ...] = (), prefix: str = ""
) -> dict[str, Field]:
    """The fields of a module, but those that the experiment gives.

    prefix: put before each name, as in "g_channels" of a generator. A dtype is its
    name; a whole number is at least 0.
    """
    hints = get_type_hints(module, include_extras=True)
    meanings = meanings_of(module)
    found = {}
    for field in dataclasses.fields(module):  # pyright: ignore
        if field.name in OWN or field.name in without:
            continue
        kind, default = hints[field.name], field.default
        if kind is jnp.dtype:
            kind, default = Dtype, "float32"
        elif kind is int:
            kind = Annotated[int, Range(0)]
        meaning = meanings.get(field.name, "")
        found[prefix + field.name] = Field(kind, default, meaning)
    return found


def meanings_of(module: type[nn.Module]) -> dict[str, str]:
    """{field: what the docstring's paragraph "field: ..." says}, in one line each.

    Of fields that a module has from another one, that one's docstring says it.
    """
    found: dict[str, str] = {}
    names = "|".join(f.name for f in dataclasses.fields(module))  # pyright: ignore
    start = re.compile(rf"(?:^|(?<=[.;] ))((?:(?:{names}), )*(?:{names})): ", re.M)
    kinds = [kind for kind in reversed(module.__mro__) if issubclass(kind, nn.Module)]
    texts = [inspect.cleandoc(kind.__doc__ or "") for kind in kinds[1:]]
    for paragraph in "\n\n".join(texts).split("\n\n"):
        pieces = start.split(paragraph)
        for said, meaning in zip(pieces[1::2], pieces[2::2], strict=True):
            for name in said.split(", "):
                found[name] = " ".join(meaning.split()).rstrip(";")
    return found


def module_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those values as a module takes them: a dtype by its name becomes a dtype."""
    given = dict(options)
    if "dtype" in given:
        given["dtype"] = jnp.dtype(given["dtype"])
    return given
