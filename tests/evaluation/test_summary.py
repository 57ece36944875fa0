import numpy as np
import pytest

from genjax.evaluation import summary
from genjax.evaluation.summary import level_counts, summarize
from genjax.typing import Stopped
from tests.specs import of_images, of_points

IMAGES = of_images("tiny", (2, 2, 1), num_levels=5)
POINTS = of_points("plane")


def test_images_are_scaled_by_the_last_level():
    images = np.random.default_rng(0).integers(0, 5, (9, 2, 2, 1)).astype(np.uint8)
    result = summarize(np.split(images, [4]), name="train", spec=IMAGES)
    assert (result.name, result.count, result.points) == ("train", 9, None)
    scaled = images.reshape(9, 4) / 4.0
    np.testing.assert_allclose(result.moments.mean, scaled.mean(axis=0))
    np.testing.assert_allclose(result.moments.cov, np.cov(scaled.T))
    np.testing.assert_array_equal(result.levels[:, 4], (images == 4).sum(0).ravel())


def test_points_are_kept_whole():
    points = np.random.default_rng(1).normal(size=(9, 2)).astype(np.float32)
    result = summarize(np.split(points, [2, 2]), name="train", spec=POINTS)
    np.testing.assert_array_equal(result.points, points)
    np.testing.assert_allclose(result.moments.cov, np.cov(points.T), rtol=1e-6)
    assert result.levels is None


def test_large_images_keep_no_covariance(monkeypatch):
    monkeypatch.setattr(summary, "MAX_DIMS", 3)
    images = np.zeros((2, 2, 2, 1), np.uint8)
    result = summarize([images], name="train", spec=IMAGES)
    assert result.moments is None and result.levels is not None


@pytest.mark.parametrize(
    "chunk, message",
    [
        (np.zeros((3, 2, 2, 1), np.float32), r"uint8 like tiny, got .* float32"),
        (np.zeros((3, 2, 2, 3), np.uint8), r"got \(3, 2, 2, 3\) uint8"),
        (np.zeros((0, 2, 2, 1), np.uint8), "not one example in train"),
        (np.full((1, 2, 2, 1), 5, np.uint8), r"0 ... 4, got 5"),
    ],
)
def test_what_the_spec_does_not_say_is_refused(chunk, message):
    with pytest.raises(ValueError, match=message):
        summarize([chunk], name="train", spec=IMAGES)


def test_a_stop_is_heard_between_chunks():
    chunk = np.zeros((3, 2, 2, 1), np.uint8)
    answers = iter([False, True])
    with pytest.raises(Stopped, match="train, after 3"):
        summarize(
            [chunk, chunk], name="train", spec=IMAGES, should_stop=lambda: next(answers)
        )


def test_level_counts_by_hand():
    images = np.array([[[[0]], [[2]]], [[[1]], [[2]]]], np.uint8)  # (2, 2, 1, 1)
    np.testing.assert_array_equal(level_counts(images, 3), [[1, 1, 0], [0, 0, 2]])


def test_a_level_beyond_the_last_is_refused():
    with pytest.raises(ValueError, match=r"lie in 0 ... 16, got 17"):
        level_counts(np.full((1, 2, 2, 1), 17, np.uint8), 17)
