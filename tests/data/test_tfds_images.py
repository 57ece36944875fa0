"""TFDS image sets: a tiny one written here, and real ones where they are at hand."""

import hashlib
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered

from genjax.data.datasets import load
from genjax.typing import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "tensorflow_datasets"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="no prepared TFDS data beside the repository"
)


def _png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def _picture(i, shape=(4, 4, 3)):
    return np.random.default_rng(i).integers(0, 256, shape, np.uint8)


def _features(shape=(4, 4, 3), **more):
    label = tfds.features.ClassLabel(num_classes=20)
    return {"image": tfds.features.Image(shape=shape), "label": label, **more}


def _examples(num, **changes):
    """Example i has picture i and label i, unless changes has another under "i"."""
    plain = ({"image": _png(_picture(i)), "label": i} for i in range(num))
    return [changes.get(f"i{i}", e) for i, e in enumerate(plain)]


def _write(data_dir, features=None, **splits):
    """A TFDS directory as a data set's own author would make it."""
    examples = splits or {"train": _examples(20), "test": _examples(6)}

    with registered.skip_registration():

        class TinyPictures(tfds.core.GeneratorBasedBuilder):
            name = "tiny_pictures"
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                columns = tfds.features.FeaturesDict(features or _features())
                return tfds.core.DatasetInfo(builder=self, features=columns)

            def _split_generators(self, dl_manager):
                return {s: self._generate_examples(e) for s, e in examples.items()}

            def _generate_examples(self, examples):
                yield from enumerate(examples)

    builder = TinyPictures(data_dir=str(data_dir))
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(file_format="array_record", download_config=config)
    return Path(builder.data_path)


@pytest.fixture
def load_tiny(tmp_path):
    def loaded(**options):
        place = {"dir": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
        return load("tiny_pictures", **{**place, **options})

    return loaded


def _all(split):
    return split.read(np.arange(len(split)))


def test_examples_are_what_was_written(tmp_path, load_tiny):
    _write(tmp_path)
    for in_memory in (None, False):
        dataset = load_tiny(in_memory=in_memory)
        assert (dataset.train.arrays is None) == (in_memory is False)
        spec = dataset.spec
        assert (spec.shape, spec.num_classes, spec.num_levels) == ((4, 4, 3), 20, 256)
        assert (spec.num_train, spec.num_eval) == (20, 6)
        batch = _all(dataset.train)
        assert sorted(batch["label"]) == list(range(20))
        for image, label in zip(batch["image"], batch["label"], strict=True):
            np.testing.assert_array_equal(image, _picture(label))
    assert "tensorflow" not in sys.modules


def test_slices_and_the_default_split(tmp_path, load_tiny):
    _write(tmp_path, train=_examples(20), validation=_examples(5))
    assert len(load_tiny().eval) == 5
    halves = load_tiny(train_split="train[:15]", eval_split="train[15:]")
    labels = [_all(s)["label"] for s in (halves.train, halves.eval)]
    assert sorted(np.concatenate(labels)) == list(range(20))
    assert halves.fingerprint != load_tiny().fingerprint
    with pytest.raises(UserError, match="no split 'tset' .it has: train, validation"):
        load_tiny(eval_split="tset")


def test_a_set_without_a_held_out_split_says_so(tmp_path, load_tiny):
    _write(tmp_path, train=_examples(20))
    with pytest.raises(UserError, match=r"no split to evaluate on.*train\[90%:\]"):
        load_tiny()


def test_pictures_of_many_sizes_are_cropped_and_resized(tmp_path, load_tiny):
    examples = [
        {"image": _png(np.full((5 + i, 9, 3), 10 * i, np.uint8)), "label": i}
        for i in range(6)
    ]
    _write(tmp_path, _features((None, None, 3)), train=examples, test=examples)
    with pytest.raises(UserError, match="differ in size; set data.image_size"):
        load_tiny()
    for in_memory in (None, False):
        batch = _all(load_tiny(image_size=4, in_memory=in_memory).train)
        assert batch["image"].shape == (6, 4, 4, 3)
        means = batch["image"].mean((1, 2, 3))
        np.testing.assert_array_equal(means, 10 * batch["label"])


def test_adm_crops_its_own_way(tmp_path, load_tiny):
    _write(tmp_path)
    square, adm = (load_tiny(image_size=2, crop=crop) for crop in (None, "adm"))
    assert square.fingerprint != adm.fingerprint
    assert load_tiny(image_size=2).fingerprint == square.fingerprint
    found = _all(adm.eval)
    for image, label in zip(found["image"], found["label"], strict=True):
        boxes = _picture(int(label)).reshape(2, 2, 2, 2, 3).mean((1, 3))
        np.testing.assert_allclose(image, boxes, atol=1.01)  # twice rounded


def test_a_set_without_labels_has_no_classes(tmp_path, load_tiny):
    examples = [{"image": _png(_picture(i))} for i in range(4)]
    features = {"image": tfds.features.Image(shape=(4, 4, 3))}
    _write(tmp_path, features, train=examples, test=examples)
    dataset = load_tiny()
    assert dataset.spec.num_classes == 0
    np.testing.assert_array_equal(_all(dataset.train)["label"], 0)


def test_a_set_without_images_is_refused(tmp_path, load_tiny):
    examples = [{"text": "a review"}, {"text": "another"}]
    features = {"text": tfds.features.Text()}
    _write(tmp_path, features, train=examples, test=examples)
    with pytest.raises(UserError, match="has no images .its features: text"):
        load_tiny()


BAD_RECORDS = {
    "not an image": ({"image": b"hello", "label": 3}, "cannot be decoded"),
    "another shape": (
        {"image": _png(_picture(3, (5, 4, 3))), "label": 3},
        r"is an image uint8\(5, 4, 3\) instead of uint8\(4, 4, 3\)",
    ),
    "label -1": (
        {"image": _png(_picture(3)), "label": -1},
        "has the label -1, outside",
    ),
}


@pytest.mark.parametrize("kind", BAD_RECORDS)
@pytest.mark.parametrize("in_memory", [None, False])
def test_a_bad_record_is_named(tmp_path, load_tiny, kind, in_memory):
    bad, message = BAD_RECORDS[kind]
    _write(tmp_path, train=_examples(20, i3=bad), test=_examples(6))
    # Where record 3 went in TFDS's order: the one missing from those that can be read.
    good = tmp_path / "good"
    _write(good)
    position = int(
        np.flatnonzero(
            _all(load("tiny_pictures", str(good), in_memory=False).train)["label"] == 3
        )[0]
    )
    where = (
        rf"example {position} of tiny_pictures/1.0.0 train, "
        r"in .*tiny_pictures-train.array_record-00000-of-00001, "
    )
    with pytest.raises(UserError, match=where + message):
        _all(load_tiny(in_memory=in_memory).train)


@pytest.mark.parametrize("damage", ["zeroed", "truncated", "emptied", "removed"])
def test_a_damaged_file_is_named(tmp_path, load_tiny, damage):
    folder = _write(tmp_path)
    (shard,) = folder.glob("*-train.array_record-*")
    data = bytearray(shard.read_bytes())
    written = np.flatnonzero(np.frombuffer(data, np.uint8))
    if damage == "zeroed":
        middle = int(written[len(written) // 2])
        data[middle : middle + 64] = bytes(64)
        shard.write_bytes(data)
    elif damage == "removed":
        shard.unlink()
    else:
        shard.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    with pytest.raises(UserError, match="train.array_record-00000-of-00001") as caught:
        load_tiny()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_tfrecords_are_refused_in_one_sentence(tmp_path, load_tiny):
    info = _write(tmp_path) / "dataset_info.json"
    said = json.loads(info.read_text())
    said["fileFormat"] = "tfrecord"
    info.write_text(json.dumps(said))
    with pytest.raises(
        UserError, match="holds tfrecord files.*set data.dir to another"
    ):
        load_tiny()


def test_an_unprepared_set_without_download_names_its_directory(tmp_path):
    with pytest.raises(UserError) as caught:
        load("cifar10", str(tmp_path), download=False)
    assert str(tmp_path / "cifar10" / "3.0.2") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_directory_may_come_from_the_environment(tmp_path, monkeypatch):
    _write(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert load("tiny_pictures", in_memory=False).spec.num_train == 20


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path, load_tiny):
    _write(tmp_path)
    shutil.copytree(tmp_path / "tiny_pictures", tmp_path / "copy" / "tiny_pictures")
    one = load_tiny()
    other = load_tiny(dir=str(tmp_path / "copy"))
    assert one.fingerprint == other.fingerprint
    assert load_tiny(image_size=2).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("mnis", "mnist"), ("cifar_10", "cifar10"), ("fodler", "folder")],
)
def test_an_unknown_name_suggests_the_nearest(typo, meant, tmp_path):
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        load(typo, str(tmp_path))


@pytest.mark.parametrize("name", ["", "../mnist", "mnist/large", "mnist:9.9.9"])
def test_a_malformed_name_is_one_sentence(name, tmp_path):
    with pytest.raises(UserError) as caught:
        load(name, str(tmp_path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


# sha256 of the images, from the README beside the data
MNIST_TEST = "a85d8dffc6063fb89dcbc2122651701e7bbc18837f940fc9d76df48c224558ca"
FASHION_TEST = "a84f70bc4eaa1b2c5e671e99525a60f9dbe89328fa62013e4aa30ba11800c4df"
CIFAR_TEST = "3a9a3752963dccd5df9ce7aa774c72568c8ad5d4eef8808be23bf0d56fd17693"


@needs_shared
@pytest.mark.parametrize(
    ("name", "sha256", "shape"),
    [
        ("mnist", MNIST_TEST, (28, 28, 1)),
        ("fashion_mnist", FASHION_TEST, (28, 28, 1)),
        ("cifar10", CIFAR_TEST, (32, 32, 3)),
    ],
)
def test_real_sets_decode_to_their_published_bytes(tmp_path, name, sha256, shape):
    """The test split is trained on too, here: decoding 60,000 more takes too long."""
    dataset = load(name, str(SHARED), train_split="test", cache_dir=str(tmp_path))
    assert dataset.eval.arrays is not None
    image = dataset.eval.arrays["image"]
    assert image.shape == (10_000, *shape) and dataset.spec.shape == shape
    assert hashlib.sha256(image).hexdigest() == sha256


@needs_shared
def test_mnist_has_its_known_mean_and_deviation(tmp_path):
    """0.1307 and 0.3081 of all 60,000; a tenth of them is within a standard error."""
    dataset = load("mnist", str(SHARED), train_split="train[:6000]", in_memory=False)
    image = dataset.train.read(np.arange(6000))["image"] / 255.0
    # the per-image mean has a deviation of 0.044 (measured): 0.0006 over 6,000 images
    assert image.mean() == pytest.approx(0.1307, abs=0.002)
    assert image.std() == pytest.approx(0.3081, abs=0.003)
