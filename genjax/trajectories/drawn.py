"""What a painter gives back."""

import dataclasses

from genjax.train.grids import Picture


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Pictures, films and numbers by their names."""

    pictures: dict[str, Picture] = dataclasses.field(default_factory=dict)
    films: dict[str, list[Picture]] = dataclasses.field(default_factory=dict)
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
