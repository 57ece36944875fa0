"""The changes of size that the data layer makes: any picture to a square."""

from collections.abc import Callable, Mapping
from typing import Literal

from PIL import Image

Crop = Literal["square", "adm"]


def center_square(image: Image.Image, size: int) -> Image.Image:
    """The largest centered square, resized to size x size.

    Bicubic; Pillow widens the filter when it shrinks, so nothing aliases (most tensor
    libraries do not: Parmar et al. 2022, arXiv:2104.11222).
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    # Not resize(box=...): its filter would reach over the edge of the box.
    square = image.crop((left, top, left + side, top + side))
    if side == size:
        return square
    return square.resize((size, size), Image.Resampling.BICUBIC)


def adm_square(image: Image.Image, size: int) -> Image.Image:
    """The square that ADM trains on (Dhariwal & Nichol 2021, arXiv:2105.05233).

    The released code resizes first and crops then: both sides are halved, each pixel
    the mean of a 2 x 2 box, while the shorter one has 2 size pixels or more; a bicubic
    step brings the shorter one to size; of the longer one the middle is kept. Published
    reference statistics of ImageNet are of such squares.
    """
    while min(image.size) >= 2 * size:
        halved = (image.width // 2, image.height // 2)
        image = image.resize(halved, Image.Resampling.BOX)
    scale = size / min(image.size)
    scaled = (round(image.width * scale), round(image.height * scale))
    image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


CROPS: Mapping[str, Callable[[Image.Image, int], Image.Image]] = {
    "square": center_square,
    "adm": adm_square,
}
"""By name, (picture, size) -> picture of size x size."""
