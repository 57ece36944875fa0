"""The streams of random keys: one for each use, so that no two uses share a draw."""

import enum

import jax

from genjax.typing import Array, Key


@enum.unique
class Stream(enum.IntEnum):
    """What a key is for. Numbers are for ever: a new use takes a new one."""

    INIT = 0
    TRAIN = 1
    PICTURES = 2  # while training
    EVALUATE = 3
    LATENTS = 4
    CLASSIFY = 5
    SOLVERS = 6
    TRAJECTORIES = 7
    SAMPLE = 8
    LIKELIHOOD = 9  # of `Run.log_likelihood`
    CODE = 10  # of `Run.encode` and `Run.decode`


def stream_key(seed: int | Array, stream: Stream) -> Key:
    """The key of a seed for one use."""
    return jax.random.fold_in(jax.random.key(seed), stream)
