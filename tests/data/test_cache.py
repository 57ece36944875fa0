"""The cache gives what was decoded, once, and never what has been damaged since."""

import numpy as np
import pytest

from genjax import disk
from genjax.data import cache
from genjax.data.split import Split
from genjax.typing import UserError

NUM = 1100  # more than two chunks
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 3, 2, 1), np.uint8)
LABELS = np.arange(NUM, dtype=np.int32)


def _cached(folder, *, source=0, readable=True):
    """The split from the cache, and how many examples had to be decoded for it."""
    decoded = []

    def read_examples(rows):
        assert readable, "decoded although it was cached"
        decoded.extend(rows.tolist())
        return IMAGES[rows], LABELS[rows]

    split = Split(name="tiny/1 train", num_examples=NUM, read_examples=read_examples)
    kept = cache.in_memory(
        split, shape=(3, 2, 1), source={"of": source}, cache_dir=str(folder)
    )
    return kept, len(decoded)


def _check(split):
    assert split.arrays is not None and len(split) == NUM
    np.testing.assert_array_equal(split.arrays["image"], IMAGES)
    np.testing.assert_array_equal(split.arrays["label"], LABELS)
    got = split.read(np.array([1099, 0, 7]))
    np.testing.assert_array_equal(got["image"], IMAGES[[1099, 0, 7]])
    np.testing.assert_array_equal(got["label"], [1099, 0, 7])


def test_decodes_once_then_maps(tmp_path):
    split, decoded = _cached(tmp_path / "new" / "folder")
    _check(split)
    assert decoded == NUM
    split, _ = _cached(tmp_path / "new" / "folder", readable=False)
    _check(split)
    assert isinstance(split.arrays["image"].base, np.memmap)
    assert not list(tmp_path.rglob("*.part"))


def test_what_a_killed_process_began_is_removed_at_the_next_start(tmp_path):
    left = tmp_path / ".tiny.image.npy.0123.part"
    left.write_bytes(b"half of it")
    with disk.replacing(tmp_path / "other.npy") as file:  # of a living one
        file.write(b"1")
        _check(_cached(tmp_path)[0])
        assert not left.exists() and len(list(tmp_path.glob(".*.part"))) == 1
    assert (tmp_path / "other.npy").read_bytes() == b"1"


def test_another_source_is_decoded_anew(tmp_path):
    _cached(tmp_path)
    _, decoded = _cached(tmp_path, source=1)
    assert decoded == NUM


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def _empty(path):
    path.write_bytes(b"")


def _flip_last_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _garble_header(path):
    path.write_bytes(b"\x00" * 64 + path.read_bytes()[64:])


def _remove(path):
    path.unlink()


@pytest.mark.parametrize("ending", ["image.npy", "label.npy", "json"])
@pytest.mark.parametrize(
    "damage", [_truncate, _empty, _flip_last_bit, _garble_header, _remove]
)
def test_damaged_files_are_made_again(tmp_path, ending, damage):
    _cached(tmp_path)
    (file,) = tmp_path.glob(f"*.{ending}")
    damage(file)
    split, decoded = _cached(tmp_path)
    _check(split)
    assert decoded == NUM
    _check(_cached(tmp_path, readable=False)[0])


def test_a_failed_decoding_leaves_nothing_behind(tmp_path):
    def read_examples(rows):
        if 1000 in rows:
            raise UserError("example 1000 cannot be decoded")
        return IMAGES[rows], LABELS[rows]

    split = Split(name="tiny", num_examples=NUM, read_examples=read_examples)
    with pytest.raises(UserError, match="example 1000"):
        cache.in_memory(split, shape=(3, 2, 1), source={}, cache_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file.*set data.cache_dir or GENJAX_CACHE"):
        _cached(tmp_path / "file")


def test_environment_names_the_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "here"))
    split = Split(
        name="tiny", num_examples=2, read_examples=lambda r: (IMAGES[r], LABELS[r])
    )
    cache.in_memory(split, shape=(3, 2, 1), source={}, cache_dir=None)
    assert len(list((tmp_path / "here").glob("tiny-*"))) == 3
