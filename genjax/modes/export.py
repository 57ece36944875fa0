"""--mode=export: a trained model as a folder to give away.

It holds weights.safetensors, config.json and README.md, the model card with the scores
of evaluation/<step>.json (`genjax.export`). Every mode but train and implicit takes the
folder as --workdir, and `genjax.load` reads it.
"""

import dataclasses
import inspect
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from genjax import configs
from genjax.export import card, parts
from genjax.export import folder as export
from genjax.fields import PlacePath, Steps
from genjax.modes.mode import Mode, Trained, say
from genjax.places import place
from genjax.run import Run, has
from genjax.training import distributed
from genjax.training.sharding import replicated
from genjax.typing import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of --mode=export."""

    step: Steps | None = None  # checkpoint to use; default: the newest
    weights: Literal["ema", "raw"] | None = None  # default: the EMA, if there is one
    out: PlacePath | None = None  # folder; default <workdir>/exported/<step>


def check(run: Run, options: Options) -> None:
    """Raises UserError for weights or a folder that are not possible."""
    run.check_weights(options.weights)
    if run.exported is not None:
        raise UserError(f"{run.exported.folder} is an exported model: copy the folder")
    if options.out is not None:
        distributed.on_first_process(lambda: check_free(run, options))


def check_free(run: Run, options: Options) -> None:
    """Raises UserError for a folder that holds anything but this export."""
    path = folder_of(run, options)
    try:
        path.mkdir(parents=True, exist_ok=True)
        held = any(path.iterdir())
    except OSError as error:
        raise UserError(f"{path} cannot be made: {error.strerror}") from error
    about = {"step": run.step, "weights": run.state(options.weights)[1]}
    if held and not export.same_export(path, run.config.to_dict(), about):
        raise UserError(f"{path} holds other files: name an empty folder by --out")


def folder_of(run: Run, options: Options) -> Path:
    """--out, or a folder in the run's."""
    if options.out is not None:
        return place(options.out, "--out")
    return run.workdir / "exported" / f"{run.step}{suffix_of(options)}"


def suffix_of(options: Options) -> str:
    """The end of file names for other weights."""
    return Trained(weights=options.weights).suffix


def write(run: Run, options: Options) -> None:
    """Writes the folder. All processes gather the weights, the first one writes."""
    state, weights = run.state(options.weights)
    named = parts.exported(state, run.experiment.training_only)
    gather = jax.jit(lambda x: x, out_shardings=replicated(run.compiled.mesh))
    arrays = {name: np.asarray(x) for name, x in gather(named).items()}
    if not distributed.is_first():
        return
    check_free(run, options)
    path, config = folder_of(run, options), run.config.to_dict()
    config["data"]["dir"] = None  # where the data lie on this machine
    export.write(
        path,
        arrays,
        config,
        card_of(run, options, arrays, path),
        step=run.step,
        weights=weights,
        spec=run.spec,
        fingerprint=run.trained_on,
        code=run.code,
    )
    size = sum(x.nbytes for x in arrays.values())
    say(f"step {run.step}: {weights} weights, {size:,} bytes, in {path}")


def card_of(
    run: Run, options: Options, arrays: dict[str, np.ndarray], path: Path
) -> str:
    """The model card, with the scores that the run has of these weights."""
    weights = run.state(options.weights)[1]
    kind = "the moving average" if weights == "ema" else "as trained, not averaged"
    module = configs.find_experiment(run.settings.experiment, run.beside)
    scores = run.workdir / "evaluation" / f"{run.step}{suffix_of(options)}.json"
    return card.write_card(
        name=run.workdir.name,
        folder="/".join(path.parts[-2:]),
        experiment=run.settings.experiment,
        code=Path(inspect.getfile(module)),
        spec=run.spec,
        weights=f"step {run.step}, {kind}",
        num_parameters=sum(x.size for n, x in arrays.items() if "params/" in n),
        can=next((part for part in card.CALLS if has(run.experiment, part)), None),
        scores=card.scores_in_words({f"Of step {run.step}:": scores}),
    )


MODE = Mode(
    name="export",
    summary="write a trained model as a folder: safetensors, config, model card",
    example="python launch.py --workdir=runs/ddpm_digits --mode=export",
    options=Options,
    check=check,
    writes=folder_of,
    run=write,
)
