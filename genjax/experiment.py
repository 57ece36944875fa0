"""The contract: an experiment is a frozen record of pure functions.

`experiments/<name>.py` exports `Config`, the sections that its config has beside those
of every config (`genjax.configs`), and `make_experiment(config, spec) -> Experiment`.
The training loop knows the fields below and nothing else: it never looks inside the
state, never imports a model, never takes a gradient. The smallest fork is
`dataclasses.replace(experiment, train_step=mine)`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from jax.sharding import PartitionSpec

from genjax.diffusion.model import DiffusionModel
from genjax.log_likelihood import LogLikelihood as LogLikelihood
from genjax.typing import Array, Batch, DataSpec, Direction, Key, Metrics

StateT = TypeVar("StateT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Code(Generic[StateT]):
    """A latent code of each example, and the example of a code.

    A model without `encode` has a `prior`; one with `encode` may have it too.
    """

    decode: Callable[[StateT, Array, Key], Array]
    """(state, code, key) -> (B, *shape), like batch["image"]."""

    encode: Callable[[StateT, Batch, Key], Array] | None = None
    """(state, batch, key) -> (B, D) codes."""

    prior: Callable[[Key, int], Array] | None = None
    """(key, num) -> (num, D): codes as `sample` draws them."""

    def __post_init__(self) -> None:
        if self.encode is None and self.prior is None:
            raise ValueError("a Code needs an encoder or a prior: where is it from?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Generic[StateT]):
    """One generative model and how to train it. All fields are pure functions.

    A batch is {"image": as the DataSpec says, "label": (B,) int32, "index": (B,) int32,
    the row in the data set}. Step i receives fold_in(train_key, i): no key lives in the
    state.
    """

    init: Callable[[Key], StateT]
    """A pytree of arrays whose shapes and dtypes hold for the whole run."""

    train_step: Callable[[StateT, Batch, Key], tuple[StateT, Metrics]]
    """The same tree out as in, and scalar float32 metrics.

    A step with a non-finite metric is discarded whole, so report the norm of every
    gradient that is taken.
    """

    # What the model can do. None: it cannot, and a mode that needs it says so.

    sample: Callable[..., Array] | None = None
    """(state, key, num, label=None) -> (num, *shape), like batch["image"]."""

    likelihood: LogLikelihood[StateT] | None = None

    code: Code[StateT] | None = None

    diffusion: DiffusionModel | None = None
    """Of a model that makes data of noise step by step: its denoiser, path, sampler."""

    discriminate: Callable[[StateT, Array], Array] | None = None
    """(state, examples like batch["image"]) -> (B,) logits, high for data."""

    evaluate: Callable[[StateT, Batch, Key], Mapping[str, Array]] | None = None
    """(state, batch, key) -> named per-example values (B,), never means."""

    images: Callable[[StateT, Batch, Key], Mapping[str, Array]] | None = None
    """(state, batch, key) -> named batches like batch["image"]: reconstructions, ..."""

    translate: Callable[[StateT, Array, Direction], Array] | None = None
    """(state, images (B, H, W, C) of one domain, direction) -> as many of the other."""

    warm_start: Callable[[StateT], StateT] | None = None
    """Pretrained parts, put in on the host before the first step; never on resume."""

    raw_weights: Callable[[StateT], StateT] | None = None
    """The state with the trained weights in the place of their moving average."""

    sharding_rules: tuple[tuple[str, PartitionSpec], ...] = ()
    """(regular expression on a leaf's path, spec): the first match wins."""

    tensor_parts: int = 1
    """The rules split layers along the mesh axis "tensor", over as many devices as
    divide this; 1: they do not."""

    training_only: tuple[str, ...] = ()
    """Regular expressions on the paths of leaves that only `train_step` reads, beside
    those of a `TrainState`. An exported model does without them."""


MakeExperiment = Callable[[Any, DataSpec], Experiment]
"""make_experiment(config, spec): the same file's Config and the data's DataSpec."""
