import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from genjax.evaluation.likelihood import (
    baseline_metrics,
    independent_bernoulli_nll,
    independent_pixels_nll,
    level_counts,
    likelihood_metrics,
)
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


def test_bits_per_dim_of_a_fair_coin_a_pixel_is_one():
    log_prob = np.full(5, -12 * math.log(2))
    metrics = likelihood_metrics(log_prob, spec((2, 2, 3), 2))
    assert metrics["bits_per_dim"] == pytest.approx(1.0)
    assert metrics["nll_nats"] == pytest.approx(12 * math.log(2))
    assert metrics["nll_nats_stderr"] == 0.0


def test_standard_error_by_hand():
    # -1, -3: mean 2, deviation sqrt(2) with ddof 1, over sqrt(2) examples.
    metrics = likelihood_metrics(np.array([-1.0, -3.0]), spec((2,), 0))
    assert metrics == {"nll_nats": 2.0, "nll_nats_stderr": pytest.approx(1.0)}


def test_one_impossible_example_makes_the_mean_infinite():
    metrics = likelihood_metrics(np.array([-1.0, -np.inf]), spec((1, 1, 1), 2))
    assert metrics["nll_nats"] == metrics["bits_per_dim"] == math.inf


def test_level_counts_by_hand():
    images = np.array([[[[0]], [[2]]], [[[1]], [[2]]]], np.uint8)  # (2, 2, 1, 1)
    np.testing.assert_array_equal(level_counts(images, 3), [[1, 1, 0], [0, 0, 2]])


def test_a_level_beyond_the_last_is_refused():
    with pytest.raises(ValueError, match=r"lie in 0 ... 16, got 17"):
        level_counts(np.full((1, 2, 2, 1), 17, np.uint8), 17)


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
    metrics = baseline_metrics(train, test, spec((28, 28, 1), 256))
    # 1.690 with 1 added to each count; the 0.1 of this code is 0.0012 better.
    laplace = independent_pixels_nll(train, test, smoothing=1.0)
    assert laplace / (784 * math.log(2)) == pytest.approx(1.690, abs=5e-4)
    assert metrics["independent_pixels_bits_per_dim"] == pytest.approx(1.690, abs=2e-3)


def test_uniform_levels_cost_log2_of_their_number():
    counts = np.ones((4, 17), np.int64)
    metrics = baseline_metrics(counts, counts, spec((2, 2, 1), 17))
    assert metrics["uniform_bits_per_dim"] == pytest.approx(math.log2(17))
    # Equal counts are uniform whatever is added to them.
    assert metrics["independent_pixels_nll_nats"] == pytest.approx(4 * math.log(17))


def test_independent_bernoulli_by_hand():
    """Two binary pixels: one always on in training, one on half the time."""
    train, test = np.array([[0, 4], [2, 2]]), np.array([[1, 1], [2, 0]])
    want = -(0.5 * math.log(4.1 / 4.2) + 0.5 * math.log(0.1 / 4.2)) - math.log(0.5)
    assert independent_bernoulli_nll(train, test) == pytest.approx(want)
    # a grey of one half is a fair coin
    grey = np.array([[0, 4, 0]])
    assert independent_bernoulli_nll(grey, grey) == pytest.approx(math.log(2))
