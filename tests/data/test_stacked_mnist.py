"""Stacked MNIST: its classes are the digits in its channels."""

import numpy as np
import pytest
from scipy import stats

from genjax.data import stacked_mnist as module
from genjax.data.datasets import load
from genjax.data.split import Dataset, split_from_arrays
from genjax.data.stacked_mnist import stacked
from genjax.data.tfds_images import tfds_images
from genjax.typing import DataSpec, UserError
from tests.data.test_tfds_images import SHARED, needs_shared


def digits(start, num, name="digits"):
    """Picture i is filled with start + i, and its figure is the last one of that."""
    which = np.arange(start, start + num)
    image = np.broadcast_to(which[:, None, None, None], (num, 28, 28, 1))
    return split_from_arrays(
        name, image.astype(np.uint8), (which % 10).astype(np.int32)
    )


@pytest.fixture
def mnist(monkeypatch):
    """A small one in the place of TFDS's: train digits below 100, test digits above."""
    spec = DataSpec(
        name="mnist",
        shape=(28, 28, 1),
        dtype="uint8",
        num_levels=256,
        num_train=100,
        num_eval=50,
        num_classes=10,
    )
    train, held_out = digits(0, 100), digits(100, 50)
    small = Dataset(spec=spec, train=train, eval=held_out, fingerprint="of mnist")
    monkeypatch.setattr(module, "tfds_images", lambda *args, **options: small)


def whole(split):
    return split.read(np.arange(len(split)))


def test_a_class_is_the_figures_of_its_channels(mnist):
    dataset = load("stacked_mnist", num_train=400, num_eval=300)
    for split, low, high in [(dataset.train, 0, 100), (dataset.eval, 100, 150)]:
        batch = whole(split)
        assert batch["image"].shape == (len(split), 28, 28, 3)
        source = batch["image"][:, 0, 0].astype(int)  # of each channel
        np.testing.assert_array_equal(
            batch["image"],
            np.broadcast_to(source[:, None, None], batch["image"].shape),
        )
        figures = source % 10
        np.testing.assert_array_equal(
            batch["label"], 100 * figures[:, 0] + 10 * figures[:, 1] + figures[:, 2]
        )
        # the two splits share no digit
        assert low <= source.min() and source.max() < high
        assert split.arrays is not None  # so training may keep it on the device
    spec = dataset.spec
    assert (spec.shape, spec.num_classes, spec.num_levels) == ((28, 28, 3), 1000, 256)
    assert (spec.num_train, spec.num_eval) == (400, 300)


def test_digits_are_drawn_evenly_and_each_by_itself():
    seed = np.random.SeedSequence(0)
    label = whole(stacked(digits(0, 10), 20_000, seed))["label"]
    counts = np.bincount(label, minlength=1000)
    assert stats.chisquare(counts).pvalue > 1e-4  # of 1,000 equally likely classes


def test_the_seed_settles_the_pictures(mnist):
    def loaded(**options):
        dataset = load("stacked_mnist", num_train=64, num_eval=64, **options)
        label = [whole(s)["label"] for s in (dataset.train, dataset.eval)]
        return dataset.fingerprint, *label

    one, same, other = loaded(), loaded(seed=0), loaded(seed=1)
    assert one[0] == same[0] != other[0]
    np.testing.assert_array_equal(one[1], same[1])
    assert np.mean(one[1] == other[1]) < 0.1
    assert np.mean(one[1] == one[2]) < 0.1  # another draw, not the same of other digits


def test_more_pictures_do_not_change_the_first(mnist):
    few, many = (load("stacked_mnist", num_train=n, num_eval=5) for n in (20, 40))
    first = many.train.read(np.arange(20))
    np.testing.assert_array_equal(whole(few.train)["image"], first["image"])
    assert few.fingerprint != many.fingerprint


def test_mistakes(mnist):
    with pytest.raises(UserError, match="must be positive, got 0 and 5"):
        load("stacked_mnist", num_train=0, num_eval=5)
    with pytest.raises(UserError, match="'stacked_mnist' has no option 'image_size'"):
        load("stacked_mnist", image_size=32)
    with pytest.raises(UserError, match="did you mean 'stacked_mnist'"):
        load("stackd_mnist")


def test_mnist_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="mnist is not prepared in"):
        load("stacked_mnist", str(tmp_path), download=False)


@needs_shared
def test_channels_are_digits_of_mnist():
    mnist = tfds_images("mnist", str(SHARED), train_split="test", in_memory=False)
    assert mnist is not None
    seed = np.random.SeedSequence(3)
    batch = whole(stacked(mnist.eval, 20, seed))
    rows = np.random.default_rng(seed).integers(0, 10_000, (20, 3))
    for image, label, triple in zip(batch["image"], batch["label"], rows, strict=True):
        found = mnist.eval.read(triple)
        np.testing.assert_array_equal(image, np.moveaxis(found["image"][..., 0], 0, -1))
        assert f"{label:03d}" == "".join(str(figure) for figure in found["label"])
