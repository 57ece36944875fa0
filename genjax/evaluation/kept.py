"""Numbers about data that are kept from one evaluation to the next, under a hash."""

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

from genjax.objectives import ppca

LIBRARIES = ("numpy", "scipy", "scikit-learn", "jax")  # that compute the scores

Keep = Callable[[str, Callable[[], dict[str, float]]], dict[str, float]]
"""(key, work) -> what work() gives, now or when that key was first asked for."""


@functools.cache
def code() -> str:
    """A hash of the files that compute the numbers, and of the versions below them."""
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    digest = hashlib.sha256(json.dumps(versions).encode())
    for path in [*sorted(Path(__file__).parent.glob("*.py")), Path(ppca.__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
