"""The contract: an experiment is a frozen record of pure functions.

`experiments/<name>.py` exports `make_experiment(config, spec) -> Experiment`. The
training loop knows the fields below and nothing else: it never looks inside the state,
never imports a model, never takes a gradient. The smallest fork is
`dataclasses.replace(experiment, train_step=mine)`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Generic, Literal, TypeVar

from jax.sharding import PartitionSpec

from genjax.typing import Array, Batch, Config, DataSpec, Direction, Key, Metrics

StateT = TypeVar("StateT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process(Generic[StateT]):
    """The way from data to noise and the learned way back, to look at. Pure functions.

    Frame f of F lies at times[f]; frames are like batch["image"]. Where a path lets the
    noise grow, x_t is shown divided by the standard deviation that data of variance 1
    have there. `genjax.diffusion.process.make_process` makes one.
    """

    times: tuple[float, ...]
    """From 1, the noise, falling to 0, the data."""

    forward: Callable[[StateT, Batch, Key], Array]
    """(state, batch, key) -> (F, B, *shape): noised with that which `reverse` meets."""

    reverse: Callable[..., Array]
    """(state, key, num, label=None) -> (F, num, *shape); the last are sample's."""

    invert: Callable[[StateT, Batch, Key], tuple[Array, Array]]
    """(state, batch, key) -> (F, B, *shape), twice: up the probability flow, and down
    again from where it led to, by an own fine grid of steps. Frame F - 1 of the first
    is the data, and of the second their reconstruction."""

    velocity: Callable[[StateT, Array, Array], Array] | None = None
    """(state, x (B, dim), t) -> dx/dt of the flow through points as they are shown."""


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

    # What the model can do. None: it cannot, and evaluation says so instead of failing.

    sample: Callable[..., Array] | None = None
    """(state, key, num, label=None) -> (num, *shape), like batch["image"]."""

    log_likelihood: Callable[[StateT, Batch, Key], Array] | None = None
    """(state, batch, key) -> (B,) nats; for images of the discrete pixel values."""

    likelihood_of: Literal["data", "binarized"] = "data"
    """"binarized": of images whose pixels are coins, 1 with probability their grey."""

    likelihood_kind: Literal["exact", "lower_bound", "estimate"] | None = None

    likelihood_note: str = ""
    """How it was taken (dequantisation, number of draws, ...), for the protocol."""

    likelihood_given: Literal["nothing", "label"] = "nothing"
    """"label": it is log p(x | y) with y = batch["label"], for `--mode=classify`."""

    encode: Callable[[StateT, Batch, Key], Array] | None = None
    """(state, batch, key) -> (B, D) codes."""

    decode: Callable[[StateT, Array, Key], Array] | None = None
    """(state, code, key) -> (B, *shape), like batch["image"]. A model that has no
    encode makes its samples of codes that are N(0, I)."""

    discriminate: Callable[[StateT, Array], Array] | None = None
    """(state, examples like batch["image"]) -> (B,) logits, high for data."""

    prior: Callable[[Key, int], Array] | None = None
    """(key, num) -> (num, D): codes as `sample` draws them, of a model without encode.
    """

    evaluate: Callable[[StateT, Batch, Key], Mapping[str, Array]] | None = None
    """(state, batch, key) -> named per-example values (B,), never means."""

    images: Callable[[StateT, Batch, Key], Mapping[str, Array]] | None = None
    """(state, batch, key) -> named batches like batch["image"]: reconstructions, ..."""

    translate: Callable[[StateT, Array, Direction], Array] | None = None
    """(state, images (B, H, W, C) of one domain, direction) -> as many of the other."""

    process: Process[StateT] | None = None
    """How noise becomes data, of a model that makes them step by step."""

    warm_start: Callable[[StateT], StateT] | None = None
    """Pretrained parts, put in on the host before the first step; never on resume."""

    raw_weights: Callable[[StateT], StateT] | None = None
    """The state with the trained weights in the place of their moving average."""

    sharding_rules: tuple[tuple[str, PartitionSpec], ...] = ()
    """(regular expression on a leaf's path, spec): the first match wins."""

    def __post_init__(self) -> None:
        if (self.log_likelihood is None) != (self.likelihood_kind is None):
            raise ValueError(
                "log_likelihood and likelihood_kind go together: give both or neither"
            )


MakeExperiment = Callable[[Config, DataSpec], Experiment]
"""make_experiment(config, spec): what every file in experiments/ exports."""
