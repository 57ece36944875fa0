import math

import numpy as np
import pytest
import scipy.stats

from genjax.evaluation.class_balance import class_metrics


def test_half_the_classes_dropped_costs_log_2():
    labels = np.arange(100) % 10
    found = class_metrics(labels[labels < 5], labels, 10)
    assert found["class_kl"] == pytest.approx(math.log(2))
    assert found["classes"] == 5
    assert class_metrics(labels, labels, 10) == pytest.approx(
        {"class_kl": 0.0, "classes": 10}
    )


def test_equals_the_relative_entropy_of_scipy():
    rng = np.random.default_rng(0)
    predicted, labels = rng.binomial(6, 0.4, 200), rng.binomial(6, 0.5, 5000)
    shares = [np.bincount(x, minlength=7) / len(x) for x in (predicted, labels)]
    found = class_metrics(predicted, labels, 7)["class_kl"]
    assert found == pytest.approx(scipy.stats.entropy(*shares))


def test_a_class_that_the_data_lack_is_infinite():
    assert class_metrics(np.array([0, 1]), np.array([0, 0]), 3) == {
        "class_kl": math.inf,
        "classes": 2.0,
    }
