"""The picture of the README: the right samples, and bars as high as the numbers."""

import numpy as np
from matplotlib import pyplot

from benchmarks import families
from genjax import configs

BOUND = {"nats": 80.0, "kind": "lower_bound", "given": "nothing"}
BOUND |= {"independent_pixels": 106.3}


def test_each_family_is_a_config_of_the_same_data():
    for name in families.FAMILIES:
        assert configs.load(name).data.name == "digits", name


def test_the_first_sample_of_each_digit_is_shown():
    drawn = np.arange(4)[:, None, None, None] * np.ones((1, 8, 8, 1))
    found = families.first_of_each(drawn, np.array([3, 1, 3, 0]))
    assert [found[digit, 0, 0] for digit in (0, 1, 3)] == [3, 1, 0]
    assert np.isnan(found[[2, 4, 5, 6, 7, 8, 9]]).all()


def test_bars_are_the_numbers_beside_the_line_of_no_model():
    _, axes = pyplot.subplots()
    given = BOUND | {"nats": 89.7, "given": "label"}
    nats = {"GAN": {}, "VDM": BOUND, "flow matching": given}
    families.draw_bars(axes, ["data", *nats], nats)
    assert [bar.get_height() for bar in axes.patches] == [80.0, 89.7]
    assert list(axes.lines[0].get_ydata()) == [106.3, 106.3]
    said = [text.get_text() for text in axes.texts]
    assert {"none", "≤ 80.0", "≤ 89.7*", "no model\n106.3"} <= set(said)
    pyplot.close("all")


def test_the_picture_has_a_column_for_each(tmp_path):
    columns = {"data": np.zeros((10, 8, 8)), "VDM": np.full((10, 8, 8), np.nan)}
    path = tmp_path / "picture.png"
    families.draw(columns, {"VDM": BOUND}, path)
    assert pyplot.imread(path).shape[1] >= 200
    pyplot.close("all")
