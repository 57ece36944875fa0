"""The source that a model is made of, hashed, so that a run notices when it changes."""

import ast
import hashlib
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

INSTALLED = Path(__file__).parent.parent

MODEL = (
    "augment",
    "diffusion",
    "distributions",
    "inputs",
    "labels",
    "models",
    "nn",
    "objectives",
    "scale",
    "state",
    "training/learner",
    "training/optim",
)
"""What of genjax decides what is learnt: a folder or file."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def source_hashes(experiment: Path) -> dict[str, str]:
    """{file: SHA-256} of an experiment's file and what it imports of `MODEL`.

    Directly or through others; the names are like "genjax/models/unet.py".
    """
    found: dict[str, str] = {}
    waiting = {f"experiments/{experiment.name}": experiment}
    while waiting:
        name, path = waiting.popitem()
        source = path.read_bytes()
        found[name] = hashlib.sha256(source).hexdigest()
        for part in _imported(source):
            relative = part.relative_to(INSTALLED).as_posix()
            if relative not in found:
                waiting[relative] = part
    return dict(sorted(found.items()))


def library_hashes() -> dict[str, str]:
    """{file: SHA-256} of all of genjax."""
    return {
        path.relative_to(INSTALLED).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted((INSTALLED / "genjax").rglob("*.py"))
    }


def versions() -> dict[str, str]:
    """{name: version} of Python and of the packages that decide what is computed."""
    found = {"the version of Python": platform.python_version()}
    for name in PACKAGES:
        found[f"the version of {name}"] = metadata.version(name)
    return found


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files of which one has another source, or that the other has not."""
    names = sorted(before.keys() | now.keys())
    return [name for name in names if before.get(name) != now.get(name)]


def in_words(files: list[str]) -> str:
    """Like "experiments/ddpm.py has changed"."""
    shown = files if len(files) < 4 else [*files[:3], f"{len(files) - 3} more"]
    verb = "has" if len(files) == 1 else "have"
    return f"{' and '.join(shown)} {verb} changed"


def _imported(source: bytes) -> Iterator[Path]:
    """The files of `MODEL` that a module imports, at any depth of its code."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        for name in names:
            place = name.replace(".", "/")
            if not place.startswith(tuple(f"genjax/{part}" for part in MODEL)):
                continue
            for path in (f"{place}.py", f"{place}/__init__.py"):
                if (INSTALLED / path).is_file():
                    yield INSTALLED / path
