"""Imports go one way: the table of what each part of the library may know."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASE = {"typing"}
DIFFUSION = BASE | {"axes", "choices", "diffusion", "distributions", "fields"}
DIFFUSION |= {"labels", "log_likelihood", "scale", "state"}
OBJECTIVES = BASE | {"axes", "choices", "distributions", "fields", "log_likelihood"}
OBJECTIVES |= {"objectives", "scale"}
LAYERS = {  # a file or folder of genjax; the longest name that fits a file counts
    "typing": set(),
    "__main__": BASE | {"commandline", "disk", "screen", "training"},
    "axes": BASE,
    "choices": BASE,
    "disk": BASE | {"places"},
    "places": BASE,
    "distributions": BASE,
    "labels": BASE,
    "log_likelihood": BASE,
    "moments": BASE,
    "nn": BASE,
    "scale": BASE,
    "state": BASE,
    "variants": set(),
    "screen": set(),
    "sources": set(),
    "streams": BASE,
    "fields": BASE | {"choices", "places"},
    "inputs": BASE | {"fields", "labels", "scale"},
    "models": BASE | {"choices", "fields", "nn"},
    "objectives": OBJECTIVES,
    "objectives.codes": OBJECTIVES | {"experiment"},  # as diffusion.as_experiment
    "objectives.gaps": OBJECTIVES | {"training"},  # its posteriors are optimized
    "augment": BASE | {"choices", "fields", "objectives"},
    "diffusion": DIFFUSION,
    # the contract names the diffusion model
    "experiment": BASE | {"diffusion", "log_likelihood"},
    "diffusion.as_experiment": DIFFUSION
    | {"experiment", "inputs", "models", "training"},
    "data": BASE | {"disk", "places"},
    "pictures": BASE | {"disk", "places"},
    "training": BASE
    | {"disk", "experiment", "fields", "places", "screen", "state", "streams"},
    "configs": BASE
    | {"choices", "experiment", "fields", "places", "sources", "variants"},
    "evaluation": BASE
    | {"axes", "choices", "disk", "experiment", "log_likelihood", "nn"}
    | {"objectives", "screen"},
    # commands that meet more than the library part
    "evaluation.score": BASE | {"evaluation", "data", "disk", "training"},
    "evaluation.__main__": BASE
    | {"choices", "evaluation", "data", "disk", "places", "training"},
    "export": BASE | {"disk", "evaluation", "places", "state", "training"},
    # where they all meet
    "run": BASE
    | {"choices", "configs", "data", "diffusion", "evaluation", "experiment", "export"}
    | {"screen", "sources", "streams", "training"},
    "modes": BASE
    | {"choices", "configs", "data", "diffusion", "disk", "evaluation", "experiment"}
    | {"export", "fields", "labels", "pictures", "places", "run", "screen", "sources"}
    | {"streams", "training"},
    "commandline": BASE
    | {"choices", "configs", "data", "export", "fields", "modes", "places", "run"}
    | {"screen", "sources", "training"},
}
FORBIDDEN = {  # third-party packages that a part has no business with
    "nn": {"optax", "ml_collections", "orbax"},
    "models": {"optax", "ml_collections", "orbax"},
    "objectives": {"flax", "ml_collections"},
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
    names = path.relative_to(ROOT / "genjax").with_suffix("").parts
    part = names[0]
    if part == "__init__":
        return
    assert part in LAYERS, f"add {part} to the table of layers"
    own = ".".join(names[:2])
    allowed = LAYERS.get(own, LAYERS[part]) | {part}
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
    shared = {"mode", "beside", "drawing", "results", "start", part}
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
    allowed = {"ml_collections.ConfigDict", "genjax.variants.with_variants"}
    assert imports(path) <= allowed
