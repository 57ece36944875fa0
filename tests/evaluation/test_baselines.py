import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from genjax.evaluation.baselines import (
    baseline_metrics,
    independent_bernoulli_nll,
    independent_pixels_nll,
    likelihood_baselines,
    no_ppca,
    ppca_nll,
)
from genjax.evaluation.frechet import moments
from genjax.evaluation.summary import level_counts, summarize
from genjax.typing import DataSpec


def spec(shape, num_levels):
    return DataSpec(
        name="data",
        shape=shape,
        dtype="uint8" if num_levels else "float32",
        num_levels=num_levels,
        num_train=1,
        num_eval=1,
        num_classes=0,
    )


@pytest.mark.parametrize(
    "rows, nats",
    # Computed apart from this code for the split of Tomczak's teaching code.
    [
        (slice(0, 1000), 106.77),
        (slice(1000, 1350), 110.53),
        (slice(1350, None), 106.31),
    ],
    ids=["train", "validation", "test"],
)
def test_independent_pixels_on_digits(rows, nats):
    images = load_digits().images.astype(np.uint8)
    train, part = level_counts(images[:1000], 17), level_counts(images[rows], 17)
    assert independent_pixels_nll(train, part) == pytest.approx(nats, abs=5e-3)


def test_independent_pixels_on_mnist(mnist):
    train, test = level_counts(mnist["train"], 256), level_counts(mnist["test"], 256)
    nats = independent_pixels_nll(train, test)
    # 1.690 with 1 added to each count; the 0.1 of this code is 0.0012 better.
    laplace = independent_pixels_nll(train, test, smoothing=1.0)
    assert laplace / (784 * math.log(2)) == pytest.approx(1.690, abs=5e-4)
    assert nats / (784 * math.log(2)) == pytest.approx(1.690, abs=2e-3)


def test_uniform_levels_cost_log2_of_their_number():
    images = np.arange(17 * 4, dtype=np.uint8).reshape(17, 2, 2, 1) // 4
    data = spec((2, 2, 1), 17)
    same = summarize([images], name="train", spec=data)
    found = likelihood_baselines(same, same, data)
    metrics = baseline_metrics(found, data)
    assert metrics["uniform_bits_per_dim"] == pytest.approx(math.log2(17))
    # Equal counts are uniform whatever is added to them.
    assert metrics["independent_pixels_nll_nats"] == pytest.approx(4 * math.log(17))
    assert {name: b.kind for name, b in found.items()} == {
        "uniform": "exact",
        "independent_pixels": "exact",
        "ppca": "lower_bound",
    }


def test_binarised_images_have_the_bernoulli_alone():
    data = spec((2, 2, 1), 2)
    on = summarize([np.ones((9, 2, 2, 1), np.uint8)], name="train", spec=data)
    found = likelihood_baselines(on, on, data, "binarized")
    metrics = baseline_metrics(found, data)
    bits = -math.log2(9.1 / 9.2)
    assert metrics == {
        "independent_bernoulli_nll_nats": pytest.approx(4 * bits * math.log(2)),
        "independent_bernoulli_bits_per_dim": pytest.approx(bits),
    }


def test_independent_bernoulli_by_hand():
    """Two binary pixels: one always on in training, one on half the time."""
    train, test = np.array([[0, 4], [2, 2]]), np.array([[1, 1], [2, 0]])
    want = -(0.5 * math.log(4.1 / 4.2) + 0.5 * math.log(0.1 / 4.2)) - math.log(0.5)
    assert independent_bernoulli_nll(train, test) == pytest.approx(want)
    # a grey of one half is a fair coin
    grey = np.array([[0, 4, 0]])
    assert independent_bernoulli_nll(grey, grey) == pytest.approx(math.log(2))


def test_ppca_on_mnist(mnist):
    """The continuous density, computed apart from this code: 385.653 and 394.616."""
    train, test = (moments(mnist[name] / 255.0) for name in ("train", "test"))
    nats = {
        name: -ppca_nll(train, split, num_levels=0)
        for name, split in [("train", train), ("test", test)]
    }
    assert nats == pytest.approx({"train": 385.653, "test": 394.616}, abs=5e-3)


def test_ppca_of_levels_is_scikit_learns_on_dequantised_pixels():
    """PCA.score is the mean log density; 30 draws of the noise leave 0.05 nats."""
    rng = np.random.default_rng(0)
    levels = load_digits().data
    train, test = levels[:1000], levels[1350:]

    def dequantised(rows):
        return (rows + rng.uniform(-0.5, 0.5, (30, *rows.shape))).reshape(-1, 64) / 16

    theirs = PCA(30, svd_solver="covariance_eigh").fit(dequantised(train))
    expected = -theirs.score(dequantised(test)) + 64 * math.log(16)
    got = ppca_nll(moments(train / 16), moments(test / 16), num_levels=17)
    assert got == pytest.approx(expected, abs=0.1)


def test_ppca_of_points_in_the_plane_is_their_gaussian():
    rng = np.random.default_rng(0)
    mix = np.array([[2.0, 0.0], [1.0, 0.5]])
    train, test = (rng.normal(size=(n, 2)) @ mix + 3.0 for n in (300, 50))
    gaussian = multivariate_normal(train.mean(axis=0), np.cov(train.T, ddof=0))
    got = ppca_nll(moments(train), moments(test), num_levels=0)
    assert got == pytest.approx(-gaussian.logpdf(test).mean(), rel=1e-5)


def test_one_pixel_has_no_principal_components():
    data = spec((1, 1, 1), 3)
    images = np.array([0, 1, 2], np.uint8).reshape(3, 1, 1, 1)
    one = summarize([images], name="train", spec=data)
    assert "1 numbers an example" in (no_ppca(one, data) or "")
    assert "ppca" not in likelihood_baselines(one, one, data)
