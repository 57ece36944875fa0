"""A section of a config is a frozen dataclass: fields, defaults, ranges, meanings.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Method:
        num_timesteps: Count = 1000  # T
        prediction: Literal["eps", "x0", "v"] = "eps"  # what the network estimates

`read` makes one of the values that a config file and the command line give, and answers
a mistake with a sentence that names the field. The comment behind a field is its
meaning, which `--mode=show` prints. What concerns two fields at once is checked in the
section's `__post_init__`, which raises UserError.

A section whose fields depend on its values, as a network's do on its backbone, is a
Mapping with an `Open` beside it: Annotated[Mapping[str, Any], Open(fields_of)].
"""

import ast
import dataclasses
import functools
import inspect
import io
import math
import textwrap
import tokenize
import types
from collections.abc import Callable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from genjax.choices import local_path, nearest, one_of
from genjax.places import place
from genjax.typing import UserError

SectionT = TypeVar("SectionT")
REQUIRED = dataclasses.MISSING
LARGEST = 2**31 - 1  # of an int whose range has no end: devices count in 32 bits


class Range(NamedTuple):
    """Numbers from low to high. above, below: low, or high, itself is left out."""

    low: int | float
    high: int | float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: int | float) -> bool:
        """Whether value lies in the range."""
        if value in (self.low, self.high):
            return not (self.above if value == self.low else self.below)
        return self.low < value < self.high

    def __str__(self) -> str:
        """The words that come after "must be"."""
        if self.high == math.inf:
            return f"{'more than' if self.above else 'at least'} {self.low:g}"
        if self.below:
            return f"at least {self.low:g} and below {self.high:g}"
        return f"in {self.low:.10g} ... {self.high:.10g}"


class PathOf(NamedTuple):
    """Annotates a text: a path on this machine, or also one of a bucket."""

    bucket: bool


Positive = Annotated[float, Range(0.0, above=True)]
NonNegative = Annotated[float, Range(0.0)]
Share = Annotated[float, Range(0.0, 1.0)]
Decay = Annotated[float, Range(0.0, 1.0, below=True)]
Count = Annotated[int, Range(1)]
Steps = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
LocalPath = Annotated[str, PathOf(bucket=False)]
PlacePath = Annotated[str, PathOf(bucket=True)]


class Field(NamedTuple):
    """One field of a section. default: REQUIRED where a config must state it."""

    kind: Any
    default: Any = REQUIRED
    meaning: str = ""


class Open(NamedTuple):
    """Annotates a Mapping: its fields, given the values that a config states."""

    fields: Callable[[Mapping[str, Any]], Mapping[str, Field]]


@functools.cache
def fields_of(section: type) -> Mapping[str, Field]:
    """The fields of a section, in order."""
    hints = get_type_hints(section, include_extras=True)
    meanings = _comments(section)
    found = {}
    for field in dataclasses.fields(section):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        kind = hints[field.name]
        if dataclasses.is_dataclass(default):  # of several sections that one
            kind = type(default)
        found[field.name] = Field(kind, default, meanings.get(field.name, ""))
    return found


def read(section: type[SectionT], values: Mapping[str, Any], at: str = "") -> SectionT:
    """The section with these values, and its defaults for the others.

    at: where the section stands in the config, like "sampler.".
    Raises UserError for a field that does not exist or is missing, a name that is none
    of its names, a number out of range, a value of another type.
    """
    return section(**_values(fields_of(section), values, at))


def complete(kind: Any, stated: Any) -> dict[str, Any]:
    """{name: Field} of a section, nested, whose defaults are the stated values.

    kind: a section, or a Mapping annotated with `Open`. stated: a section or a mapping.
    """
    stated = _plainly(stated) if dataclasses.is_dataclass(stated) else stated
    found: dict[str, Any] = {}
    for name, field in _fields_with(kind, stated).items():
        value = stated.get(name, field.default)
        if section_kind(field.kind) is None:
            found[name] = field._replace(default=value)
            continue
        if dataclasses.is_dataclass(field.default) and isinstance(value, Mapping):
            value = _plainly(field.default) | dict(value)
        found[name] = complete(field.kind, {} if value is REQUIRED else value)
    return found


def _plainly(section: Any) -> dict[str, Any]:
    # not asdict, which would turn the sections within into dicts
    return {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}


def section_kind(kind: Any) -> Any:
    """The kind itself if its values are sections, else None."""
    if dataclasses.is_dataclass(kind):
        return kind
    return kind if any(isinstance(a, Open) for a in get_args(kind)[1:]) else None


def plain_type(kind: Any) -> type | None:
    """The type of a field's values, None aside: bool, int, float, str or tuple."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return plain_type(arguments[0])
    if origin in (Union, types.UnionType):
        return plain_type(next(a for a in arguments if a is not types.NoneType))
    if origin is Literal:
        return type(arguments[0])
    if origin is tuple or origin is Sequence:
        return tuple
    return kind if kind in (bool, int, float, str) else None


def from_text(kind: Any, text: str, name: str) -> Any:
    """What a flag's text means for a field of this kind: 1e3 is 1000 for an int.

    name: of the flag, for messages. Ranges and names are left to `read`.
    Raises UserError for a text of another type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return from_text(arguments[0], text, name)
    if origin in (Union, types.UnionType):
        inner = next(a for a in arguments if a is not types.NoneType)
        return None if text in ("None", "none") else from_text(inner, text, name)
    plain = plain_type(kind)
    if plain is tuple:
        return _tuple_of(arguments[0], text, name)
    if plain is bool and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    if plain in (int, float):
        return _number(plain, text, name)
    if plain in (bool, None):
        raise UserError(f"{name} must be true or false, not {text!r}")
    return text


def _number(plain: type, text: str, name: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        value = None
    if plain is float and value is not None:
        return value
    if value is not None and value.is_integer():
        return int(text) if text.lstrip("+-").isdecimal() else int(value)
    kind = "number" if plain is float else "whole number"
    raise UserError(f"{name} must be a {kind}, not {text!r}")


def _tuple_of(inner: Any, text: str, name: str) -> tuple[Any, ...]:
    """Of texts like "(1, 2)", "1,2", "1" and "ddim,heun"; of pairs, like "1,2;3,4"."""
    text = text.strip()
    if text[:1] in ("(", "[") and text[-1:] in (")", "]"):
        text = text[1:-1]
    between = ";" if plain_type(inner) is tuple else ","
    parts = [part.strip().strip("'\"") for part in text.split(between)]
    try:
        return tuple(from_text(inner, part, name) for part in parts if part)
    except UserError as error:
        example = {";": "3,17;5,8"}.get(between, "3 or 0,1,2")
        what = f"like {example}" if plain_type(inner) is not str else ""
        raise UserError(f"{name} must be a list {what}, not {text!r}") from error


def choices_of(kind: Any) -> str:
    """What a field may be, in words: names, a range, or "" for anything of its type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin is Annotated:
        ranges = [str(a) for a in arguments[1:] if isinstance(a, Range)]
        return " ".join(ranges) or choices_of(arguments[0])
    if origin in (Union, types.UnionType):
        inner = [choices_of(a) for a in arguments if a is not types.NoneType]
        return " or ".join([*inner, "None"]) if any(inner) else ""
    return ""


def _fields_with(kind: Any, stated: Mapping[str, Any]) -> Mapping[str, Field]:
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return fields_of(kind)
    opens = [a for a in get_args(kind)[1:] if isinstance(a, Open)]
    return opens[0].fields(stated)


def _values(
    fields: Mapping[str, Field],
    values: Any,
    at: str,
    whole: Any = None,
) -> dict[str, Any]:
    """The values that are given, each checked. whole: a section that has the others."""
    if not isinstance(values, Mapping):
        raise UserError(
            f"config.{at.rstrip('.')} must be a section with the fields "
            f"{', '.join(fields)}, not {values!r}"
        )
    read_values = {}
    for name, value in values.items():
        if name not in fields:
            hint = nearest(name, fields) or f"; there are {', '.join(fields)}"
            raise UserError(f"unknown config field {at}{name}{hint}")
        default = fields[name].default if whole is None else getattr(whole, name)
        read_values[name] = _value(fields[name].kind, value, at + name, default)
    for name, field in fields.items():
        if whole is None and field.default is REQUIRED and name not in values:
            raise UserError(f"the config lacks {at}{name}")
    return read_values


def _value(kind: Any, value: Any, name: str, default: Any = REQUIRED) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if (section := section_kind(kind)) is not None:
        if dataclasses.is_dataclass(section):
            assert isinstance(section, type)
            if isinstance(value, section):
                return value
            # what is not stated is as this field's default has it, not as the class
            whole = default if isinstance(default, section) else None
            given = _values(fields_of(section), value, f"{name}.", whole)
            return dataclasses.replace(whole, **given) if whole else section(**given)
        if not isinstance(value, Mapping):
            raise UserError(f"config.{name} must be a section, not {value!r}")
        return _values(_fields_with(section, value), value, at=f"{name}.")
    if origin in (Union, types.UnionType):  # sections use "X | None" only
        inner = next(a for a in arguments if a is not types.NoneType)
        return None if value is None else _value(inner, value, name)
    if origin is Literal:
        one_of(name, value, arguments)
    elif origin is Annotated:
        value = _value(arguments[0], value, name)
        for limit in arguments[1:]:
            _check_limit(limit, value, name)
    elif origin is tuple or origin is Sequence:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise UserError(f"config.{name} must be a tuple, not {value!r}")
        inner = arguments[0]
        return tuple(_value(inner, v, f"{name}[{i}]") for i, v in enumerate(value))
    elif kind in (bool, int, float, str):
        return _plain(kind, value, name)
    return value


def _check_limit(limit: Any, value: Any, name: str) -> None:
    if isinstance(limit, PathOf):
        read_path = place if limit.bucket else local_path
        read_path(value, f"config.{name}")
    if not isinstance(limit, Range):
        return
    if not limit.holds(value):
        raise UserError(f"config.{name} must be {limit}, not {value}")
    if isinstance(value, int) and value > LARGEST and limit.high == math.inf:
        raise UserError(f"config.{name} must be at most {LARGEST}, not {value}")


def _plain(kind: type, value: Any, name: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        article = "an" if kind is int else "a"
        raise UserError(
            f"config.{name} must be {article} {kind.__name__}, not {value!r}"
        )
    if kind is float and not math.isfinite(value):
        raise UserError(f"config.{name} must be a finite number, not {value}")
    return value


def _comments(section: type) -> dict[str, str]:
    """The comment behind each field in the source of a class and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        source = textwrap.dedent(inspect.getsource(base))
        comments = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        for node in ast.parse(source).body[0].body:  # pyright: ignore
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                said = [comments[line] for line in lines if line in comments]
                found[node.target.id] = " ".join(said)
    return found
