"""What a person sees while a run works: lines on the standard error."""

import sys
from collections.abc import Callable

from tqdm import tqdm

Say = Callable[[object], object]


def say(what: object) -> None:
    """A line, above a progress bar if there is one."""
    tqdm.write(str(what), file=sys.stderr)
    sys.stderr.flush()


def silent(what: object) -> None:
    """Says nothing: for a library call, and for all processes but the first."""
