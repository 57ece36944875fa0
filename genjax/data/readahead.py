"""Reads done by threads before their results are wanted, given in order."""

import os
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np

# Decoding releases the GIL, and disks like several requests at a time.
_THREADS = min(16, 2 * (os.cpu_count() or 1))


@runtime_checkable
class Ahead(Protocol):
    """An iterator over dicts of arrays, to be closed before its end if need be."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...

    def __next__(self) -> dict[str, np.ndarray]: ...

    def close(self) -> object:
        """Stops what runs in the background."""
        ...


def map_now(read: Callable[[int], dict[str, np.ndarray]], num: int) -> Ahead:
    """read(0), ..., read(num - 1) as they are asked for: of rows in memory."""
    return (read(i) for i in range(num))


def read_ahead(
    read: Callable[[int], dict[str, np.ndarray]], start: int, stop: int
) -> Ahead:
    """An iterator over read(start), ..., read(stop - 1), in this order.

    What read raises comes out of `next`; an iterator that has raised goes on after the
    failed item, so drop it. `close` stops the threads.
    """
    import grain  # late: it takes half a second, and only data on disk need it

    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=2 * _THREADS)
    return iter(grain.MapDataset.range(start, stop).map(read).to_iter_dataset(options))
