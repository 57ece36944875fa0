import numpy as np
import pytest
from PIL import Image

from genjax.pictures import grids
from genjax.pictures.grids import (
    MIN_WIDTH,
    bounds_of,
    point_picture,
    save_png,
)


def image_grid(images, num_levels, columns=None):
    """As small as cells may be, so that their place is known."""
    return grids.image_grid(images, num_levels, columns=columns, min_width=1)


def cell(grid, row, column, size):
    """The pixels of one cell, found from the documented padding."""
    top, left = (2 + i * (size + 2) for i in (row, column))
    return grid[top : top + size, left : left + size]


def test_images_stand_row_by_row_in_their_own_pixels():
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    grid = image_grid(images, 256)
    assert grid.shape == (2 * 34 + 2, 3 * 34 + 2, 3)
    for i in range(5):
        np.testing.assert_array_equal(cell(grid, i // 3, i % 3, 32), images[i])
    blank = cell(grid, 1, 2, 32)
    assert (blank == blank[0, 0]).all()


def test_digits_are_enlarged_and_stretched_to_full_range():
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1) % 17
    grid = image_grid(image, 17)
    assert grid.shape == (36, 36, 3)
    shown = cell(grid, 0, 0, 32)
    np.testing.assert_array_equal(shown, shown[::4, ::4].repeat(4, 0).repeat(4, 1))
    expected = np.round(image[0] * 255.0 / 16)
    np.testing.assert_array_equal(shown[::4, ::4], expected.repeat(3, axis=-1))


@pytest.mark.parametrize("count, rows, columns", [(1, 1, 1), (2, 1, 2), (64, 8, 8)])
def test_grids_are_nearly_square(count, rows, columns):
    grid = image_grid(np.zeros((count, 32, 32, 1), np.uint8), 2)
    assert grid.shape == (rows * 34 + 2, columns * 34 + 2, 3)


def test_a_grid_has_as_many_columns_as_it_is_told():
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    grid = image_grid(images, 256, columns=5)
    assert grid.shape == (2 * 34 + 2, 5 * 34 + 2, 3)
    np.testing.assert_array_equal(cell(grid, 1, 1, 32), images[6])


@pytest.mark.parametrize(
    ("count", "side", "columns"), [(1, 8, 1), (64, 8, 8), (9, 28, 3), (40, 64, 20)]
)
def test_a_picture_is_wide_enough_and_its_pixels_are_squares(count, side, columns):
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 1))
    grid = grids.image_grid(images.astype(np.uint8), 256, columns=columns)
    width = (grid.shape[1] - 2) // columns - 2
    assert grid.shape[1] >= MIN_WIDTH and width % side == 0
    first, factor = cell(grid, 0, 0, width), width // side
    small = first[::factor, ::factor]
    np.testing.assert_array_equal(small[..., :1], images[0])
    np.testing.assert_array_equal(first, small.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (2, 8, 8, 2)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match=str(shape[-1])):
        image_grid(np.zeros(shape, np.uint8), 256)


def luminance(colours):
    return colours @ [0.2126, 0.7152, 0.0722]


def test_fuller_cells_are_lighter():
    counts = np.array([0, 1, 3, 10, 100])
    points = np.repeat(np.stack([np.arange(5) + 0.5, np.full(5, 0.5)], 1), counts, 0)
    shown = point_picture(
        points.astype(np.float32), (0.0, 5.0, 0.0, 5.0), bins=5, scale=1
    )
    row = luminance(shown[-1].astype(float))  # y in [0, 1] is the bottom row
    assert (np.diff(row) > 0).all()
    assert tuple(shown[-1, 4]) == (253, 231, 36) and tuple(shown[0, 0]) == (68, 1, 84)


def test_y_points_upwards():
    point = np.array([[0.1, 0.9]], np.float32)
    shown = point_picture(point, (0.0, 1.0, 0.0, 1.0), bins=2, scale=3)
    assert shown.shape == (6, 6, 3)
    light = luminance(shown.astype(float)) > 128
    assert light[:3, :3].all() and light.sum() == 9


def test_points_outside_or_not_finite_are_left_out():
    points = np.array([[np.nan, 0], [np.inf, 0], [7, 7]], np.float32)
    shown = point_picture(points, (0.0, 1.0, 0.0, 1.0), bins=2, scale=1)
    assert (shown == shown[0, 0]).all()


def test_bounds_are_a_square_round_the_points():
    points = np.array([[0, 1], [4, 1], [2, 3], [np.nan, 9]], np.float32)
    assert bounds_of(points, margin=0.25) == (-1.0, 5.0, -1.0, 5.0)


def test_no_finite_point_has_no_bounds():
    with pytest.raises(ValueError, match="no point is finite"):
        bounds_of(np.full((3, 2), np.nan, np.float32))


def test_a_png_holds_the_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    save_png(tmp_path / "samples" / "10.png", pixels)
    with Image.open(tmp_path / "samples" / "10.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert len(list((tmp_path / "samples").iterdir())) == 1


def test_an_interval_is_round_the_points_of_the_line():
    points = np.array([[1.0], [np.inf], [5.0]], np.float32)
    assert grids.interval_of(points, margin=0.25) == (0.0, 6.0)
