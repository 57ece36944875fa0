"""Fixed functions from images to features, in which samples and data are compared.

A distance in the features of one extractor says nothing in those of another, so each
has a name, which stands in the name of its metrics, and a note for the protocol.
"""

import dataclasses
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from genjax.evaluation import lenet
from genjax.typing import Array, DataSpec, UserError

NAMES = ("mnist_lenet512_v1",)


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network whose weights are settled.

    apply: (B, *shape) like batch["image"] -> (features (B, D), logits (B, classes), or
        None for a network that is no classifier).
    note: what it was trained on, how well it classifies, and the hash of its weights.
    frechet: the name of the Frechet distance in these features, where it has one of its
        own, like "fid".
    """

    name: str
    apply: Callable[[Array | np.ndarray], tuple[Array, Array | None]]
    note: str
    frechet: str | None = None

    @property
    def frechet_name(self) -> str:
        """The name of the Frechet distance: frechet_<name>, unless it has its own."""
        return self.frechet or f"frechet_{self.name}"


def folder() -> Path:
    """Where weights lie: extractors/ in $GENJAX_CACHE, or else in ~/.cache/genjax."""
    root = os.environ.get("GENJAX_CACHE") or "~/.cache/genjax"
    return Path(root).expanduser().absolute() / "extractors"


def load(name: str, spec: DataSpec) -> Extractor:
    """The extractor called `name`, from its file in `folder()`.

    Raises UserError for a name that does not exist, images of another size, and weights
    that are missing or damaged.
    """
    if name not in NAMES:
        raise UserError(f"there is no extractor {name!r}; known: {', '.join(NAMES)}")
    if spec.shape != lenet.SHAPE or spec.num_levels != 256:
        raise UserError(
            f"{name} reads images of shape {lenet.SHAPE} with 256 levels, and "
            f"{spec.name} has {spec.shape} with {spec.num_levels}"
        )
    path = folder() / f"{name}.npz"
    if not path.exists():
        raise UserError(
            f"{name} has no weights in {path.parent} yet: train them, in some minutes, "
            f"by python -m genjax.evaluation --train={name}"
        )
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            flat = {key: jnp.asarray(value) for key, value in file.items()}
        accuracy = float(flat.pop("test_accuracy"))
        params = flax.traverse_util.unflatten_dict(flat, sep="/")
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): delete it and train it again"
        ) from error
    digest = hashlib.sha256(content).hexdigest()[:12]
    return Extractor(
        name=name,
        apply=jax.jit(lambda images: lenet.features_and_logits(params, images)),
        note=f"test accuracy {accuracy:.4f}, weights {digest}",
    )


def to_bytes(params: Any, test_accuracy: float) -> bytes:
    """The file that `load` reads: an npz of the weights and the accuracy."""
    arrays: dict[str, Any] = {
        key: np.asarray(value)
        for key, value in flax.traverse_util.flatten_dict(params, sep="/").items()
    }
    content = io.BytesIO()
    np.savez(content, **arrays, test_accuracy=np.array(test_accuracy))
    return content.getvalue()
