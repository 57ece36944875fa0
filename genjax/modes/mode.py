"""The record of a mode, and what modes have in common."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from genjax import disk
from genjax.fields import Seed, Steps
from genjax.run import Run, has
from genjax.screen import say
from genjax.training import distributed
from genjax.training.metrics import to_json
from genjax.typing import Stopped

__all__ = [
    "Mode",
    "Run",
    "Trained",
    "check_labels",
    "check_stop",
    "has",
    "report",
    "say",
    "title_of",
]

OptionsT = TypeVar("OptionsT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """The flags of every mode that looks at a checkpoint; a mode adds its own."""

    step: Steps | None = None  # checkpoint to use; default: the newest
    weights: Literal["ema", "raw"] | None = None  # default: the EMA, if there is one
    seed: Seed = 0  # seed of everything that is drawn

    @property
    def suffix(self) -> str:
        """The end of file names for other weights and seeds: "", "_raw_seed1"."""
        suffix = "_raw" if self.weights == "raw" else ""
        return suffix + (f"_seed{self.seed}" if self.seed else "")


def _evaluations(run: Run, options: object) -> Path:
    """The folder of `report`."""
    del options
    return run.workdir / "evaluation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mode(Generic[OptionsT]):
    """One thing that the command line can do.

    summary: what it does, in a line. example: a command.
    options: a section (`genjax.fields`) whose fields are the mode's flags.
    needs: parts of the `Experiment` that it asks for, like "likelihood" or
        "code.encode"; a model without one is refused before data are loaded.
    models: which models have them, in words, for that refusal.
    check: raises UserError for what else can be known by then, like labels.
    writes: the folder that it will write to; one that looks at a checkpoint tries it
        before the work.
    run: does it, in all processes together.
    trained: whether it looks at a checkpoint.
    sets: fields of the config that the options stand for, like {"training.num_steps":
        9}; a mode with such options needs no --config beside --workdir.
    """

    name: str
    summary: str
    example: str
    options: type[OptionsT]
    needs: tuple[str, ...] = ()
    models: str = ""
    check: Callable[[Run, OptionsT], None] = lambda run, options: None
    writes: Callable[[Run, OptionsT], Path] = _evaluations
    run: Callable[[Run, OptionsT], None]
    trained: bool = True
    sets: Callable[[OptionsT], Mapping[str, Any]] = lambda options: {}

    def start(self, run: Run, options: OptionsT) -> None:
        """Checks that the model can do it, and does it."""
        self.check_model(run)
        self.check(run, options)
        if self.trained:
            folder = self.writes(run, options)
            name = "--out=" if getattr(options, "out", None) else "the folder "
            distributed.on_first_process(lambda: disk.check_writable(folder, name))
        self.run(run, options)

    def check_model(self, run: Run) -> None:
        """Raises UserError for a model that lacks a part of `needs`."""
        for part in self.needs:
            run.require(part, f"--mode={self.name}", self.models)


def title_of(run: Run, step: int, what: str) -> str:
    """The title of a picture: "ddpm_digits, step 2,500: 64 samples"."""
    return f"{run.workdir.name}, step {step:,}: {what}"


def check_stop(run: Run, during: str) -> None:
    """Raises Stopped if any process was asked to stop. All processes must call it."""
    if run.stop():
        raise Stopped(during)


def check_labels(run: Run, labels: tuple[int, ...] | None) -> None:
    """Raises UserError for classes that the data or the model do not have."""
    run.check_labels(labels, "--labels")


def data_and_weights(run: Run, options: Trained, weights: str) -> dict[str, Any]:
    """The first entries of a protocol. weights: those that were used."""
    return {"data": run.spec.name, "weights": weights, "seed": options.seed}


def report(
    run: Run,
    name: str,
    protocol: dict[str, Any],
    values: Mapping[str, Any],
    **more: Any,
) -> None:
    """evaluation/<name>.json: {"step", "protocol", "metrics", ...more}.

    name: with "{step}" where the step is to stand, like "{step}_latents". protocol and
    metrics are printed too; numbers that are not finite are null, and named in the
    protocol. The first process does it alone.
    """
    if not distributed.is_first():
        return
    bad = [k for k, v in values.items() if not math.isfinite(v)]
    result = {"protocol": {**protocol, "not_finite": bad}, "metrics": dict(values)}
    path = run.workdir / "evaluation" / f"{name.format(step=run.step)}.json"
    text = to_json({"step": run.step, **result, **more}, indent=2) + "\n"
    disk.write_atomically(path, text.encode())  # first: printing may fail
    print(to_json({"step": run.step, **result}, indent=2))
    say(path)
