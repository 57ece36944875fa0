import numpy as np
import pytest
import scipy.special
import scipy.stats

from genjax.evaluation.inception_score import inception_score


@pytest.mark.parametrize("seed", [None, 2020])
def test_equals_the_entropies_of_scipy(seed):
    logits = 3 * np.random.default_rng(0).normal(size=(103, 7)).astype(np.float32)
    order = np.arange(103)
    if seed is not None:
        order = np.random.RandomState(seed).permutation(103)
    p = scipy.special.softmax(logits[order].astype(np.float64), axis=1)
    scores = []
    for i in range(4):
        part = p[i * 103 // 4 : (i + 1) * 103 // 4]
        mean = np.broadcast_to(part.mean(axis=0), part.shape)
        scores.append(np.exp(scipy.stats.entropy(part, mean, axis=1).mean()))
    expected = (np.mean(scores), np.std(scores))
    found = inception_score(logits, splits=4, shuffle_seed=seed)
    assert found == pytest.approx(expected, rel=1e-9)


def test_sure_and_even_answers_score_the_number_of_classes():
    logits = 1000.0 * np.eye(5)[np.arange(100) % 5]
    assert inception_score(logits, splits=1)[0] == pytest.approx(5.0)


def test_one_answer_scores_one():
    assert inception_score(np.ones((20, 5))) == pytest.approx((1.0, 0.0), abs=1e-12)


def test_more_splits_than_rows_are_refused():
    with pytest.raises(ValueError, match="9 rows cannot be cut into 10"):
        inception_score(np.zeros((9, 2)))
