"""A title above a picture, and names along its rows and columns."""

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from genjax.pictures.grids import Picture

SIZE = 18  # pixels of a letter's height: still read at half of it
LINE = 26  # pixels between two lines
GAP = 8  # pixels between words and picture


def framed(
    picture: Picture,
    title: str,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture on white, with its title; as wide as before, or a little wider.

    rows, columns: names for equal parts of it, from the top and from the left; none:
        no names. Those of columns that are too narrow for them are shortened.
    """
    from PIL import Image, ImageDraw, ImageFont  # late: they take a while to import

    font = ImageFont.load_default(SIZE)
    height, width, _ = picture.shape
    left = int(max((font.getlength(name) + GAP for name in rows), default=0))
    per_line = max(1, int((left + width) / font.getlength("n")))
    lines = textwrap.wrap(title, per_line)
    top = LINE * (len(lines) + bool(columns)) + GAP
    sheet = Image.new("RGB", (left + width, top + height), "white")
    sheet.paste(Image.fromarray(picture), (left, top))
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((GAP / 2, GAP / 2 + i * LINE), line, fill="black", font=font)
    for i, name in enumerate(columns):
        place = (left + (i + 0.5) * width / len(columns), top - GAP / 2)
        while name and font.getlength(name) > width / len(columns) - GAP / 2:
            name = name[:-1]
        draw.text(place, name, fill="black", font=font, anchor="mb")
    for i, name in enumerate(rows):
        place = (left - GAP / 2, top + (i + 0.5) * height / len(rows))
        draw.text(place, name, fill="black", font=font, anchor="rm")
    return np.asarray(sheet)
