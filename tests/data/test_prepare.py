"""Preparing without TensorFlow, from original files, without a network."""

import hashlib
import io
import os
import socket
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from genjax.data import prepare
from genjax.data.datasets import load
from genjax.typing import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
ORIGINAL = SHARED / "original" / "mnist"


@pytest.mark.skipif(not ORIGINAL.is_dir(), reason="no MNIST archives beside the repo")
@pytest.mark.slow
def test_mnist_from_its_original_archives(tmp_path):
    """Bit for bit the arrays that TFDS's own builder gave, in its order."""
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for archive in ORIGINAL.iterdir():
        os.symlink(archive, manual / archive.name)
    dataset = load(
        "mnist", str(tmp_path), train_split="train[:5000]", cache_dir=str(tmp_path)
    )
    assert dataset.eval.arrays is not None and dataset.train.arrays is not None
    assert hashlib.sha256(dataset.eval.arrays["image"]).hexdigest() == (
        "a85d8dffc6063fb89dcbc2122651701e7bbc18837f940fc9d76df48c224558ca"
    )
    labels = dataset.eval.arrays["label"].astype(np.uint8)
    assert hashlib.sha256(labels).hexdigest() == (
        "927a9033bdc84a359f1400c691c7eaa8ab1838a0d81e3cc55ed2b4a1dfe95e69"
    )
    theirs = load(
        "mnist",
        str(SHARED / "tensorflow_datasets"),
        train_split="train[:5000]",
        cache_dir=str(tmp_path / "theirs"),
    )
    assert theirs.fingerprint == dataset.fingerprint
    assert theirs.train.arrays is not None
    for name, array in theirs.train.arrays.items():
        np.testing.assert_array_equal(array, dataset.train.arrays[name])
    assert "tensorflow" not in sys.modules


@pytest.mark.skipif(not ORIGINAL.is_dir(), reason="no MNIST archives beside the repo")
def test_a_wrong_archive_is_refused(tmp_path):
    """TFDS's registered checksum is held against files laid by hand, too."""
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for archive in ORIGINAL.iterdir():
        (manual / archive.name).write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(UserError, match="NonMatchingChecksumError") as caught:
        load("mnist", str(tmp_path))
    assert "\n" not in str(caught.value)


class _Downloads:
    """Gives one local file for any address, as TFDS's manager does after a download."""

    def __init__(self, path):
        self.path = path

    def download(self, url):
        assert isinstance(url, str) and url.endswith("binary.tar.gz")
        return self.path


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_archives_are_parsed(tmp_path, name):
    """A hand-made archive: image i has red i, green 50 + i, blue by column."""
    blue = np.tile(np.arange(32, dtype=np.uint8), (32, 1))
    num_labels = 1 if name == "cifar10" else 2

    def record(i):
        planes = [np.full((32, 32), i), np.full((32, 32), 50 + i), blue]
        pixels = np.stack(planes).astype(np.uint8).tobytes()
        return (
            bytes([9 - i, 90 - i][-num_labels:] if num_labels > 1 else [9 - i]) + pixels
        )

    builder = prepare._without_tensorflow(tfds.builder(name, data_dir=str(tmp_path)))
    original = builder._cifar_info
    num_names = {"label": 10 if name == "cifar10" else 100, "coarse_label": 20}
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:

        def add(file, data):
            member = tarfile.TarInfo(original.prefix + file)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        for key, file in zip(original.label_keys, original.label_files, strict=True):
            names = "".join(f"{key} {i}\n" for i in range(num_names[key]))
            add(file, names.encode() + b"\n")
        for i, file in enumerate(original.train_files):
            add(file, record(i))
        add(original.test_files[0], record(5) + record(6))

    splits = builder._split_generators(_Downloads(tmp_path / "a.tar.gz"))
    train, test = list(splits["train"]), list(splits["test"])
    assert [key for key, _ in train] == list(range(len(original.train_files)))
    assert [key for key, _ in test] == [0, 1]
    example = test[1][1]
    assert example["id"] == "test_00001"
    assert example["label"] == (3 if name == "cifar10" else 84)
    assert example.get("coarse_label", 3) == 3
    image = builder.info.features["image"].decode_example_np(
        example["image"].getvalue()
    )
    np.testing.assert_array_equal(image[..., 0], 6)
    np.testing.assert_array_equal(image[..., 1], 56)
    np.testing.assert_array_equal(image[..., 2], blue)
    assert builder.info.features["label"].names[2] == "label 2"
    assert (builder.name, str(builder.version)) == (name, "3.0.2")


def _closed_port():
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def test_no_network_is_one_sentence_and_soon(tmp_path, monkeypatch):
    """The proxy that the environment names does not answer: there is no network."""
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", f"http://localhost:{_closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    start = time.monotonic()
    with pytest.raises(UserError, match="does not answer") as caught:
        load("cifar10", str(tmp_path))
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert str(tmp_path / "cifar10" / "3.0.2") in message and "\n" not in message
    assert "data.dir" in message
    assert not list(tmp_path.iterdir())


def test_a_host_answers_or_does_not():
    with socket.create_server(("localhost", 0)) as server:
        assert prepare._answers("localhost", server.getsockname()[1])
    assert not prepare._answers("localhost", _closed_port())
    start = time.monotonic()
    assert not prepare._answers("192.0.2.1", 443)  # RFC 5737: leads nowhere
    assert time.monotonic() - start < 5


def test_what_needs_tensorflow_says_so(tmp_path):
    """A builder that imports TensorFlow to generate, as many of TFDS's do."""
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class NeedsTensorflow(tfds.core.GeneratorBasedBuilder):
            name = "needs_tensorflow"
            VERSION = tfds.core.Version("1.0.0")
            url_infos = {}

            def _info(self):
                features = {"image": tfds.features.Image(shape=(4, 4, 3))}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                yield 0, {"image": np.zeros((4, 4, 3), np.uint8)}  # an array: by TF

    builder = NeedsTensorflow(data_dir=str(tmp_path))
    try:
        import tensorflow  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with socket.create_server(("localhost", 0)) as proxy:
            address = f"http://localhost:{proxy.getsockname()[1]}"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("https_proxy", address)
                patch.delenv("no_proxy", raising=False)
                patch.delenv("NO_PROXY", raising=False)
                wanted = (
                    "needs_tensorflow needs tensorflow, once.*pip install tensorflow"
                )
                with pytest.raises(UserError, match=wanted):
                    prepare.prepare(builder)
