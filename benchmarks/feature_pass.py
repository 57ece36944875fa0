"""Times the networks in whose features samples are compared, in images a second.

    python benchmarks/feature_pass.py --images=64 --rounds=5

inception       ours, with the weights of torch-fidelity's, and as it resizes
torch-fidelity  the same network in PyTorch; its features are checked to be the same
resnet18        the classifier of CIFAR-10
lenet512        the classifier of MNIST

All weights are random. All read uint8 images on the host and give features there, in
turn in one process; the classifiers read 16 times as many. Without torch-fidelity only
ours are timed.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # room for torch

import jax
import jax.numpy as jnp
import numpy as np

from genjax.evaluation import extractors, inception, lenet, resnet

NETWORKS = ("inception", "torch-fidelity", "resnet18", "lenet512")
SHAPES = {"lenet512": lenet.SHAPE}  # all others: of CIFAR-10
TIMES_AS_MANY = {"resnet18": 16, "lenet512": 16}
Read = Callable[[np.ndarray], np.ndarray]  # uint8 images (n, h, w, c) to features


def make(name: str, size: int, peer: Callable | None) -> Read:
    """peer: torch-fidelity's network, whose weights ours takes; None: random ones."""
    if name == "torch-fidelity":
        assert peer is not None
        return partial(read_by_torch, peer)
    key = jax.random.key(0)
    if name == "inception":
        network = partial(inception.features_and_logits, resize="tf1")
        params = inception_weights(peer)
        read = extractors.in_batches(
            network, params, min(size, extractors.INCEPTION_BATCH)
        )
    elif name == "resnet18":
        picture = jnp.zeros((1, *resnet.SHAPE), jnp.uint8)
        variables = jax.jit(resnet.RESNET18.init)(key, picture)
        read = extractors.in_batches(resnet.features_and_logits, variables)
    else:
        digit = jnp.zeros((1, *lenet.SHAPE), jnp.uint8)
        params = jax.jit(lenet.LeNet().init)(key, digit)["params"]
        read = extractors.in_batches(lenet.features_and_logits, params)
    return lambda images: read(images)[0]


def inception_weights(peer: Callable | None):
    if peer is not None:
        state = peer.state_dict().items()
        return inception.from_torch({k: v.cpu().numpy() for k, v in state})
    picture = jnp.zeros((1, inception.SIDE, inception.SIDE, 3))
    return jax.jit(inception.Inception().init)(jax.random.key(0), picture)["params"]


def torch_fidelity() -> Callable:
    """Its network with random weights, on a GPU if there is one."""
    torch = import_module("torch")
    module = import_module("torch_fidelity.feature_extractor_inceptionv3")
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as jax
    torch.manual_seed(0)
    kind = module.FeatureExtractorInceptionV3
    with mock.patch.object(module.torch, "load"):
        with mock.patch.object(kind, "load_state_dict"):  # no file is read
            network = kind("random", ["2048"], feature_extractor_weights_path="none")
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def read_by_torch(network: Callable, images: np.ndarray) -> np.ndarray:
    torch = import_module("torch")
    device = next(iter(network.parameters())).device
    size = extractors.INCEPTION_BATCH
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), size):
            part = images[start : start + size].transpose(0, 3, 1, 2)
            found = network(torch.from_numpy(part.copy()).to(device))[0]
            parts.append(found.cpu().numpy())
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the feature extractors.")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    names, peer = flags.networks.split(","), None
    if "torch-fidelity" in names:
        try:
            peer = torch_fidelity()
        except ImportError as error:
            print(f"torch-fidelity is left out: {error}")
            names.remove("torch-fidelity")
    rng = np.random.default_rng(0)
    reads, images = {}, {}
    for name in names:
        count = flags.images * TIMES_AS_MANY.get(name, 1)
        shape = SHAPES.get(name, resnet.SHAPE)
        reads[name] = make(name, count, peer)
        images[name] = rng.integers(0, 256, (count, *shape), np.uint8)
        reads[name](images[name])  # compiles
    if peer is not None and "inception" in names:
        few = images["inception"][:4]
        theirs = reads["torch-fidelity"](few)
        gap = np.abs(reads["inception"](few) - theirs).max() / np.abs(theirs).max()
        print(f"features differ by up to {gap:.1g} of the largest")
        assert gap < 1e-3

    times: dict[str, list[float]] = {name: [] for name in names}
    for name in [n for _ in range(flags.rounds) for n in rng.permutation(names)]:
        time.sleep(0.3)  # until the threads of the one before have gone to sleep
        began = time.perf_counter()
        reads[name](images[name])
        times[name].append((time.perf_counter() - began) / len(images[name]))

    used = [m for m in ("jax", "torch", "torch_fidelity") if m in sys.modules]
    threads = f"{len(os.sched_getaffinity(0))} threads, load {os.getloadavg()[0]:.1f}"
    versions = (f"{m} {metadata.version(m)}" for m in used)
    print(jax.devices()[0].device_kind, threads, *versions, sep=", ")
    print("\n| | images/s, median (best) | images in a pass |\n|---|---|---|")
    for name, values in times.items():
        speed = f"{1 / np.median(values):,.3g} ({1 / min(values):,.3g})"
        print(f"| {name} | {speed} | {len(images[name])} |")


if __name__ == "__main__":
    main()
