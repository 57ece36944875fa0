import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy as safetensors_numpy

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
    content = safetensors_numpy.save(
        {k: np.ascontiguousarray(v) for k, v in EXPECTED.items()}
    )
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


def pickled_torch(path, build: bytes):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", build)
    return path


@pytest.mark.parametrize("name", [b"collections\nOrderedDict", b"torch\nFloatStorage"])
def test_a_pickle_leaves_nothing_behind(tmp_path, name):
    """GLOBAL, a dictionary {"array": 1}, BUILD: it would set it for ever."""
    text = b"\x80\x02c" + name + b"\n}X\x05\x00\x00\x00arrayK\x01sb."
    with pytest.raises(UserError, match="cannot be read as weights"):
        weights.read(pickled_torch(tmp_path / "a.pth", text))
    assert_expected(weights.read(PEERS / "tiny_zip.pth")[0])


def test_a_small_file_must_not_fill_the_memory(tmp_path):
    # the strides of a tensor made 0 and its size 10^4 x 10^5
    legacy = (PEERS / "tiny_legacy.pth").read_bytes()
    view = b"K\x03K\x02\x86"  # (3, 2), its size
    huge = b"M\x10'J\xa0\x86\x01\x00\x86"
    (tmp_path / "a.pth").write_bytes(
        legacy.replace(view, huge).replace(b"K\x01K\x03\x86", b"K\x00K\x00\x86")
    )
    # a header that promises a gigabyte, and zeros that are packed a thousandfold
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (2**28,)}
            np.lib.format.write_array_header_1_0(file, header)
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros(2**25, np.uint8))
    for name in ("a.pth", "a.npz", "b.npz"):
        with pytest.raises(UserError, match=f"{name} cannot be read as weights"):
            weights.read(tmp_path / name)


def test_deep_or_packed_nonsense_is_named(tmp_path):
    deep = b"[" * 100_000
    (tmp_path / "a.safetensors").write_bytes(len(deep).to_bytes(8, "little") + deep)
    (tmp_path / "b.pth").write_bytes(b"\x80\x02r\xff\xff\xff\x7f.")
    for name in ("a.safetensors", "b.pth"):
        with pytest.raises(UserError, match=f"{name} cannot be read as weights"):
            weights.read(tmp_path / name)


def test_what_is_no_weight_file(tmp_path):
    with pytest.raises(UserError, match="read from .pth, .pt, .safetensors, .npz"):
        weights.read(tmp_path / "weights.h5")
    with pytest.raises(UserError, match="cannot be opened .*No such file"):
        weights.read(tmp_path / "weights.pth")
