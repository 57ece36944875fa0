"""Sections: what is read, completed and refused."""

import ast
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from genjax import configs, fields
from genjax.fields import (
    REQUIRED,
    Count,
    Field,
    NonNegative,
    Open,
    Positive,
    Range,
    Seed,
    Share,
    Steps,
)
from genjax.typing import UserError

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("[!_]*.py"))
EXPERIMENTS = sorted(p.stem for p in (ROOT / "experiments").glob("[!_]*.py"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Within another."""

    size: Count = 3  # of it
    rate: float = 0.5  # how fast


def fields_with(stated: Mapping[str, Any]) -> Mapping[str, Field]:
    kinds = {"name": Field(Literal["a", "b"]), "depth": Field(Count, 2)}
    return kinds | ({"only_b": Field(float, 1.0)} if stated["name"] == "b" else {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    """A section with one field of each kind."""

    needed: str  # must be stated
    kind: Literal["one", "two"] = "one"  # a name
    flag: bool = False
    numbers: tuple[int, ...] = (1, 2)
    maybe: Positive | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    inner: Inner = Inner(size=7)
    other: Annotated[Mapping[str, Any], Open(fields_with)] = dataclasses.field(
        default_factory=lambda: {"name": "a"}
    )

    def __post_init__(self) -> None:
        if self.flag and self.kind == "two":
            raise UserError("config.outer: flag is for kind='one'")


def test_defaults_and_stated_values():
    read = fields.read(Outer, {"needed": "x", "numbers": [3], "maybe": 2})
    assert (read.needed, read.numbers, read.maybe) == ("x", (3,), 2.0)
    assert type(read.maybe) is float
    assert read.inner == Inner(size=7)


def test_a_nested_section_keeps_the_default_of_its_field_and_not_of_its_class():
    read = fields.read(Outer, {"needed": "x", "inner": {"rate": 0.1}})
    assert read.inner == Inner(size=7, rate=0.1)
    completed = fields.complete(Outer, {"needed": "x", "inner": {"rate": 0.1}})
    assert completed["inner"]["size"].default == 7
    assert completed["inner"]["rate"].default == 0.1


def test_an_open_section_has_the_fields_of_its_name():
    for name, names in (("a", {"name", "depth"}), ("b", {"name", "depth", "only_b"})):
        stated = {"needed": "x", "other": {"name": name}}
        assert set(fields.complete(Outer, stated)["other"]) == names
    with pytest.raises(UserError, match=r"unknown config field other\.only_b"):
        fields.read(Outer, {"needed": "x", "other": {"name": "a", "only_b": 1.0}})


WRONG = [
    ({}, "the config lacks needed"),
    ({"needed": "x", "knd": "one"}, "unknown config field knd; did you mean kind?"),
    ({"needed": "x", "qqq": 1}, "unknown config field qqq; there are needed, kind"),
    ({"needed": 3}, "config.needed must be a str, not 3"),
    ({"needed": "x", "kind": "onne"}, "did you mean 'one'"),
    ({"needed": "x", "flag": 1}, "config.flag must be a bool, not 1"),
    ({"needed": "x", "numbers": 3}, "config.numbers must be a tuple, not 3"),
    ({"needed": "x", "numbers": (1, "a")}, "config.numbers[1] must be an int, not 'a'"),
    ({"needed": "x", "maybe": 0.0}, "config.maybe must be more than 0, not 0.0"),
    ({"needed": "x", "maybe": float("nan")}, "must be a finite number, not nan"),
    ({"needed": "x", "maybe": float("inf")}, "must be a finite number, not inf"),
    ({"needed": "x", "inner": {"size": 0}}, "config.inner.size must be at least 1"),
    ({"needed": "x", "inner": {"sise": 1}}, "inner.sise; did you mean size?"),
    ({"needed": "x", "inner": 1}, "config.inner must be a section with the fields"),
    ({"needed": "x", "flag": True, "kind": "two"}, "flag is for kind='one'"),
]


@pytest.mark.parametrize(("values", "words"), WRONG)
def test_a_mistake_names_the_field(values, words):
    with pytest.raises(UserError) as said:
        fields.read(Outer, values)
    assert words in str(said.value)


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        (Positive, [1e-9, 5.0], [0.0, -1.0]),
        (NonNegative, [0.0, 5.0], [-1e-9]),
        (Share, [0.0, 0.5, 1.0], [-0.1, 1.1]),
        (Count, [1, 10**9], [0, -1]),
        (Steps, [0, 5], [-1]),
        (Seed, [0, 2**32 - 1], [-1, 2**32]),
        (Annotated[int, Range(2, 4)], [2, 3, 4], [1, 5]),
    ],
)
def test_ranges(kind, inside, outside):
    section = dataclasses.make_dataclass("Section", [("x", kind)], frozen=True)
    # what has no file has no comments
    for value in inside:
        assert fields._value(kind, value, "x") == value
    for value in outside:
        with pytest.raises(UserError, match=rf"config.x must be .*, not {value}"):
            fields._value(kind, value, "x")
    assert section is not None and fields.choices_of(kind)


TEXTS = [
    (int, "12", 12),
    (int, "1e3", 1000),
    (Count, "-3", -3),  # ranges are for `read`
    (float, "1e-3", 0.001),
    (float, "3", 3.0),
    (bool, "True", True),
    (bool, "false", False),
    (str, "1", "1"),
    (float | None, "None", None),
    (Count | None, "5", 5),
    (Literal["a", "b"], "b", "b"),
    (Literal[1, 2], "2", 2),
    (tuple[int, ...], "(1, 2)", (1, 2)),
    (tuple[int, ...], "1,2", (1, 2)),
    (tuple[int, ...], "1", (1,)),
    (tuple[int, ...], "()", ()),
    (tuple[float, ...] | None, "[1,2.5]", (1.0, 2.5)),
    (tuple[str, ...], "ddim,heun", ("ddim", "heun")),
    (tuple[str, ...], "('ddim', 'heun')", ("ddim", "heun")),
    (tuple[tuple[int, int], ...], "3,17;5,8", ((3, 17), (5, 8))),
    (Sequence[int], "1,2", (1, 2)),
    (int, "12345678901234567890", 12345678901234567890),
]


@pytest.mark.parametrize(("kind", "text", "value"), TEXTS)
def test_a_text_is_read_as_its_field(kind, text, value):
    read = fields.from_text(kind, text, "--x")
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (int, "1.5", "--x must be a whole number, not '1.5'"),
        (int, "", "--x must be a whole number, not ''"),
        (int, "inf", "--x must be a whole number, not 'inf'"),
        (float, "fast", "--x must be a number, not 'fast'"),
        (bool, "yes!", "--x must be true or false, not 'yes!'"),
        (tuple[int, ...], "a,b", "--x must be a list like 3 or 0,1,2, not 'a,b'"),
        (tuple[tuple[int, int], ...], "3;x", "a list like 3,17;5,8, not '3;x'"),
    ],
)
def test_a_text_of_another_type_is_refused(kind, text, words):
    with pytest.raises(UserError) as said:
        fields.from_text(kind, text, "--x")
    assert words in str(said.value)


def test_meanings_are_the_comments():
    known = fields.fields_of(Outer)
    assert known["needed"] == Field(str, REQUIRED, "must be stated")
    assert known["kind"].meaning == "a name" and known["flag"].meaning == ""
    assert fields.fields_of(Inner)["rate"].meaning == "how fast"


def sections_of(section: type) -> dict[type, None]:
    """A section and those within, in order."""
    found = {section: None}
    for field in fields.fields_of(section).values():
        kind = fields.section_kind(field.kind)
        if inspect.isclass(kind) and dataclasses.is_dataclass(kind):
            found |= sections_of(kind)
    return found


def undescribed(section: type) -> list[str]:
    return [
        f"{inner.__module__}.{inner.__name__}.{name}"
        for inner in sections_of(section)
        for name, field in fields.fields_of(inner).items()
        if not field.meaning and fields.section_kind(field.kind) is None
    ]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_of_a_config_has_a_meaning(name):
    """Those of its networks too, which their docstrings give."""
    shown = configs.flatten(configs.described(configs.load(name).to_dict()))
    assert not [field for field, said in shown.items() if not said.meaning]


def test_every_common_field_has_a_meaning():
    assert not undescribed(configs.Common)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_field_of_an_experiment_has_a_meaning(name):
    config = configs.find_experiment(name).Config
    assert not undescribed(config)
    tree = ast.parse((ROOT / "experiments" / f"{name}.py").read_text())
    assert any(isinstance(n, ast.ClassDef) and n.name == "Config" for n in tree.body)
