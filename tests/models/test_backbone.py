"""What concerns networks of every kind: classes, and sizes that fit."""

import pytest

from genjax.choices import near_multiples
from genjax.models.backbone import classes_of
from genjax.typing import UserError
from tests.specs import of_images


def test_classes_are_none_or_those_of_the_data():
    spec = of_images("mine", (8, 8, 1), num_classes=3)
    assert [classes_of(spec, num) for num in (None, 0, 3)] == [3, 0, 3]
    with pytest.raises(UserError, match="mine has 3 classes, not .*num_classes=10"):
        classes_of(spec, 10)
    assert classes_of(of_images("mine", (8, 8, 1)), None) == 0


def test_sizes_that_divide():
    assert near_multiples(31, 8) == "24 or 32"
    assert near_multiples(5, 8) == "8" and near_multiples(16, 8) == "16"
