"""--mode=import: DDPM's U-Net as diffusers stores it, written as an exported model.

    python launch.py --mode=import --config=ddpm_cifar --input=D --workdir=runs/google

--input is a folder with config.json and diffusion_pytorch_model.safetensors, or that
file. The config says the data, the sampler and the evaluation; the network and its
schedule are those of the folder. Every mode then takes --workdir=runs/google.
"""

import dataclasses
import inspect
from pathlib import Path

import numpy as np

from genjax import configs
from genjax.export import card, diffusers, parts
from genjax.export import folder as export
from genjax.fields import LocalPath
from genjax.modes.mode import Mode, say
from genjax.places import place
from genjax.run import Run, load
from genjax.training import distributed
from genjax.typing import DataSpec, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of --mode=import."""

    input: LocalPath | None = None  # diffusers' folder, or its .safetensors


def from_diffusers(path: str | Path, config: str, workdir: str | Path) -> Run:
    """The weights of a folder that diffusers wrote, as a run: written to `workdir`.

    path: the folder, or its .safetensors file. config: a name like "ddpm_cifar", for
    the data, the sampler and the evaluation. Raises UserError for a pickle, damage, and
    a network that is not DDPM's.
    """
    beside = configs.find_config(config.partition(":")[0])
    home = place(workdir, "workdir")
    write(Run(home, configs.load(config), beside=beside), Options(input=str(path)))
    return load(home)


def check(run: Run, options: Options) -> None:
    """Raises UserError for a folder that is in use, and weights that are not there."""
    if options.input is None:
        raise UserError("--mode=import needs --input=FOLDER, as diffusers writes it")
    diffusers.find(Path(options.input).expanduser())
    held = ("checkpoints", "config.json", export.WEIGHTS)
    if any((run.workdir / name).exists() for name in held):
        raise UserError(f"{run.workdir} holds a run: name another folder by --workdir")
    if run.settings.experiment != "ddpm":
        raise UserError(
            "--mode=import needs a config of experiments/ddpm.py, like ddpm_cifar, and "
            f"this one is of experiments/{run.settings.experiment}.py"
        )


def write(run: Run, options: Options) -> None:
    """Writes the folder, once all its arrays have found their place."""
    check(run, options)
    found = diffusers.read(Path(options.input or "").expanduser().absolute())
    spec = spec_of(run, found)
    # the file holds one set of weights, whether they are averages or not
    own = {"optim": {"ema_decay": None, "snapshot_step": 0}}
    changed = configs.merged(run.config.to_dict(), own, found.changes)
    config = configs.complete(changed, run.beside)
    model = Run(run.workdir, config, beside=run.beside, spec=spec)
    arrays = {**found.arrays, "step": np.int32(0)}
    try:
        parts.restored(arrays, model.compiled.abstract_state)
    except UserError as error:
        raise UserError(f"{found.file}: {error}") from error
    if not distributed.is_first():
        return
    config_as_given = config.to_dict()
    config_as_given["data"]["dir"] = None  # where the data lie on this machine
    export.write(
        run.workdir,
        arrays,
        config_as_given,
        card_of(model, found),
        step=0,
        weights="raw",
        spec=spec,
        code=model.code,
    )
    count = sum(x.size for x in found.arrays.values())
    say(f"{count:,} parameters of {found.file}, in {run.workdir}")


def spec_of(run: Run, found: diffusers.Pretrained) -> DataSpec:
    """That of the config's data; where they are not at hand, of the model's images.

    Raises UserError if the two do not fit.
    """
    name = run.settings.data.name
    try:
        spec = run.dataset.spec
    except UserError as error:
        if found.shape is None:
            raise
        say(f"{name} cannot be loaded, so samples cannot be compared with it: {error}")
        return DataSpec(
            name=name,
            shape=found.shape,
            dtype="uint8",
            num_levels=256,
            num_train=0,
            num_eval=0,
            num_classes=0,
        )
    if found.shape not in (None, spec.shape):
        raise UserError(
            f"{found.file} makes images of shape {found.shape}, and {spec.name} has "
            f"{spec.shape}: choose other data by --config.data.name"
        )
    return spec


def card_of(model: Run, found: diffusers.Pretrained) -> str:
    """The model card of what was imported."""
    module = configs.find_experiment(model.settings.experiment, model.beside)
    return card.write_card(
        name=model.workdir.name,
        folder="/".join(model.workdir.parts[-2:]),
        experiment=model.settings.experiment,
        code=Path(inspect.getfile(module)),
        spec=model.spec,
        weights=f"those of diffusers' {found.file.parent.name}/{found.file.name}",
        num_parameters=sum(x.size for x in found.arrays.values()),
        can="sample",
        scores="Not evaluated here.",
    )


MODE = Mode(
    name="import",
    summary="DDPM's U-Net as diffusers stores it, written as an exported model",
    example="python launch.py --mode=import --config=ddpm_cifar "
    "--input=ddpm-cifar10-32 --workdir=runs/google",
    options=Options,
    check=check,
    run=write,
    trained=False,
)
