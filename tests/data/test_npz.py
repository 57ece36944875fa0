"""The user's own arrays as a data set."""

import numpy as np
import pytest

from genjax.data.datasets import load
from genjax.typing import UserError

IMAGES = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones(
    (1, 6, 4, 3), np.uint8
)
LABELS = np.arange(20) % 3


def stored(tmp_path, **arrays):
    np.savez(tmp_path / "mine.npz", **arrays)
    return load("npz", str(tmp_path / "mine.npz"))


def test_arrays_with_labels(tmp_path):
    dataset = stored(tmp_path, images=IMAGES, labels=LABELS)
    spec = dataset.spec
    assert (spec.shape, spec.num_classes, spec.num_levels) == ((6, 4, 3), 3, 256)
    assert (spec.num_train, spec.num_eval) == (18, 2)
    numbers = []
    for split in (dataset.train, dataset.eval):
        batch = split.read(np.arange(len(split)))
        number = batch["image"][:, 0, 0, 0]
        np.testing.assert_array_equal(batch["label"], number % 3)
        numbers += number.tolist()
    assert sorted(numbers) == list(range(20))


def test_test_images_are_what_is_evaluated_on(tmp_path):
    dataset = stored(tmp_path, images=IMAGES[..., 0], test_images=IMAGES[:5, ..., 0])
    assert dataset.spec.shape == (6, 4, 1) and dataset.spec.num_classes == 0
    assert (dataset.spec.num_train, dataset.spec.num_eval) == (20, 5)
    assert dataset.eval.arrays is not None
    np.testing.assert_array_equal(dataset.eval.arrays["image"], IMAGES[:5, ..., :1])


def test_the_fingerprint_is_of_the_content(tmp_path):
    before = stored(tmp_path, images=IMAGES).fingerprint
    assert stored(tmp_path, images=IMAGES).fingerprint == before
    changed = IMAGES.copy()
    changed[7, 2, 2, 1] ^= 1
    assert stored(tmp_path, images=changed).fingerprint != before
    some, others = LABELS, np.roll(LABELS, 1)
    labelled = [stored(tmp_path, images=IMAGES, labels=y) for y in (some, others)]
    assert len({before, *(d.fingerprint for d in labelled)}) == 3


def test_image_size_crops_and_resizes(tmp_path):
    np.savez(tmp_path / "mine.npz", images=IMAGES)
    dataset = load("npz", str(tmp_path / "mine.npz"), image_size=2, eval_fraction=0.5)
    assert dataset.spec.shape == (2, 2, 3) and dataset.spec.num_eval == 10


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": IMAGES}, "holds x_train, and an array 'images' is needed"),
        (
            {"images": IMAGES / 255},
            r"images in .* is float64\[20, 6, 4, 3\], and .*uint8",
        ),
        ({"images": IMAGES.reshape(20, -1)}, r"is uint8\[20, 72\], and images"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, "must be the last axis"),
        ({"images": IMAGES[:1]}, "holds 1 images and two are needed"),
        ({"images": IMAGES[:0]}, r"is uint8\[0, 6, 4, 3\]"),
        ({"images": IMAGES, "labels": LABELS[:7]}, "must be 20 whole numbers"),
        ({"images": IMAGES, "labels": LABELS / 2}, "labels in .* is float64"),
        ({"images": IMAGES, "labels": LABELS - 1}, "go from -1 to 1, and classes"),
        (
            {"images": IMAGES, "labels": LABELS, "test_images": IMAGES},
            "but no test_labels",
        ),
        ({"images": IMAGES, "test_images": IMAGES[:, 1:]}, "store both alike"),
        ({"images": np.array([{}, {}])}, "without pickles"),
    ],
)
def test_mistakes_are_named(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        stored(tmp_path, **arrays)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "mine.npz"
    with pytest.raises(UserError, match="needs data.dir"):
        load("npz")
    with pytest.raises(UserError, match="there is no file"):
        load("npz", str(path))
    np.savez(path, images=IMAGES)
    whole = path.read_bytes()
    for damage in (b"", b"hello", whole[:300], whole[:-40]):
        path.write_bytes(damage)
        with pytest.raises(UserError, match="cannot be read"):
            load("npz", str(path))
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(UserError, match="one array without a name"):
        load("npz", str(tmp_path / "one.npy"))
    np.savez(path, images=IMAGES, test_images=IMAGES)
    with pytest.raises(UserError, match="leave data.eval_fraction out"):
        load("npz", str(path), eval_fraction=0.5)
