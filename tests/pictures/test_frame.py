import numpy as np
import pytest

from genjax.pictures.frame import framed

PICTURE = np.full((90, 300, 3), 96, np.uint8)


def ink(part):
    """How many pixels of white paper are written on."""
    return int((part < 128).all(axis=-1).sum())


def test_a_title_stands_above_the_untouched_picture():
    sheet = framed(PICTURE, "run, step 2: samples")
    assert sheet.shape[1] == 300
    np.testing.assert_array_equal(sheet[-90:], PICTURE)
    assert ink(sheet[:-90]) > 200
    assert ink(framed(PICTURE, "")[:-90]) == 0


def test_a_long_title_takes_more_lines_and_no_more_width():
    one, two = (framed(PICTURE, n * "several words ").shape for n in (1, 4))
    assert one[1] == two[1] == 300 and two[0] > one[0]


def test_rows_and_columns_have_their_names_beside_their_parts():
    sheet = framed(PICTURE, "", rows=["real", "", "model"], columns=["a", "", "b"])
    left, top = sheet.shape[1] - 300, sheet.shape[0] - 90
    np.testing.assert_array_equal(sheet[top:, left:], PICTURE)
    beside = [ink(sheet[top + 30 * i : top + 30 * i + 30, :left]) for i in range(3)]
    above = [ink(sheet[:top, left + 100 * i : left + 100 * i + 100]) for i in range(3)]
    for written in (beside, above):
        assert written[0] > 10 and written[1] == 0 and written[2] > 10


@pytest.mark.parametrize("count", [3, 60])
def test_a_name_is_cut_to_its_column(count):
    """No name runs into the next column: each stays on its side of the middle."""
    names = [*["wide name"] * (count // 2), *[""] * (count - count // 2)]
    sheet = framed(PICTURE, "", columns=names)
    half = 300 * (count // 2) // count
    assert ink(sheet[:-90, half + 1 :]) == 0
