"""The few types that every layer shares, and the errors that a user can cause."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
from jax.sharding import PartitionSpec

Array = jax.Array
Key = jax.Array  # a typed key, from jax.random.key
Params = Any  # a pytree of arrays, as flax's init returns it
Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]
Net = Callable[[Array, Array], Array]  # net(x, t)
Direction = Literal["a_to_b", "b_to_a"]  # between two domains
BATCH_AXES = ("data", "fsdp")  # of the mesh: those that a batch is split over


class Tensor(NamedTuple):
    """How layers are split along the mesh axis "tensor".

    rules: (regular expression on a leaf's path, spec) of the parameters.
    parts: the axis may have as many devices as divide it; 1: the layers stay whole.
    """

    rules: tuple[tuple[str, PartitionSpec], ...] = ()
    parts: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What an experiment may know of its data set.

    shape: of one example: (height, width, channels) for images, (dim,) for points, and
        (2, height, width, channels) for an image each of two domains, A and B.
    dtype: "uint8" for images with values 0 ... num_levels - 1; "float32" for points.
    num_levels: distinct pixel values: 256, or 17 for scikit-learn's digits; 0 for
        points.
    num_classes: 0 when the data set has no labels, or the two domains not the same.
    aligned: of two domains: the two images of an example of the evaluation split belong
        together, B being what a perfect translation makes of A.
    eval_sizes: of two domains that differ in size: the images of A and of B in the
        evaluation split. The shorter begins anew until the longer one ends, so values
        of `evaluate` named *_a and *_b are averaged over as many rows alone.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]
    num_levels: int
    num_train: int
    num_eval: int
    num_classes: int
    aligned: bool = False
    eval_sizes: tuple[int, ...] = ()


class UserError(ValueError):
    """A mistake that the user can mend; the message is one sentence that says how.

    The command line prints it without a traceback and exits with code 2.
    """

    exit_code = 2


class DivergedError(RuntimeError):
    """Training met too many non-finite steps in a row. Exit code 77."""

    exit_code = 77


class SaveError(RuntimeError):
    """A checkpoint could not be written, say because the disk is full. Exit code 78."""

    exit_code = 78


class Stopped(Exception):
    """A stop was asked for (signal or --max_seconds) during the work. Exit code 75."""

    exit_code = 75  # sysexits' EX_TEMPFAIL: run the same command again


class LostProcess(RuntimeError):
    """Another process of this run was killed, or its machine is gone. Exit code 75."""

    exit_code = 75

    def __init__(self) -> None:
        super().__init__(
            "another process of this run died, or one was started twice: the same "
            "command, in all processes, goes on from the last checkpoint"
        )
