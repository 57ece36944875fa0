"""What the painters draw: a trained model's process, and some of the test examples."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any

import jax
import numpy as np

from genjax.data.pipeline import eval_batches
from genjax.diffusion.process import Process
from genjax.fields import Range, Steps
from genjax.modes.mode import Trained, check_stop, data_and_weights, title_of
from genjax.pictures.frame import framed
from genjax.run import Run
from genjax.streams import Stream, stream_key
from genjax.training.sharding import batch_sharding, replicated
from genjax.typing import Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Trained):
    """The flags of --mode=trajectories."""

    labels: tuple[Steps, ...] | None = None  # classes of the samples, like 3 or 0,1
    num_images: Annotated[int, Range(2)] = 11  # images in a row of the pictures


@dataclasses.dataclass(frozen=True)
class Result:
    """`grids.Picture`s, films of them, and numbers, by their names."""

    pictures: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    films: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A trained model and its process.

    key: all draws come from it. protocol: filled as the work is done.
    """

    run: Run
    options: Options
    state: Any
    process: Process
    key: Key
    protocol: dict[str, Any]

    def compiled(
        self, function: Callable[..., Any], *, static: tuple[int, ...] = ()
    ) -> Callable[..., Any]:
        """function(state, ...) without the state, jitted, and its result as numpy.

        static: places of its arguments, the state's being 0.
        """
        whole = replicated(self.run.compiled.mesh)
        jitted = jax.jit(function, static_argnums=static, out_shardings=whole)
        return lambda *inputs: jax.tree.map(np.asarray, jitted(self.state, *inputs))

    def reverse(self, num: int) -> np.ndarray:
        """(F, num, *shape): frames of samples, with --labels if there are any.

        `num` samples are the same at every call, and other than num + 1.
        """
        labels = self.options.labels
        given = () if labels is None else (np.resize(np.array(labels, np.int32), num),)
        key = jax.random.fold_in(self.key, num)
        return self.compiled(self.process.reverse, static=(2,))(key, num, *given)

    def test_examples(self, num: int) -> tuple[dict[str, Any], int]:
        """(a batch of evaluation.batch_size rows, how many of them to draw).

        Those are at most num test examples, evenly spaced.
        """
        split, size = self.run.dataset.eval, self.run.settings.evaluation.batch_size
        num = min(num, len(split), size)
        rows = np.arange(num) * len(split) // num
        batches = eval_batches(
            split,
            batch_size=size,
            sharding=batch_sharding(self.run.compiled.mesh),
            rows=rows,
        )
        batch, _ = next(iter(batches))
        return batch, num

    @functools.cached_property
    def times(self) -> np.ndarray:
        """The times of the frames, falling."""
        return self.process.times(self.state)

    def spread(self, num: int) -> np.ndarray:
        """At most num frames, evenly among the steps, from the first to the last."""
        last = len(self.times) - 1
        return np.unique(np.linspace(0, last, num).round().astype(int))

    def titled(self, picture: np.ndarray, frame: int | np.integer) -> np.ndarray:
        """A picture of a film, below the time of its frame."""
        # As many letters in each frame: a film's pictures are of one size.
        what = f"samples at t = {self.times[frame]:6.2f}"
        return framed(picture, title_of(self.run, self.run.step, what))

    def check_stop(self) -> None:
        """Raises Stopped if it was asked for."""
        check_stop(self.run, "while drawing the trajectories")


def make_scene(run: Run, options: Options) -> Scene:
    """The scene of the checkpoint."""
    model = run.experiment.diffusion
    assert model is not None
    state, weights = run.state(options.weights)
    protocol = data_and_weights(run, options, weights) | {
        "sampler": model.sampler.name,
        "num_steps": model.sampler.num_steps,
        "not_available": {},
        "pictures": {},
    }
    if model.sampler.name == "adaptive":
        protocol["sampler"] = "ddim in the place of adaptive, which has no fixed steps"
    key = stream_key(options.seed, Stream.TRAJECTORIES)
    return Scene(run, options, state, Process(model), key, protocol)
