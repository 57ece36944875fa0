"""Data sets of the package `datasets`, stored on disk; the hub is not asked."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from genjax.data.datasets import load
from genjax.typing import UserError


def png(number: int, size: tuple[int, int] = (4, 6)) -> dict:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), (number, 9, 7), np.uint8)).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("datasets", exc_type=ImportError)


@pytest.fixture
def store(package, tmp_path):
    """A function that stores rows of pictures, and gives the folder."""

    def stored(splits: dict[str, list], labels: bool = True, **more) -> str:
        kinds = {"picture": package.Image(), **more}
        if labels:
            kinds["kind"] = package.ClassLabel(names=["even", "odd"])
        made = {}
        for split, cells in splits.items():
            columns = {"picture": cells} | {k: list(range(len(cells))) for k in more}
            if labels:
                columns["kind"] = [i % 2 for i in range(len(cells))]
            made[split] = package.Dataset.from_dict(columns, package.Features(kinds))
        package.DatasetDict(made).save_to_disk(tmp_path / "stored")
        return str(tmp_path / "stored")

    return stored


def opened(dir, tmp_path, **options):
    return load("hf", dir, cache_dir=str(tmp_path / "cache"), **options)


def numbers_of(split):
    batch = split.read(np.arange(len(split)))
    return batch["image"][:, 0, 0, 0], batch["label"]


def test_columns_are_found_by_their_types(store, package, tmp_path):
    dir = store({"train": [*map(png, range(20))]}, size=package.Value("int32"))
    dataset = opened(dir, tmp_path)
    assert (dataset.spec.shape, dataset.spec.num_classes) == ((4, 6, 3), 2)
    assert (dataset.spec.num_train, dataset.spec.num_eval) == (18, 2)
    assert dataset.notes["classes"] == ["even", "odd"]
    found = [numbers_of(split) for split in (dataset.train, dataset.eval)]
    for number, label in found:
        np.testing.assert_array_equal(label, number % 2)
    assert sorted(np.concatenate([n for n, _ in found])) == list(range(20))
    again = opened(dir, tmp_path, in_memory=False)
    assert again.fingerprint == dataset.fingerprint and again.train.arrays is None
    np.testing.assert_array_equal(numbers_of(again.train)[0], found[0][0])


def test_a_test_split_is_evaluated_on(store, tmp_path):
    rows = [*map(png, range(9))]
    dir = store({"train": rows, "validation": rows[:3], "extra": rows[:2]}, False)
    dataset = opened(dir, tmp_path, image_size=2)
    assert (dataset.spec.num_train, dataset.spec.num_eval) == (9, 3)
    assert dataset.spec.num_classes == 0 and dataset.spec.shape == (2, 2, 3)
    other = opened(dir, tmp_path, image_size=2, eval_split="extra")
    assert other.spec.num_eval == 2 and other.fingerprint != dataset.fingerprint
    with pytest.raises(UserError, match="no split 'tset' .it has: train, valid"):
        opened(dir, tmp_path, eval_split="tset")


def test_all_bad_pictures_are_listed_or_left_out(store, tmp_path):
    rows = [*map(png, range(6))]
    rows[2], rows[4] = {"bytes": b"hello", "path": None}, None
    dir = store({"train": rows})
    with pytest.raises(UserError) as raised:
        opened(dir, tmp_path)
    said = str(raised.value)
    assert said.startswith("2 of 6 pictures in hf cannot be used:")
    assert "  train[2] is no picture, or damaged\n  train[4] is missing\n" in said
    dataset = opened(dir, tmp_path, skip_bad=True)
    assert dataset.spec.num_train + dataset.spec.num_eval == 4
    assert set(dataset.notes["left_out"]) == {"train[2]", "train[4]"}


def test_content_of_the_same_shape_is_told_apart(store, tmp_path):
    first = opened(store({"train": [*map(png, range(9))]}), tmp_path)
    # save_to_disk must not write over the files that are mapped
    second = store({"train": [*map(png, range(1, 10))]})
    found = opened(second, tmp_path)
    assert found.fingerprint != first.fingerprint
    assert sorted(
        np.concatenate([numbers_of(s)[0] for s in (found.train, found.eval)])
    )[0] == (1)


def test_mistakes_are_named(store, package, tmp_path):
    with pytest.raises(UserError, match="needs data.dir"):
        load("hf")
    with pytest.raises(UserError, match="cannot be opened in .*nowhere"):
        load("hf", str(tmp_path / "nowhere"))
    package.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "text")
    with pytest.raises(UserError, match="no column of the type Image; it has text"):
        load("hf", str(tmp_path / "text"))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install datasets"):
        load("hf:ylecun/mnist")
