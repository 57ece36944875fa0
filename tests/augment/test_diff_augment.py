import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.augment import diff_augment as d
from genjax.typing import UserError

KEY = jax.random.key(0)
ALL = "color,translation,cutout"


def images(num=2, height=8, width=8, channels=3):
    shape = (num, height, width, channels)
    return jax.random.uniform(jax.random.key(1), shape, minval=-1.0, maxval=1.0)


# --- color ----------------------------------------------------------------------------


def test_brightness_adds_its_number():
    x = images()
    got = d.brighten(x, jnp.array([0.25, -0.5]))
    np.testing.assert_allclose(got[0] - x[0], 0.25, atol=1e-6)
    np.testing.assert_allclose(got[1] - x[1], -0.5, atol=1e-6)


def test_saturation_zero_is_gray_and_hue_and_gray_are_kept():
    x = images()
    got = np.asarray(d.saturate(x, jnp.array([0.0, 0.3])))
    gray = np.broadcast_to(np.mean(x, axis=-1, keepdims=True), x.shape)
    np.testing.assert_allclose(got[0], gray[0], atol=1e-6)
    np.testing.assert_allclose(got.mean(-1), gray[..., 0], atol=1e-6)
    # Python's colorsys knows the hue, of values in [0, 1]
    for before, after in zip(x[1, 0], got[1, 0], strict=True):
        hue = colorsys.rgb_to_hsv(*(float(v) / 2 + 0.5 for v in before))[0]
        assert colorsys.rgb_to_hsv(*(v / 2 + 0.5 for v in after))[0] == (
            pytest.approx(hue, abs=1e-4)
        )


def test_saturation_does_nothing_to_one_channel():
    x = images(channels=1)
    np.testing.assert_array_equal(d.saturate(x, jnp.array([0.0, 1.7])), x)


def test_contrast_keeps_the_mean_and_scales_the_deviation():
    x = images()
    factor = np.array([0.5, 1.4], np.float32)
    got = np.asarray(d.contrast(x, jnp.asarray(factor)))
    axes = (1, 2, 3)
    np.testing.assert_allclose(got.mean(axes), np.mean(x, axes), atol=1e-6)
    np.testing.assert_allclose(got.std(axes), factor * np.std(x, axes), rtol=1e-5)


def test_colors_are_drawn_from_the_ranges_of_the_paper():
    """Two pixels of gray and two of color tell all three draws apart."""
    gray, red, cyan = [0.4] * 3, [1.0, -0.5, -0.5], [-1.0, 0.5, 0.5]
    x = jnp.array([[gray, [-v for v in gray]], [red, cyan]])  # of mean 0
    got = np.asarray(d.color(KEY, jnp.tile(x, (4000, 1, 1, 1))))
    brightness = got.mean(axis=(1, 2, 3))
    contrast = (got[:, 0, 0, 0] - got[:, 0, 1, 0]) / 0.8
    saturation = (got[:, 1, 0, 0] - got[:, 1, 0, 1]) / 1.5 / contrast
    for values, low, high in [
        (brightness, -0.5, 0.5),
        (saturation, 0.0, 2.0),
        (contrast, 0.5, 1.5),
    ]:
        share = (values - low) / (high - low)
        assert -1e-5 < share.min() < 0.01 and 0.99 < share.max() < 1 + 1e-5
        np.testing.assert_allclose(share.mean(), 0.5, atol=0.02)
        np.testing.assert_allclose(share.std(), 12**-0.5, atol=0.01)


# --- translation and cutout -----------------------------------------------------------


def test_translation_is_numpys_roll_with_zeros_where_nothing_was():
    x = images(height=6, width=9)
    got = d.translate(x, jnp.array([[2, 1], [-1, -3]]))
    want = np.roll(x[0], (1, 2), (0, 1))
    want[:1], want[:, :2] = 0, 0
    np.testing.assert_array_equal(got[0], want)
    want = np.roll(x[1], (-3, -1), (0, 1))
    want[-3:], want[:, -1:] = 0, 0
    np.testing.assert_array_equal(got[1], want)


def test_shifts_are_uniform_up_to_an_eighth_of_each_side():
    """The place of one bright pixel tells the shift: 16 / 8 rows, 24 / 8 columns."""
    x = jnp.zeros((4000, 16, 24, 1)).at[:, 8, 12].set(1.0)
    got = np.asarray(d.translation(KEY, x))[..., 0]
    _, rows, columns = np.nonzero(got)
    assert len(rows) == 4000
    for moved, reach in [(rows - 8, 2), (columns - 12, 3)]:
        shifts, counts = np.unique(moved, return_counts=True)
        np.testing.assert_array_equal(shifts, np.arange(-reach, reach + 1))
        np.testing.assert_allclose(counts / 4000, 1 / (2 * reach + 1), atol=0.03)
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.05


def test_cut_removes_a_quarter_inside_and_what_overlaps_at_the_edge():
    x = images(num=3, height=8, width=12)
    got = np.asarray(d.cut(x, jnp.array([[1, 3], [-2, 0], [6, 9]])))
    want = np.array(x)
    want[0, 1:5, 3:9] = 0
    want[1, :2, :6] = 0
    want[2, 6:, 9:] = 0
    np.testing.assert_array_equal(got, want)
    assert (got[0] == 0).mean() == 0.25


def test_squares_lie_everywhere_and_at_least_half_of_each_side_is_inside():
    x = jnp.ones((3000, 8, 8, 1))
    cut = np.asarray(d.cutout(KEY, x))[..., 0] == 0
    rows, columns = cut.any(axis=2).sum(axis=1), cut.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(cut.sum(axis=(1, 2)), rows * columns)  # rectangles
    assert set(rows) == set(columns) == {2, 3, 4}
    # 9 places a side, of which 5 are all inside
    np.testing.assert_allclose((rows == 4).mean(), 5 / 9, atol=0.04)
    share = cut.mean(axis=0)
    for turned in (share[::-1], share[:, ::-1], share.T):
        np.testing.assert_allclose(share, turned, atol=0.06)


# --- the whole ------------------------------------------------------------------------


def test_a_policy_is_a_string_or_a_tuple_and_empty_changes_nothing():
    x = images()
    np.testing.assert_array_equal(
        d.diff_augment(KEY, x, "translation, cutout"),
        d.diff_augment(KEY, x, ("translation", "cutout")),
    )
    np.testing.assert_array_equal(d.diff_augment(KEY, x, ""), x)


def test_a_kind_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(UserError, match="'cutot'; did you mean cutout"):
        d.kinds("color,cutot")


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_change_apart_and_by_themselves(channels):
    """Two equal images come out different; one does not depend on the other."""
    x = jnp.repeat(images(num=1, channels=channels), 2, axis=0)
    got = d.diff_augment(KEY, x, ALL)
    assert np.abs(got[0] - got[1]).max() > 0.1
    other = d.diff_augment(KEY, x.at[1].set(-0.3), ALL)
    np.testing.assert_array_equal(other[0], got[0])


def test_the_map_is_linear_but_for_the_brightness_and_its_gradient_is_its_slope():
    """Central differences of a map that is affine in the image are exact."""
    x, direction, weight = images(num=6).reshape(3, 2, 8, 8, 3)

    def value(x):
        return jnp.sum(weight * d.diff_augment(KEY, x, ALL))

    slope = (value(x + direction) - value(x - direction)) / 2
    got = jnp.sum(jax.grad(value)(x) * direction)
    np.testing.assert_allclose(got, slope, rtol=1e-4)
