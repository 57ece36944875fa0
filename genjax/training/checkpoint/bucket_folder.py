"""The folder that the steps lie in, in a bucket, where nothing can be renamed.

<step>/...                    the objects of a step, as Orbax writes them
<step>/commit_success.txt     written last: the step is whole
<step>/CORRUPT                the step failed its check, and is not tried again
corrupt-<step>/               where the next run that writes moves such a step
"""

import json
import logging

from genjax.places.bucket import BucketPath, each, prepare, remove
from genjax.training.checkpoint.folder import ASIDE, STEP

_log = logging.getLogger(__name__)

COMMITTED = "commit_success.txt"  # Orbax's name
CORRUPT = "CORRUPT"


class BucketFolder:
    """A `genjax.training.checkpoint.folder.Folder`. All may raise BucketError."""

    aside = (
        f"marked by an object <step>/{CORRUPT}, or kept as corrupt-<step>: delete it"
    )
    # It removes objects in any order, so that half a step could look whole.
    orbax_discards = False

    def __init__(self, path: BucketPath):
        prepare()
        self.path = path

    def entries(self) -> list[int]:
        """The steps that are whole and are not marked."""
        return [step for step in self._steps() if self.is_committed(step)]

    def is_committed(self, step: int) -> bool:
        """Whether Orbax wrote that it is, and nothing says that it is damaged."""
        names = self._names(str(step))
        return COMMITTED in names and CORRUPT not in names

    def leftovers(self) -> list[str]:
        """Steps of which the end is missing, and marked ones that must make room."""
        return [str(step) for step in self._steps() if not self.is_committed(step)]

    def remove(self, name: str) -> None:
        """Removes the objects of an unfinished step; moves a marked one away."""
        names = self._names(name)
        if CORRUPT in names:
            self._move(int(name))
        elif COMMITTED not in names:
            _log.warning(
                "checkpoint %s in %s was never finished: removed", name, self.path
            )
            remove((self.path / name).objects())

    def discard(self, step: int) -> None:
        """Removes its objects, first the one that says that it is whole."""
        home = self.path / str(step)
        (home / COMMITTED).unlink(missing_ok=True)
        remove(home.objects())

    def name_aside(self, step: int) -> str:
        """<step>/CORRUPT: a reader need not copy the step to set it aside."""
        return f"{step}/{CORRUPT}"

    def set_aside(self, step: int, target: str, reason: str) -> None:
        """Writes the marker."""
        said = json.dumps({"step": step, "reason": reason})
        (self.path / target).write_text(said + "\n")

    def has_aside(self) -> bool:
        """Whether one was marked or moved."""
        moved = any(path.name.startswith(ASIDE) for path in self.path.iterdir())
        return moved or any(CORRUPT in self._names(str(s)) for s in self._steps())

    def read_through(self, step: int) -> None:
        """Reads every object of the step."""
        each(lambda path: path.read_bytes(), (self.path / str(step)).objects())

    def _steps(self) -> list[int]:
        names = {path.name for path in self.path.iterdir()}
        return sorted(int(name) for name in names if STEP.fullmatch(name))

    def _names(self, name: str) -> set[str]:
        return {path.name for path in (self.path / name).iterdir()}

    def _move(self, step: int) -> None:
        """To a name of its own; a move that was cut short goes on at the next call."""
        source, number = self.path / str(step), 1
        target = self.path / f"{ASIDE}{step}"
        while CORRUPT in self._names(target.name):  # it arrives last
            number += 1
            target = self.path / f"{ASIDE}{step}-{number}"

        def move(path: BucketPath) -> None:
            path.copy_to(target / path.relative_to(source))
            path.unlink(missing_ok=True)

        marker = source / CORRUPT
        each(move, [path for path in source.objects() if path != marker])
        move(marker)
