"""Agreement between the processes of a run; with one process nothing is exchanged."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def barrier(name: str) -> None:
    """Wait until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def largest(value: int) -> int:
    """The largest of what the processes give."""
    if jax.process_count() == 1:
        return value
    return int(np.max(multihost_utils.process_allgather(np.array(value, np.int32))))


def on_all_processes(flag: bool) -> bool:
    """Whether all processes say so."""
    return largest(int(not flag)) == 0


def as_process_0_sees(steps: list[int]) -> list[int]:
    """A shared folder may look different for a moment; all must try the same steps."""
    if jax.process_count() == 1:
        return steps
    count = int(multihost_utils.broadcast_one_to_all(np.array(len(steps))))
    padded = np.zeros(count, np.int32)
    padded[: len(steps)] = steps[:count]
    return [int(s) for s in multihost_utils.broadcast_one_to_all(padded)]
