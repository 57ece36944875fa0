"""One picture: kinds, transparency, 16 bits, and the two crops."""

import io

import numpy as np
import pytest
from PIL import Image

from genjax.data.crop import adm_square, center_square
from genjax.data.picture import Form, look_at


def stored(image: Image.Image, kind: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(source: bytes, mode: str = "RGB", **form) -> np.ndarray:
    return Form(mode=mode, **form).pixels(source)


COLORS = np.array([[[200, 40, 90], [10, 220, 30]]], np.uint8).repeat(3, 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L", "LA", "1", "I;16"])
def test_every_kind_is_read_as_what_it_shows(mode):
    """Against the same pixels of a plain picture; those without color are gray."""
    gray = mode in ("L", "LA", "1", "I;16")
    values = COLORS.mean(-1).astype(np.uint8) if gray else COLORS
    if mode == "1":
        values = 255 * (values > 100).astype(np.uint8)
    shown = Image.fromarray(values)
    if mode == "I;16":
        content = stored(Image.fromarray(values.astype(np.uint16) * 257))
    else:
        image = shown.convert(mode, palette=Image.Palette.ADAPTIVE)
        content = stored(image, "tiff" if mode == "CMYK" else "png")
    np.testing.assert_array_equal(pixels(content), np.asarray(shown.convert("RGB")))
    facts = look_at(content)
    assert facts.gray == gray and facts.size == (2, 3)


def test_sixteen_bits_are_rounded_to_the_nearest_of_eight():
    values = np.arange(0, 65536, 37, dtype=np.uint16)[None]
    found = pixels(stored(Image.fromarray(values)), "L")[0, :, 0]
    np.testing.assert_array_equal(found, np.round(values[0] / 257))


def test_a_gray_palette_is_gray():
    gray = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).convert("P")
    assert look_at(stored(gray)).gray
    gray.putpalette([0, 0, 0, 1, 2, 3])
    assert not look_at(stored(gray)).gray


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
@pytest.mark.parametrize(("background", "under"), [("white", 255), ("black", 0)])
def test_the_background_shows_through(mode, background, under):
    """Hidden pixels are of another gray than the background; the middle is there."""
    image = Image.fromarray(np.full((6, 6), 77, np.uint8))
    alpha = np.zeros((6, 6), np.uint8)
    alpha[2:4] = 255
    options = {}
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(alpha))
    else:  # one value stands for "nothing here"
        values = np.where(alpha, 77, 50).astype(np.uint8)
        image = Image.fromarray(values).convert(mode)
        options = {"transparency": 50}
        if mode == "P":
            image.putpalette([i for v in range(256) for i in (v, v, v)])
    found = pixels(stored(image, **options), "L", background=background)[..., 0]
    np.testing.assert_array_equal(found, np.where(alpha, 77, under))


def test_half_transparent_is_half_of_each():
    image = Image.new("RGBA", (2, 2), (200, 0, 100, 128))
    found = pixels(stored(image))[0, 0].astype(float)
    share = 128 / 255
    expected = share * np.array([200, 0, 100]) + (1 - share) * 255
    np.testing.assert_allclose(found, expected, atol=1)


def test_a_jpeg_cut_short_is_bad_though_only_an_eighth_is_decoded():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    whole = stored(image, "jpeg")
    assert look_at(whole).size == (64, 64)
    with pytest.raises(ValueError, match="cannot be decoded"):
        look_at(whole[: len(whole) * 3 // 4])


def test_a_lying_picture_has_its_upright_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = stored(Image.new("RGB", (8, 4)), "jpeg", exif=exif)
    assert look_at(content).size == (4, 8) and pixels(content).shape == (8, 4, 3)


# --- ADM's crop -----------------------------------------------------------------------


def test_adm_halves_by_boxes_before_anything_else():
    """A square of 4 times the size: only means over 4 x 4 boxes, twice 2 x 2."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32), np.uint8)
    found = np.asarray(adm_square(Image.fromarray(image), 8)).astype(float)
    boxes = image.reshape(8, 4, 8, 4).mean((1, 3))
    np.testing.assert_allclose(found, boxes, atol=2)  # four times rounded
    bicubic = np.asarray(center_square(Image.fromarray(image), 8)).astype(float)
    assert abs(bicubic - boxes).max() > 10  # the other crop does not


def test_adm_crops_after_it_has_resized():
    """A ramp of 300 x 100 to 40: 150 x 50, then 120 x 40, and its columns 40 ... 79."""
    ramp = np.tile(np.linspace(0, 255, 300), (100, 1)).astype(np.uint8)
    found = np.asarray(adm_square(Image.fromarray(ramp), 40)).astype(float)
    assert found.shape == (40, 40)
    centers = (np.arange(40, 80) + 0.5) * 300 / 120 - 0.5
    np.testing.assert_allclose(found[20], centers * 255 / 299, atol=1.5)


def test_adm_does_not_halve_below_twice_the_size():
    """63 pixels are less than 2 x 32, so it is one bicubic step."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (63, 63, 3), np.uint8))
    expected = image.resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(adm_square(image, 32), expected)
