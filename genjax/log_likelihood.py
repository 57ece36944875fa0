"""log p(x) of a model: a part of the contract (`genjax.experiment`)."""

import dataclasses
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from genjax.typing import Array, Batch, Key

StateT = TypeVar("StateT")
Kind = Literal["exact", "lower_bound", "estimate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogLikelihood(Generic[StateT]):
    """log p(x) of a model, and how it was taken."""

    log_prob: Callable[[StateT, Batch, Key], Array]
    """(state, batch, key) -> (B,) nats; for images of the discrete pixel values."""

    kind: Kind

    note: str = ""
    """Dequantisation, number of draws, ..., for the protocol of a metric."""

    of: Literal["data", "binarized"] = "data"
    """"binarized": of images whose pixels are coins, 1 with probability their grey."""

    given: Literal["nothing", "label"] = "nothing"
    """"label": it is log p(x | y) with y = batch["label"], for `--mode=classify`."""
