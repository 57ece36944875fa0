import dataclasses
import hashlib

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from genjax.evaluation import extractors, inception, lenet
from genjax.evaluation.train_classifier import accuracy
from genjax.typing import UserError
from tests.specs import MNIST

NAME = "mnist_lenet512_v1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path))
    extractors.folder().mkdir(parents=True)
    return extractors.folder()


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's digits, three times as large and framed to MNIST's size."""
    images, labels = load_digits(return_X_y=True)
    images = np.kron(images.reshape(-1, 8, 8), np.ones((1, 3, 3))) * (255 / 16)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None].astype(np.uint8)
    return images, labels.astype(np.int32)


@pytest.fixture(scope="module")
def params(digits):
    images, labels = digits
    return lenet.fit(
        images[:1000], labels[:1000], key=jax.random.key(0), epochs=4, batch_size=50
    )


@pytest.mark.slow
def test_lenet_reads_digits(params, digits):
    images, labels = digits
    nearest = max(np.mean(labels[1000:] == label) for label in range(10))
    read = extractors.in_batches(lenet.features_and_logits, params)
    found = accuracy(read, images[1000:], labels[1000:])
    print(f"accuracy {found:.3f}; the largest class alone {nearest:.3f}")
    assert found > 0.9


def test_weights_come_back_from_their_file(params, digits, folder):
    (folder / f"{NAME}.npz").write_bytes(extractors.to_bytes(params, 0.5))
    extractor = extractors.load(NAME, MNIST)
    assert extractor.note.startswith("test accuracy 0.5000, weights ")
    features, logits = extractor.apply(digits[0][:7])
    expected = lenet.features_and_logits(params, digits[0][:7])
    np.testing.assert_allclose(features, expected[0], rtol=1e-5, atol=1e-5)
    assert features.shape == (7, 512) and features.min() >= 0.0
    assert logits.shape == (7, 10)


def test_stacked_digits_are_read_channel_by_channel(params, digits, folder):
    (folder / f"{NAME}.npz").write_bytes(extractors.to_bytes(params, 0.5))
    alone = [lenet.features_and_logits(params, digits[0][c : c + 9]) for c in range(3)]
    stacked = np.concatenate([digits[0][c : c + 9] for c in range(3)], axis=-1)
    spec = dataclasses.replace(
        MNIST, name="stacked_mnist", shape=(28, 28, 3), num_classes=1000
    )
    extractor = extractors.load(NAME, spec)
    features, logits = extractor.apply(stacked)
    assert extractor.name == f"{NAME}_x3" and logits.shape == (9, 1000)
    expected = np.concatenate([f for f, _ in alone], axis=-1)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
    figures = [logits.argmax(-1) for _, logits in alone]
    np.testing.assert_array_equal(
        logits.argmax(-1), 100 * figures[0] + 10 * figures[1] + figures[2]
    )


def test_the_hash_tells_weights_apart(params, folder):
    def note(accuracy: float) -> str:
        (folder / f"{NAME}.npz").write_bytes(extractors.to_bytes(params, accuracy))
        return extractors.load(NAME, MNIST).note.split("weights ")[1]

    assert note(0.5) == note(0.5) != note(0.6)


@pytest.mark.parametrize(
    "name, spec, content, said",
    [
        ("lenet", MNIST, None, "known: mnist_lenet512_v1"),
        (NAME, MNIST, None, f"python -m genjax.evaluation --train={NAME}"),
        (NAME, MNIST, b"no npz at all", "delete it and train it again"),
    ],
)
def test_what_cannot_be_loaded(name, spec, content, said, folder):
    if content is not None:
        (folder / f"{NAME}.npz").write_bytes(content)
    with pytest.raises(UserError, match=said):
        extractors.load(name, spec)


def test_images_of_another_size_are_refused():
    small = dataclasses.replace(MNIST, name="digits", shape=(8, 8, 1), num_levels=17)
    with pytest.raises(UserError, match=r"digits has \(8, 8, 1\) with 17"):
        extractors.load(NAME, small)
    pictures = dataclasses.replace(MNIST, name="pictures", shape=(28, 28, 3))
    with pytest.raises(UserError, match=r"pictures has \(28, 28, 3\) with 256"):
        extractors.load(NAME, pictures)  # of ten classes: no digit in each channel


COLOR = dataclasses.replace(MNIST, name="color", shape=(32, 32, 3))


@pytest.fixture
def inception_file(tmp_path, monkeypatch):
    """A file that stands for weights; what is in them does not matter here."""
    monkeypatch.setattr(inception, "from_torch", lambda arrays: dict(arrays))
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.zeros(1))
    return path


def test_only_the_published_weights_make_a_fid(inception_file, monkeypatch):
    digest = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    names = ("inception", "inception_tf1")
    found = [extractors.load(f"{name}:{inception_file}", COLOR) for name in names]
    assert [x.frechet_name for x in found] == [
        f"frechet_inception_{digest[:8]}",
        f"frechet_inception_{digest[:8]}_tf1",
    ]
    assert found[0].digest != found[1].digest  # the images are resized in two ways
    assert all(digest[:12] in x.note and not x.reads_labels for x in found)
    monkeypatch.setattr(inception, "SHA256", digest)
    found = [extractors.load(f"{name}:{inception_file}", COLOR) for name in names]
    assert [x.frechet_name for x in found] == ["fid", "fid_tf1"]
    assert [x.name for x in found] == ["inception", "inception_tf1"]


def test_the_published_hash_is_that_of_the_name():
    # torch's convention: the first 8 digits stand at the end of the file's name.
    assert inception.SHA256.startswith("6726825d") and len(inception.SHA256) == 64


def test_gray_images_are_said_to_be_repeated(inception_file):
    assert "gray repeated" in extractors.load(f"inception:{inception_file}", MNIST).note
    assert "gray" not in extractors.load(f"inception:{inception_file}", COLOR).note


def test_weights_of_another_network_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(UserError, match="no weights of the Inception network"):
        extractors.load(f"inception:{tmp_path}/other.npz", COLOR)


def test_batches_of_two_sizes_whatever_comes(inception_file, monkeypatch):
    sizes = []

    def count_and_sum(params, images, *, resize):
        sizes.append(len(images))  # at trace time: one for each size
        sums = images.astype(float).sum(axis=(1, 2))
        return sums, sums[:, :1]

    monkeypatch.setattr(inception, "features_and_logits", count_and_sum)
    extractor = extractors.load(f"inception:{inception_file}", COLOR)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (170, 32, 32, 3)).astype(np.uint8)
    for num in (170, 130, 70, 1):
        features, logits = extractor.apply(images[:num])
        expected = images[:num].astype(float).sum(axis=(1, 2))
        np.testing.assert_allclose(features, expected)
        np.testing.assert_allclose(logits, expected[:, :1])
    assert jax.device_count() == 4  # tests/conftest.py
    assert sizes == [4 * extractors.INCEPTION_BATCH, extractors.INCEPTION_BATCH]


def test_all_devices_share_the_images():
    places = []

    def network(params, images):
        jax.debug.inspect_array_sharding(images, callback=places.append)
        rows = params * images.reshape(len(images), -1).astype(float)
        return rows, rows

    images = np.arange(7, dtype=np.uint8)[:, None]
    for num in (7, 3):  # 16 and 4 rows: 3 is no multiple of 4
        features, _ = extractors.in_batches(network, 2.0, size=3)(images[:num])
        np.testing.assert_array_equal(features[:, 0], 2.0 * np.arange(num))
    shapes = [
        place.shard_shape((4 * rows, 1))
        for place, rows in zip(places, (4, 1), strict=True)
    ]
    assert shapes == [(4, 1), (1, 1)]
