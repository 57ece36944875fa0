import dataclasses
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from genjax.data.files import read_files
from genjax.typing import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)


def all_of(files):
    return np.concatenate(list(files.split.chunks(2)))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for i, image in enumerate(IMAGES):
        place = folder / "sub" if i > 2 else folder / "early"
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def npz(tmp_path, array):
    path = tmp_path / "a.npz"
    np.savez(path, array)
    return path


def test_all_pictures_of_a_folder_are_read(pictures):
    files = read_files(pictures)
    np.testing.assert_array_equal(all_of(files), IMAGES)
    assert files.spec.shape == (4, 6, 3) and files.spec.num_levels == 256


def test_pictures_are_read_like_the_data(pictures):
    like = dataclasses.replace(read_files(pictures).spec, shape=(4, 6, 1))
    gray = all_of(read_files(pictures, like=like))
    # ITU-R 601-2, as Pillow documents its mode L.
    expected = IMAGES @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray[..., 0], expected, atol=1.0)
    assert read_files(pictures, image_size=3).spec.shape == (3, 3, 3)


@pytest.mark.parametrize(
    "array, shape",
    [
        (IMAGES, (4, 6, 3)),
        (IMAGES[..., 0], (4, 6, 1)),
        (np.linspace(0, 1, 8).reshape(4, 2), (2,)),
    ],
)
def test_arr_0_of_an_archive_is_read(array, shape, tmp_path):
    files = read_files(npz(tmp_path, array))
    assert files.spec.shape == shape and files.spec.num_train == len(array)
    expected = array.astype(files.spec.dtype).reshape(-1, *shape)
    np.testing.assert_array_equal(all_of(files), expected)


def test_the_fingerprint_changes_with_the_content(tmp_path, pictures, monkeypatch):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    first = read_files(npz(tmp_path, IMAGES)).fingerprint
    assert read_files(npz(tmp_path, IMAGES)).fingerprint == first
    assert read_files(npz(tmp_path, IMAGES[1:])).fingerprint != first
    folder = read_files(pictures).fingerprint
    assert read_files(pictures).fingerprint == folder
    os.utime(pictures / "sub" / "3.png", (1, 1))
    assert read_files(pictures).fingerprint == folder  # touched, but the same
    shutil.copy(pictures / "sub" / "4.png", pictures / "sub" / "3.png")
    assert read_files(pictures).fingerprint != folder


@pytest.mark.parametrize(
    "array, said",
    [
        (IMAGES / 255.0, r"float64\[5, 4, 6, 3\]: give uint8 images"),
        (IMAGES.transpose(0, 3, 1, 2), "must be the last axis"),
        (IMAGES[:1], "1 examples, and two are needed"),
        (IMAGES[..., :1], r"shape \(4, 6, 1\), and wanted uint8 of shape \(4, 6, 3\)"),
    ],
)
def test_arrays_that_are_no_samples(array, said, tmp_path, pictures):
    like = dataclasses.replace(read_files(pictures).spec, name="wanted")
    with pytest.raises(UserError, match=said):
        read_files(npz(tmp_path, array), like=like)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="no folder or file"):
        read_files(tmp_path / "missing.npz")
    path = npz(tmp_path, IMAGES)
    with pytest.raises(UserError, match="cannot be resized"):
        read_files(path, image_size=3)
    for content in (b"", b"no archive", path.read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="a.npz cannot be read"):
            read_files(path)
    np.savez(path, x_train=IMAGES)
    with pytest.raises(UserError, match="x_train, and an array 'arr_0' is needed"):
        read_files(path)


def test_a_file_that_was_trained_on_is_read_too(tmp_path):
    np.savez(tmp_path / "mine.npz", images=IMAGES, labels=np.zeros(len(IMAGES), int))
    assert len(read_files(tmp_path / "mine.npz").split) == len(IMAGES)


def test_gray_pictures_and_gray_samples_fit(tmp_path):
    for i in range(3):
        Image.fromarray(IMAGES[i, ..., 0]).save(tmp_path / f"{i}.png")
    folder = read_files(tmp_path)
    assert folder.spec.shape == (4, 6, 1)
    samples = read_files(npz(tmp_path, IMAGES[..., :1]), like=folder.spec)
    assert samples.spec.shape == (4, 6, 1)
