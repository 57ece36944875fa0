"""Reads done by threads before their results are wanted, given in order."""

import os
from collections.abc import Callable

import grain
import numpy as np

# Decoding releases the GIL, and disks like several requests at a time.
_THREADS = min(16, 2 * (os.cpu_count() or 1))


def read_ahead(
    read: Callable[[int], dict[str, np.ndarray]], start: int, stop: int
) -> grain.DatasetIterator:
    """An iterator over read(start), ..., read(stop - 1), in this order.

    What read raises comes out of `next`; an iterator that has raised goes on after the
    failed item, so drop it. `close` stops the threads.
    """
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=2 * _THREADS)
    return iter(grain.MapDataset.range(start, stop).map(read).to_iter_dataset(options))
