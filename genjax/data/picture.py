"""One picture of the user's: how any file becomes 8-bit pixels of one form."""

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from genjax.data.crop import CROPS, Crop

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MODES = {"rgb": "RGB", "gray": "L"}
BACKGROUNDS = {"white": 255, "black": 0}

Source = Path | bytes  # a file, or what it holds

# 32-bit and float pictures are not among these: nobody can say which value is white.
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

# 8192 x 8192: a small file may claim to be huge, and would fill the memory.
_MAX_PIXELS = 2**26

_LYING = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112


class BadPicture(ValueError):
    """Why a picture cannot be used, in words that follow its name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """What pictures are brought to.

    mode: "RGB" or "L". background: what lies under transparency, of BACKGROUNDS.
    image_size: side of the square, cut out as `crop` of CROPS says; None: as they are.
    """

    mode: str
    background: str = "white"
    image_size: int | None = None
    crop: Crop = "square"

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.mode == "L" else 3

    def pixels(self, source: Source) -> UInt8[np.ndarray, "h w c"]:
        """The picture, brought to this form. Raises BadPicture."""
        picture = read_picture(source, self.mode, self.background)
        if self.image_size is not None:
            picture = CROPS[self.crop](picture, self.image_size)
        return np.asarray(picture).reshape(picture.height, picture.width, self.channels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """size: (width, height), upright. gray: it has no colors."""

    size: tuple[int, int]
    gray: bool


def read_picture(source: Source, mode: str, background: str) -> Image.Image:
    """The picture, upright, of its first frame, in the mode "RGB" or "L".

    Where it is transparent, the background shows through. 16 bits become 8: in PNG and
    TIFF alike 65535 is white. Raises BadPicture.
    """
    with _opened(source) as image:
        return _eight_bit(ImageOps.exif_transpose(image), background).convert(mode)


def look_at(source: Source) -> Facts:
    """What is known of a picture once it was decoded. Raises BadPicture."""
    with _opened(source) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION) in _LYING:
            width, height = height, width
        # a JPEG is read to its end, but for an eighth of the pixels: four times faster
        eighth = (max(image.width // 8, 1), max(image.height // 8, 1))
        image.draft("RGB", eighth)
        _eight_bit(image, "white").convert("RGB")
        return Facts(size=(width, height), gray=_is_gray(image))


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    """The picture, its head read and checked; all errors inside become BadPicture."""
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise BadPicture(
                    f"has {image.width} x {image.height} pixels, over 2^26"
                )
            if image.mode not in _EIGHT_BIT + _SIXTEEN_BIT:
                raise BadPicture(f"has more than 16 bits a channel (mode {image.mode})")
            yield image
    except BadPicture:
        raise
    except UnidentifiedImageError as error:
        raise BadPicture("is no picture, or damaged") from error
    except Exception as error:  # Pillow's decoders raise all sorts for damaged files
        raise BadPicture(f"cannot be decoded ({error})") from error


def _eight_bit(image: Image.Image, background: str) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:  # which Pillow would clip at 255
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    under = Image.new("RGBA", rgba.size, (BACKGROUNDS[background],) * 3 + (255,))
    return Image.alpha_composite(under, rgba).convert("RGB")


def _is_gray(image: Image.Image) -> bool:
    """By the kind of picture, or by its palette: not pixel by pixel."""
    if image.mode in ("P", "PA"):
        colors = np.array(image.getpalette("RGB")).reshape(-1, 3)
        return bool((colors == colors[:, :1]).all())
    return image.mode in ("1", "L", "LA", *_SIXTEEN_BIT)
