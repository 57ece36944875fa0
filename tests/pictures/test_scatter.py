import numpy as np
import pytest

from genjax.pictures.figures import DOTS
from genjax.pictures.scatter import INCHES, Panel, scatter

# tab10, as matplotlib documents it
BLUE, ORANGE, GREEN = (31, 119, 180), (255, 127, 14), (44, 160, 44)


def has(picture, colour):
    return (picture == np.array(colour)).all(axis=-1)


@pytest.fixture
def corners():
    """Class 0 in the lower left and class 1 in the upper right, and the other way."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    points = 0.2 * rng.standard_normal((100, 2)) + 10.0 * labels[:, None] @ [[1, 1]]
    return labels, points


def test_a_class_has_its_colour_where_its_points_are(corners):
    labels, points = corners
    axes = ("x", "y")
    panels = [Panel("one", axes, points), Panel("other", axes, points[::-1])]
    picture = scatter(panels, labels, 2)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    height, side = picture.shape[0], int(INCHES * DOTS)
    left, right = picture[:, :side], picture[:, side : 2 * side]
    for part, lower, upper in ((left, BLUE, ORANGE), (right, ORANGE, BLUE)):
        rows, columns = has(part, lower).nonzero()
        assert rows.mean() > height / 2 and columns.mean() < part.shape[1] / 2
        rows, columns = has(part, upper).nonzero()
        assert rows.mean() < height / 2 and columns.mean() > part.shape[1] / 2


def test_without_classes_there_is_one_colour_and_no_legend(corners):
    labels, points = corners
    panel = Panel("one", ("x", "y"), points)
    picture = scatter([panel], labels, 0)
    assert has(picture, BLUE).any() and not has(picture, ORANGE).any()
    assert picture.shape[1] < scatter([panel], labels, 2).shape[1]


def test_a_colour_does_not_depend_on_the_classes_that_are_shown(corners):
    """Class 2 is green, also where no other is there."""
    _, points = corners
    picture = scatter([Panel("one", ("x", "y"), points)], np.full(100, 2), 10)
    assert has(picture, GREEN).any() and not has(picture, BLUE).any()
