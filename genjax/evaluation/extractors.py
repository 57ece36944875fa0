"""Fixed functions from images to features, in which samples and data are compared.

A distance in the features of one extractor says nothing in those of another, so each
has a name, which stands in the name of its metrics, and a note for the protocol.
`load` knows:

- mnist_lenet512_v1: a classifier of MNIST, trained here by one command; and
  fashion_mnist_lenet512_v1, the same network trained on Fashion-MNIST.
- cifar10_resnet18_v1: a classifier of CIFAR-10, as well; cifar10_jpeg75_resnet18_v1 is
  the same trained on a lossy copy of the set.
- inception:FILE, inception_tf1:FILE: the network of FID with the user's own weights,
  with images resized as pytorch-fid or as torch-fidelity does. The distance is called
  fid or fid_tf1 if FILE is the published one, else frechet_inception_<its hash>.
- MODULE:FUNCTION: any function of the user's, from uint8 images (B, H, W, C), a numpy
  array, to B rows of numbers (B, D). B changes from call to call.
"""

import dataclasses
import functools
import hashlib
import importlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from genjax.choices import nearest
from genjax.evaluation import inception, weights
from genjax.evaluation.classifiers import CLASSIFIERS, NUM_CLASSES
from genjax.typing import Array, DataSpec, Params, UserError

NAMES = tuple(CLASSIFIERS)

# How the Inception network takes its images, and what that is called.
RESIZES: dict[str, inception.Resize] = {
    "inception": "half_pixel",
    "inception_tf1": "tf1",
}
RESIZE_NOTES = {
    "half_pixel": "bilinear to 299 between pixel centres, as pytorch-fid",
    "tf1": "bilinear to 299 as TensorFlow 1 and torch-fidelity",
}
# The activations of one image take some 30 MB.
INCEPTION_BATCH = 32
CLASSIFIER_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network with fixed weights.

    name: with the number of channels where each is read by itself, "_x3".
    apply: (B, *shape) like batch["image"] -> (features (B, D), logits (B, classes), or
        None for a network that is no classifier).
    note: what it was trained on, how well it classifies, and the hash of its weights.
    digest: changes with the weights; None where they are unknown, and then none
        of its features are kept.
    reads_labels: the classes of the logits are those of the data.
    frechet: the name of the Frechet distance in these features, where it has one of its
        own, like "fid".
    """

    name: str
    apply: Callable[[np.ndarray], tuple[Array | np.ndarray, Array | np.ndarray | None]]
    note: str
    digest: str | None = None
    reads_labels: bool = True
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
    """The extractor called `name`, see above, for images of this spec.

    Raises UserError for a name that does not exist, images that it does not read, and
    weights that are missing or damaged.
    """
    if name in NAMES:
        return load_classifier(name, spec)
    start, _, rest = name.partition(":")
    if start in RESIZES and rest:
        return load_inception(Path(rest).expanduser(), spec, RESIZES[start])
    if re.fullmatch(r"[A-Za-z_][\w.]*", start) and rest.isidentifier():
        return load_function(start, rest, spec)
    known = [*NAMES, *(f"{start}:FILE" for start in RESIZES), "MODULE:FUNCTION"]
    raise UserError(
        f"there is no extractor {name!r}{nearest(name, known)}; known: "
        f"{', '.join(known)}"
    )


def load_classifier(name: str, spec: DataSpec) -> Extractor:
    """One of `CLASSIFIERS`, from its file in `folder()`. Raises UserError.

    Of pictures whose channels are digits, as in stacked_mnist, that of MNIST reads each
    channel by itself, see `lenet.of_channels`.
    """
    classifier = CLASSIFIERS[name]
    channels = spec.shape[-1]
    classes = NUM_CLASSES**channels
    read, stacked = classifier.features_and_logits, False
    if classifier.of_channels and channels > 1 and spec.num_classes == classes:
        read, stacked = classifier.of_channels, True
    wanted = (*classifier.shape[:2], channels) if stacked else classifier.shape
    if spec.shape != wanted or spec.num_levels != 256:
        raise UserError(
            f"{name} reads images of shape {classifier.shape} with 256 levels, and "
            f"{spec.name} has {spec.shape} with {spec.num_levels}"
        )
    path = folder() / f"{name}.npz"
    if not path.exists():
        raise UserError(
            f"{name} has no weights in {path.parent} yet: train them, in "
            f"{classifier.duration}, by python -m genjax.evaluation --train={name}"
        )
    content = path.read_bytes()
    try:
        params, accuracy = from_bytes(content)
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): delete it and train it again"
        ) from error
    digest = _digest(content)
    return Extractor(
        name=f"{name}_x{channels}" if stacked else name,
        apply=in_batches(read, params),
        note=f"test accuracy {accuracy:.4f}, weights {digest}",
        digest=digest,
        reads_labels=spec.num_classes == (classes if stacked else NUM_CLASSES),
    )


def to_bytes(params: Params, test_accuracy: float) -> bytes:
    """The file that `load_classifier` reads: an npz of the weights and the accuracy."""
    arrays: dict[str, Any] = {
        key: np.asarray(value)
        for key, value in flax.traverse_util.flatten_dict(params, sep="/").items()
    }
    content = io.BytesIO()
    np.savez(content, **arrays, test_accuracy=np.array(test_accuracy))
    return content.getvalue()


def from_bytes(content: bytes) -> tuple[Params, float]:
    """What `to_bytes` was given. Raises many errors for other bytes."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        flat = {key: jnp.asarray(value) for key, value in file.items()}
    accuracy = float(flat.pop("test_accuracy"))
    return flax.traverse_util.unflatten_dict(flat, sep="/"), accuracy


def in_batches(
    network: Callable[[Params, Array], tuple[Array, Array]],
    params: Params,
    size: int = CLASSIFIER_BATCH,
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """`network`, with these weights, of any number of images.

    It sees `size` on each of this process's devices at a time, or `size` in all where
    there are no more: the last ones are filled up.
    """
    mesh = Mesh(jax.local_devices(), "data")
    whole, split = (NamedSharding(mesh, P(*axes)) for axes in ((), ("data",)))
    size = -(-size // mesh.size) * mesh.size  # which all devices can share
    params = jax.device_put(params, whole)
    compiled = jax.jit(network)

    def read(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for start in range(0, len(images), size * mesh.size):
            part = images[start : start + size * mesh.size]
            rows = size if len(part) <= size else size * mesh.size
            filled = np.resize(part, (rows, *part.shape[1:]))
            found = jax.device_get(compiled(params, jax.device_put(filled, split)))
            parts.append([array[: len(part)] for array in found])
        features, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
        return features, logits

    return read


def load_inception(path: Path, spec: DataSpec, resize: inception.Resize) -> Extractor:
    """The network of FID with the weights in `path`: .pth, .safetensors or .npz.

    Raises UserError for weights of another network and for what is no image of 256
    levels in gray or color.
    """
    if not (
        spec.num_levels == 256 and len(spec.shape) == 3 and spec.shape[-1] in (1, 3)
    ):
        raise UserError(
            f"the Inception network reads gray or color images with 256 levels, and "
            f"{spec.name} has {spec.shape} with {spec.num_levels}"
        )
    arrays, content = weights.read(path)
    params = inception.from_torch(arrays)
    network = functools.partial(inception.features_and_logits, resize=resize)
    digest = hashlib.sha256(content).hexdigest()
    published = digest == inception.SHA256
    suffix = "_tf1" if resize == "tf1" else ""
    note = f"{RESIZE_NOTES[resize]}, weights {digest[:12]}"
    if spec.shape[-1] == 1:
        note += ", gray repeated in three channels"
    return Extractor(
        name="inception" + ("" if published else f"_{digest[:8]}") + suffix,
        apply=in_batches(network, params, INCEPTION_BATCH),
        note=note,
        digest=_digest(f"{resize} {digest}".encode()),
        reads_labels=False,
        frechet=f"fid{suffix}" if published else None,
    )


def load_function(module: str, function: str, spec: DataSpec) -> Extractor:
    """The user's own `function` of `module`, which is imported: its code is run.

    Raises UserError if there is no such function, and when it does not give one row of
    numbers for each image.
    """
    name = f"{module}:{function}"
    if spec.dtype != "uint8":
        raise UserError(f"{name} is asked for features of images, not of {spec.name}")
    try:
        call = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise UserError(
            f"the extractor {name} cannot be imported ({error}): it must be a module "
            "on PYTHONPATH or in this folder"
        ) from error
    except AttributeError as error:
        raise UserError(f"the module {module} has no {function}") from error
    if not callable(call):
        raise UserError(f"the extractor {name} is no function, but {call!r}")
    qualified = f"{module}.{getattr(call, '__qualname__', function)}"

    def apply(images: np.ndarray) -> tuple[np.ndarray, None]:
        features = np.asarray(call(images))
        if features.ndim != 2 or len(features) != len(images):
            raise UserError(
                f"the extractor {name} must give a row of features for each image, "
                f"({len(images)}, D), and gave {features.shape}"
            )
        if features.dtype.kind not in "fiub":
            raise UserError(f"the extractor {name} gave {features.dtype}, not numbers")
        return features.astype(np.float32), None

    return Extractor(
        name=re.sub(r"\W", "_", qualified),
        apply=apply,
        note=f"the user's function {qualified}, without a hash",
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
