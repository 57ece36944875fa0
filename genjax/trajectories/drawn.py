"""What a painter gives back."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Drawn:
    """`grids.Picture`s, films of them, and numbers, by their names."""

    pictures: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    films: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
