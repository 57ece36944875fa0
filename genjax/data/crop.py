"""The one change of size that the data layer makes."""

from PIL import Image


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
