import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from genjax.evaluation import weights
from genjax.typing import UserError

PEERS = Path(__file__).parent / "peers"  # tiny_*.pth: see inception.py there
EXPECTED = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "steps": np.array(7),
}


def assert_expected(arrays):
    assert arrays.keys() == EXPECTED.keys()
    for name, expected in EXPECTED.items():
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_what_torch_saved_is_read_without_torch(layout):
    path = PEERS / f"tiny_{layout}.pth"
    arrays, content = weights.read(path)
    assert content == path.read_bytes()
    assert_expected(arrays)


def safetensors() -> bytes:
    """By the words of the format: size of the header, header, numbers."""
    header = {
        "__metadata__": {"format": "np"},
        "a.weight": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]},
        "steps": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]},
    }
    text = json.dumps(header).encode()
    numbers = EXPECTED["a.weight"].tobytes("C") + EXPECTED["steps"].tobytes()
    return len(text).to_bytes(8, "little") + text + numbers


def test_other_files_are_read(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(safetensors())
    assert_expected(weights.read(tmp_path / "a.safetensors")[0])
    np.savez(tmp_path / "a.npz", **EXPECTED)
    assert_expected(weights.read(tmp_path / "a.npz")[0])


def test_safetensors_reads_them_alike(tmp_path):
    peer = pytest.importorskip("safetensors.numpy")
    content = peer.save({k: np.ascontiguousarray(v) for k, v in EXPECTED.items()})
    assert_expected(weights.read_safetensors(content))


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(UserError, match="is no part of a tensor"):
        weights.read(tmp_path / "a.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["tiny_zip.pth", "tiny_legacy.pth", "a.safetensors"])
def test_a_file_cut_short_or_changed_is_named(name, tmp_path):
    whole = (PEERS / name).read_bytes() if name.endswith("pth") else safetensors()
    path = tmp_path / name
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=f"{name} cannot be read as weights"):
            weights.read(path)


def test_a_tensor_beyond_its_numbers_is_refused():
    # The stride of the transposed axis, 1, made 9: K is "one byte" in a pickle.
    content = (PEERS / "tiny_legacy.pth").read_bytes()
    changed = content.replace(b"K\x03K\x02\x86", b"K\x03K\x09\x86")
    assert changed != content
    with pytest.raises(ValueError, match="beyond its numbers"):
        weights.read_torch(changed)


def test_what_is_no_weight_file(tmp_path):
    with pytest.raises(UserError, match="read from .pth, .pt, .safetensors, .npz"):
        weights.read(tmp_path / "weights.h5")
    with pytest.raises(UserError, match="cannot be opened .*No such file"):
        weights.read(tmp_path / "weights.pth")
