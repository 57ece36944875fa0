"""Bayes' rule on Gaussians, whose posterior is known, and against scikit-learn."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.naive_bayes import GaussianNB

from genjax.evaluation.bayes import (
    classification_metrics,
    confusion,
    decided,
    log_posterior,
)

RNG = np.random.default_rng(0)


def two_gaussians(num, mean=0.8, std=1.3):
    """x of N(-mean, std^2) and N(mean, std^2), log p(x | y) and the classes."""
    labels = RNG.integers(0, 2, num)
    x = (2 * labels - 1) * mean + std * RNG.normal(size=num)
    both = norm.logpdf(x[:, None], [-mean, mean], std)
    return x, both, labels


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_posterior_of_two_gaussians_is_logistic(share):
    """log odds 2 mean x / std^2, and those of the prior: by hand."""
    x, both, _ = two_gaussians(100)
    prior = None if share == 0.5 else np.log([1 - share, share])
    posterior = log_posterior(both, prior)
    odds = 2 * 0.8 * x / 1.3**2 + math.log(share / (1 - share))
    np.testing.assert_allclose(posterior[:, 1], -np.log1p(np.exp(-odds)), rtol=1e-9)
    np.testing.assert_allclose(np.exp(posterior).sum(1), 1.0)


def test_accuracy_of_two_gaussians():
    """Bayes' own, Phi(mean / std), within 4 of its standard errors."""
    _, both, labels = two_gaussians(20_000)
    metrics = classification_metrics(log_posterior(both), labels)
    exact = norm.cdf(0.8 / 1.3)
    error = metrics["accuracy_stderr"]
    assert error == pytest.approx(math.sqrt(exact * (1 - exact) / 20_000), rel=0.05)
    assert abs(metrics["accuracy"] - exact) < 4 * error


def test_what_is_common_to_all_classes_cancels():
    """Even where float32 likelihoods would all be 0."""
    _, both, _ = two_gaussians(50)
    shift = RNG.normal(size=(50, 1)) * 1e4
    np.testing.assert_allclose(
        log_posterior(both + shift), log_posterior(both), atol=1e-9
    )


def test_against_scikit_learn():
    """Naive Bayes with the shares of the classes, and its scores."""
    labels = RNG.choice(3, 300, p=[0.6, 0.3, 0.1])
    x = labels[:, None] + RNG.normal(size=(300, 4))
    theirs = GaussianNB().fit(x, labels)
    spread = np.sqrt(theirs.var_)
    given = norm.logpdf(x[:, None], theirs.theta_, spread).sum(-1)
    ours = log_posterior(given, np.log(theirs.class_prior_))
    np.testing.assert_allclose(ours, theirs.predict_log_proba(x), rtol=1e-6, atol=1e-8)
    metrics = classification_metrics(ours, labels)
    predicted = theirs.predict(x)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert metrics["log_posterior_nats"] == pytest.approx(
        -log_loss(labels, theirs.predict_proba(x))
    )
    assert metrics["largest_class_share"] == np.mean(labels == 0)
    assert metrics["uniform_log_posterior_nats"] == pytest.approx(math.log(1 / 3))
    np.testing.assert_array_equal(
        confusion(ours, labels), confusion_matrix(labels, predicted)
    )


def test_errors_by_hand():
    """Right, right, wrong, wrong: 1/2, and sqrt(1/3 / 4)."""
    sure = np.log([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]])
    metrics = classification_metrics(sure, np.array([0, 1, 1, 0]))
    assert metrics["accuracy"] == metrics["largest_class_share"] == 0.5
    assert metrics["accuracy_stderr"] == pytest.approx(math.sqrt(1 / 12))
    assert metrics["log_posterior_nats"] == pytest.approx(math.log(0.09) / 2)
    one = classification_metrics(sure[:1], np.array([0]))
    assert one["accuracy"] == 1.0 and math.isnan(one["accuracy_stderr"])


def test_an_example_that_no_class_explains_counts_as_wrong():
    never, nan = -np.inf, np.nan
    given = np.array([[0.0, never], [never, never], [nan, 0.0], [0.0, 0.0]])
    posterior = log_posterior(given)
    np.testing.assert_array_equal(decided(posterior), [True, False, False, True])
    np.testing.assert_array_equal(posterior[0], [0.0, never])
    labels = np.array([0, 0, 1, 0])
    metrics = classification_metrics(posterior, labels)
    assert metrics["accuracy"] == 0.5
    assert math.isnan(metrics["log_posterior_nats"])
    np.testing.assert_array_equal(confusion(posterior, labels), [[2, 0], [0, 0]])
