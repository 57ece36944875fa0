"""What is installed: declared dependencies, the program, and the files beside it."""

import ast
import configparser
import importlib
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import genjax
from genjax import configs

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {  # where the name of the import is not that of the distribution
    "PIL": "pillow",
    "absl": "absl-py",
    "google": "google-cloud-storage",
    "orbax": "orbax-checkpoint",
    "sklearn": "scikit-learn",
}
FOLDERS = ("genjax", "experiments", "configs")


def setup() -> configparser.ConfigParser:
    read = configparser.ConfigParser()
    read.read(ROOT / "setup.cfg")
    return read


def requirements(text: str) -> dict[str, Requirement]:
    """{name: requirement} of one a line."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {plain(found.name): found for found in map(Requirement, lines)}


def plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


CORE = requirements(setup()["options"]["install_requires"])
EXTRAS = {n: requirements(t) for n, t in setup()["options.extras_require"].items()}


def imported() -> set[str]:
    """Distributions that what is installed imports, at any depth."""
    found = set()
    for path in (p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    found -= set(sys.stdlib_module_names) | {*FOLDERS}
    return {plain(DISTRIBUTIONS.get(name, name)) for name in found}


def test_what_is_imported_is_declared():
    optional = {name for extra in EXTRAS.values() for name in extra}
    assert imported() - set(CORE) - optional == set()


@pytest.mark.parametrize("name", sorted({**CORE, **EXTRAS["dev"]}))
def test_each_dependency_has_a_floor_that_the_lock_and_these_tests_meet(name):
    needed = {**CORE, **EXTRAS["dev"]}[name]
    locked = requirements((ROOT / "requirements.lock").read_text())
    (floor,) = needed.specifier
    (pin,) = locked[name].specifier
    assert (floor.operator, pin.operator) == (">=", "==")
    assert Version(pin.version) in needed.specifier
    assert Version(metadata.version(name)) in needed.specifier


def test_the_program_is_the_one_that_launch_py_runs():
    (line,) = setup()["options.entry_points"]["console_scripts"].split("\n")[1:]
    name, _, target = line.partition(" = ")
    module, _, function = target.partition(":")
    launch = importlib.import_module("launch")
    assert name == "genjax"
    assert getattr(importlib.import_module(module), function) is launch.main


def test_what_lies_beside_the_package_is_installed_with_it():
    included = setup()["options.packages.find"]["include"].split()
    assert {"experiments", "configs"} <= set(included)
    assert configs.INSTALLED == ROOT
    for pattern in setup()["options.package_data"]["genjax"].split():
        assert list((ROOT / "genjax").glob(pattern)), pattern


def test_license_and_version_are_the_same_everywhere():
    named = setup()["metadata"]["license"]
    assert named == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"license: {named}" in citation
    assert f"version: {genjax.__version__}" in citation
    assert f"## {genjax.__version__}" in (ROOT / "CHANGELOG.md").read_text()
