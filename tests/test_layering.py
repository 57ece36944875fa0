"""Imports go one way: the table of what each part of the library may know."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASE = {"typing"}
LAYERS = {
    "typing": set(),
    "axes": BASE,
    "choices": BASE,
    "streams": BASE,
    "labels": BASE,
    "scale": BASE,
    "state": BASE,
    "fields": BASE | {"choices"},
    "inputs": BASE | {"fields", "labels", "scale"},
    "nn": BASE,
    "distributions": BASE,
    "moments": BASE,
    "bijectors": BASE,
    "models": BASE | {"choices", "fields", "nn"},
    "objectives": BASE | {"distributions"},
    "augment": BASE | {"choices"},
    # the contract names the diffusion model, which is made of the following
    "experiment": BASE | {"diffusion"},
    "diffusion": BASE
    | {"augment", "axes", "choices", "distributions", "experiment", "fields"}
    | {"labels", "scale", "state", "train"},
    "data": BASE,
    "configs": BASE | {"choices", "experiment", "fields"},
    "train": BASE | {"configs", "experiment", "fields", "state", "streams"},
    "evaluation": BASE | {"choices", "experiment", "nn", "objectives"},
    "score": BASE | {"data", "evaluation", "train"},
    "evaluation.__main__": BASE | {"evaluation", "data", "train", "score"},
    # where they all meet
    "run": BASE
    | {"choices", "configs", "data", "diffusion", "evaluation", "experiment", "score"}
    | {"streams", "train"},
    "modes": BASE
    | {"choices", "configs", "data", "diffusion", "evaluation", "experiment", "fields"}
    | {"labels", "run", "score", "streams", "train"},
    "commandline": BASE | {"choices", "configs", "fields", "modes", "run", "train"},
}
FORBIDDEN = {  # third-party packages that a part has no business with
    "nn": {"optax", "ml_collections", "orbax"},
    "models": {"optax", "ml_collections", "orbax"},
    "objectives": {"flax", "optax", "ml_collections"},
    "augment": {"flax", "optax", "ml_collections"},
    "diffusion": {"flax", "ml_collections"},
    "fields": {"jax", "flax", "ml_collections"},
    "configs": {"jax", "flax"},
    "commandline": {"jax", "flax"},
}
FILES = sorted((ROOT / "genjax").rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            assert node.level == 0, f"{path}: relative import"
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_library_imports_point_down(path):
    part = path.relative_to(ROOT / "genjax").parts[0].removesuffix(".py")
    if path.name == "__main__.py":  # a command meets more than the library part
        part += ".__main__"
    if part == "__init__":
        return
    assert part in LAYERS, f"add {part} to the table of layers"
    allowed = LAYERS[part] | {part}
    for name in imports(path):
        top, *rest = name.split(".")
        assert top not in {"experiments", "configs", "launch", "tests"}, name
        assert top not in FORBIDDEN.get(part, set()), f"{part} must not import {name}"
        if top == "genjax" and rest:
            assert rest[0] in allowed, f"{part} must not import {name}"


MODES = sorted((ROOT / "genjax" / "modes").rglob("*.py"))


@pytest.mark.parametrize("path", MODES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modes_never_import_each_other(path):
    part = path.relative_to(ROOT / "genjax" / "modes").parts[0].removesuffix(".py")
    shared = {"mode", "beside", "drawing", part}
    for name in imports(path):
        parts = name.split(".")
        if parts[:2] == ["genjax", "modes"] and len(parts) > 2:
            assert parts[2] in shared, f"{part} must not import {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=str)
def test_experiments_never_import_each_other(path):
    assert not [
        n for n in imports(path) if n.split(".")[0] in {"experiments", "configs"}
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=str)
def test_configs_hold_plain_values(path):
    assert {n.split(".")[0] for n in imports(path)} <= {"ml_collections"}
