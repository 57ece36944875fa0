import importlib.util
import json
from pathlib import Path

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from genjax.evaluation import inception
from genjax.typing import UserError

PEER = Path(__file__).parent / "peers" / "inception.py"


def load_peer():
    spec = importlib.util.spec_from_file_location("peer", PEER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peer = load_peer()
FROZEN = json.loads(peer.FROZEN.read_text())


def torch_shapes() -> dict[str, tuple[int, ...]]:
    """What torchvision would call the parameters, and their shapes there."""
    image = jnp.zeros((1, 299, 299, 3))
    params = jax.eval_shape(inception.Inception().init, jax.random.key(0), image)
    shapes = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for path, leaf in flax.traverse_util.flatten_dict(params["params"]).items():
        if path[-2:] == ("conv", "kernel"):
            kh, kw, ci, co = leaf.shape
            shapes[".".join((*path[:-1], "weight"))] = (co, ci, kh, kw)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[".".join((*path[:-2], "bn", part))] = (co,)
    return shapes


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return {k: peer.random_weight(k, shape) for k, shape in torch_shapes().items()}


@pytest.fixture(scope="module")
def ours(arrays):
    """{"half_pixel": (features, logits), "tf1": ...} of the peer's two images."""
    params = inception.from_torch(arrays)
    # One call compiles the network once, for both ways to resize.
    both = jax.jit(
        lambda params, images: [
            inception.features_and_logits(params, images, resize=resize)
            for resize in ("half_pixel", "tf1")
        ]
    )
    half_pixel, tf1 = both(params, jnp.asarray(peer.images()))
    return {"half_pixel": half_pixel, "tf1": tf1}


def test_as_many_parameters_as_the_published_file(arrays):
    assert sum(array.size for array in arrays.values()) == FROZEN["numbers"]
    counters = sum(name.endswith("running_var") for name in arrays)
    assert len(arrays) + counters == FROZEN["entries"] == 566


@pytest.mark.parametrize(
    "resize, package", [("half_pixel", "pytorch_fid"), ("tf1", "torch_fidelity")]
)
def test_features_are_those_of_other_packages(ours, resize, package):
    found, expected = ours[resize][0][:, :: peer.EVERY], np.array(FROZEN[package])
    print(f"{package}: {np.abs(found - expected).max():.1e} of {expected.max():.1f}")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_logits_are_those_of_torch_fidelity(ours):
    found, expected = ours["tf1"][1][:, :: peer.EVERY], np.array(FROZEN["logits"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_the_other_packages_still_say_what_is_frozen():
    for package in ("pytorch_fid", "torch_fidelity"):
        pytest.importorskip(package, exc_type=ImportError)
        features = getattr(peer, package)()
        features = features[0] if isinstance(features, tuple) else features
        expected = np.array(FROZEN[package])
        np.testing.assert_allclose(features[:, :: peer.EVERY], expected, 1e-4, 1e-4)


@pytest.mark.parametrize("shape", [(3, 5), (40, 23), (11, 9)])
def test_resized_as_scipy_interpolates(shape):
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    side = 10
    for resize, shift in (("half_pixel", 0.5), ("tf1", 0.0)):
        grid = np.meshgrid(
            *((np.arange(side) + shift) * (n / side) - shift for n in shape),
            indexing="ij",
        )
        expected = scipy.ndimage.map_coordinates(image, grid, order=1, mode="nearest")
        found = inception.resized(jnp.asarray(image)[None, ..., None], resize, side)
        np.testing.assert_allclose(found[0, ..., 0], expected, rtol=1e-5, atol=1e-3)


def test_pools_by_hand():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    # A corner covers 0 1 3 4, an edge 0 1 2 3 4 5, the middle all.
    expected = [[2.0, 2.5, 3.0], [3.5, 4.0, 4.5], [5.0, 5.5, 6.0]]
    np.testing.assert_allclose(inception.average_pool(x)[0, ..., 0], expected)
    expected = [[4.0, 5.0, 5.0], [7.0, 8.0, 8.0], [7.0, 8.0, 8.0]]
    np.testing.assert_allclose(inception.max_pool(x)[0, ..., 0], expected)
    np.testing.assert_allclose(inception.max_pool(-x)[0, 0, :, 0], [0.0, 0.0, -1.0])
    np.testing.assert_allclose(inception.halving_pool(x).ravel(), [8.0])


def test_other_weights_are_refused(arrays):
    late = "Mixed_7c.branch_pool.bn.running_var"
    with pytest.raises(UserError, match=rf"{late} must have the shape \(192,\) and is"):
        inception.from_torch(arrays | {late: np.ones(7)})
    with pytest.raises(UserError, match="Conv2d_1a_3x3.conv.weight .* missing"):
        inception.from_torch({})
