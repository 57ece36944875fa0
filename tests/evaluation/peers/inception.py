"""What pytorch-fid and torch-fidelity make of two images with random weights.

`python tests/evaluation/peers/inception.py` writes inception.json beside this file; it
takes torch, torchvision, pytorch-fid and torch-fidelity, which no other test needs.
"""

import importlib.metadata
import json
import tempfile
import zlib
from pathlib import Path
from unittest import mock

import numpy as np

FROZEN = Path(__file__).with_name("inception.json")
EVERY = 32  # of 2048 features and of 1008 logits one in so many is kept


def images() -> np.ndarray:
    """Two images (2, 40, 23, 3): noise upon a ramp."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 180, 40)[None, :, None, None]
    noise = rng.uniform(0, 75, (2, 40, 23, 3))
    return (ramp + noise).astype(np.uint8)


def random_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of that name: numpy alone decides it, so it is the same everywhere."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) >= 2:
        spread = np.sqrt(2.0 / np.prod(shape[1:]))
        return (spread * rng.standard_normal(shape)).astype(np.float32)
    if name.endswith(("running_var", "bn.weight")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (0.2 * rng.standard_normal(shape)).astype(np.float32)


def pytorch_fid() -> np.ndarray:
    """Features (2, 2048)."""
    import pytorch_fid.inception as peer
    import torch

    with mock.patch.object(peer, "load_state_dict_from_url", random_state):
        network = peer.InceptionV3([3]).eval()
    x = torch.from_numpy(images().transpose(0, 3, 1, 2)).float() / 255.0
    with torch.no_grad():
        return network(x)[0][:, :, 0, 0].numpy()


def torch_fidelity() -> tuple[np.ndarray, np.ndarray]:
    """Features (2, 2048) and logits without bias (2, 1008)."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/random.pth"
        torch.save(random_state(), path)
        names = ["2048", "logits_unbiased"]
        network = FeatureExtractorInceptionV3("random", names, path).eval()
    x = torch.from_numpy(images().transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        features, logits = network(x)
    return features.numpy(), logits.numpy()


def random_state(*_, **__) -> dict:
    """A state dict as torchvision names it, of `random_weight`."""
    import torch
    import torchvision

    network = torchvision.models.inception_v3(
        num_classes=1008, aux_logits=False, init_weights=False
    )
    state = network.state_dict()
    for name, value in state.items():
        if value.ndim:  # not a counter of batches
            state[name] = torch.from_numpy(random_weight(name, tuple(value.shape)))
    return state


def write_tiny_files() -> None:
    """The same two tensors, one of them transposed, in both layouts of torch.save."""
    import torch

    state = {
        "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
        "steps": torch.tensor(7),
    }
    folder = FROZEN.parent
    torch.save(state, folder / "tiny_zip.pth")
    legacy = {"_use_new_zipfile_serialization": False}
    torch.save(state, folder / "tiny_legacy.pth", **legacy)


def main() -> None:
    packages = ("torch", "torchvision", "pytorch-fid", "torch-fidelity")
    state = random_state()
    sizes = [value.numel() for value in state.values() if value.ndim]
    fidelity, logits = torch_fidelity()
    frozen = {
        "command": "python tests/evaluation/peers/inception.py",
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "entries": len(state),
        "numbers": sum(sizes),
        "pytorch_fid": pytorch_fid()[:, ::EVERY].tolist(),
        "torch_fidelity": fidelity[:, ::EVERY].tolist(),
        "logits": logits[:, ::EVERY].tolist(),
    }
    FROZEN.write_text(json.dumps(frozen, indent=1) + "\n")
    write_tiny_files()


if __name__ == "__main__":
    main()
