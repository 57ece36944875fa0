"""Configs: what a file states, completed by the defaults of its experiment's sections.

A config file has get_config(variant) -> ConfigDict, which states only what differs from
the defaults. `load` completes it: the sections below, which every config has, and those
of `Config` in experiments/<config.experiment>.py. Then every field can be overridden on
the command line, `show` prints each with its meaning, and config.json keeps them all.

Configs and experiments are Python files and are run: use only those you trust.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from genjax import fields
from genjax.choices import nearest
from genjax.experiment import Experiment
from genjax.fields import Count, Field, LocalPath, PlacePath, Seed, Share, Steps
from genjax.places import in_bucket
from genjax.sources import source_hashes
from genjax.typing import DataSpec, UserError
from genjax.variants import tiny

_CODE_HASH = "_genjax_code_hash"  # where a loaded experiment keeps its own
INSTALLED = Path(__file__).parents[1]  # beside this package: experiments/, configs/


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One of two domains of the data set "domains"."""

    name: str | None = None  # any data set of images
    dir: LocalPath | None = None  # folder of the data; None: data.dir
    train_split: str | None = None  # for TFDS: the split for training
    eval_split: str | None = None  # for TFDS: the split for evaluation
    label: int | None = None  # only the images of this class


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """The data (`genjax.data.datasets.load`). None: the default of the data set."""

    name: str = "digits"  # digits, folder, npz, hf:NAME, domains, a density, or TFDS's
    dir: PlacePath | None = None  # folder of the data, or the .npz; None: TFDS_DATA_DIR
    train_split: str | None = None  # for TFDS and hf: the split for training
    eval_split: str | None = None  # for TFDS, hf and digits: the split for evaluation
    image_size: Count | None = None  # images are cropped and resized to this side
    crop: Literal["square", "adm"] | None = None  # None: square; adm: as in ADM's code
    color: Literal["gray", "rgb"] | None = None  # of a folder and hf; None: as they are
    background: Literal["white", "black"] | None = (
        None  # under transparency; None: white
    )
    eval_fraction: Share | None = None  # of a folder, npz and hf: share held out, 0.1
    skip_bad: bool | None = None  # of a folder and hf: leave out bad pictures
    num_train: Count | None = None  # for a density and stacked_mnist: training examples
    num_eval: Count | None = None  # for a density and stacked_mnist: test examples
    seed: Steps | None = None  # for a density and stacked_mnist: seed of the draws
    in_memory: bool | None = None  # keep decoded images in memory; None: if they fit
    a: Side = Side()  # domain A of "domains"
    b: Side = Side()  # domain B, or known_map
    known_map: str | None = None  # map from A to B: inverted, rotated or edges

    def __post_init__(self) -> None:
        if self.dir is not None and in_bucket(self.dir) and self.name != "npz":
            raise UserError(
                f"config.data.dir={self.dir}: of a bucket only an .npz is read; copy "
                "the data to a disk (gcloud storage cp -r), or mount the bucket"
            )

    def options(self) -> dict[str, Any]:
        """Arguments of `genjax.data.datasets.load`; what is None is left out."""
        given = dataclasses.asdict(self)
        for side in ("a", "b"):
            given[side] = {k: v for k, v in given[side].items() if v is not None}
        return {k: v for k, v in given.items() if v not in (None, {})}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Length of training, batch size, and how often things happen, in steps."""

    num_steps: Count = 10_000  # training steps
    batch_size: Count = 64  # examples per step, over all devices
    log_every: Count = 100  # steps between lines of metrics.jsonl
    save_every: Count = 1_000  # steps between checkpoints
    sample_every: Count = 1_000  # steps between grids of samples
    eval_every: Count = 5_000  # steps between evaluations
    steps_per_call: Count = 50  # training steps in one call to the device
    keep_last: Count = 2  # number of newest checkpoints to keep
    keep_every: Count | None = None  # also keep those at multiples of this step
    keep_best_by: str | None = None  # also keep the two lowest in this metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How many examples and samples an evaluation takes."""

    batch_size: Count = 100  # test examples, or samples, at a time
    num_samples: Steps = 10_000  # samples to compare with the data; 0: none
    limit: Count | None = None  # number of test examples to use; None: all


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """How the devices share the work."""

    fsdp: Count = 1  # devices that large parameters are split over
    tensor: Count = 1  # devices that a transformer's heads and hidden units split over


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """What every config has, whichever its experiment."""

    experiment: str  # name of the file in experiments/, without .py
    seed: Seed = 0  # of the initial weights, the order of the data, and the noise
    data: Data = Data()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    mesh: Mesh = Mesh()


# --- files ----------------------------------------------------------------------------


def load(location: str) -> ConfigDict:
    """The completed config of FILE[:variant]; "ddpm_digits" is configs/ddpm_digits.py.

    Raises UserError if there is none, or if a field is not as its section says.
    """
    file, _, variant = location.partition(":")
    path = find_config(file)
    module = _run(path, f"genjax_config_{path.stem}")
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"{file} gives no config: it has no get_config(variant)")
    variants = getattr(module, "VARIANTS", {})
    if variant and variant != "tiny" and variant not in variants:
        hint = nearest(variant, variants) or f"; there are {', '.join(variants)}"
        raise UserError(f"{file} has no variant {variant!r}{hint}")
    stated = _stated(module, variant, file)
    if variant == "tiny":
        whole = flatten(complete(_stated(module, "", file), beside=path))
        stated = merged(stated, nested(tiny(whole)), variants.get("tiny", {}))
    return complete(stated, beside=path)


def _stated(module: ModuleType, variant: str, file: str) -> dict[str, Any]:
    """What get_config gives. Raises UserError if that is no config."""
    try:
        stated = module.get_config(variant) if variant else module.get_config()
    except Exception as error:  # the user's code: whatever it raises is theirs
        raise UserError(f"{file} gives no config: {_said(error)}") from error
    if not isinstance(stated, ConfigDict):
        raise UserError(f"{file} gives no config: get_config returned {stated!r}")
    return stated.to_dict()


def find_config(file: str) -> Path:
    """The path of a config file, here or among those installed. Raises UserError."""
    name = file if file.endswith(".py") else f"{file}.py"
    places = [Path(name), Path("configs", name), INSTALLED / name]
    places.append(INSTALLED / "configs" / Path(name).name)
    for place in places:
        if place.is_file():
            return place
    folder = Path(name).parent if Path(name).parent.is_dir() else INSTALLED / "configs"
    known = {p.name for f in (folder, INSTALLED / "configs") for p in f.glob("*.py")}
    hint = nearest(Path(name).name, known, cutoff=0.6)
    raise UserError(f"there is no config file {file}{hint}")


def find_experiment(name: str, beside: Path | None = None) -> ModuleType:
    """The module experiments/<name>.py, with Config and make_experiment.

    beside: a config file, in whose project it is looked for first, then here, then
    among those installed. Raises UserError if there is none.
    """
    folders = [Path.cwd() / "experiments", INSTALLED / "experiments"]
    if beside is not None:
        folders.insert(0, beside.absolute().parent.parent / "experiments")
    for folder in folders:
        path = folder / f"{name}.py"
        if name.isidentifier() and path.is_file():
            return _experiment(path)
    known = {p.stem for folder in folders for p in folder.glob("[!_]*.py")}
    hint = nearest(name, known) or f"; there are {', '.join(sorted(known))}"
    raise UserError(f"there is no experiments/{name}.py{hint}")


def code_of(name: str, beside: Path | None = None) -> dict[str, str]:
    """The hashes of experiments/<name>.py and its model (`sources.source_hashes`)."""
    file = find_experiment(name, beside).__file__
    assert file is not None
    return source_hashes(Path(file))


def _experiment(path: Path) -> ModuleType:
    """The module of the file as it is now: in a notebook it may have been edited."""
    name, digest = f"experiments.{path.stem}", hashlib.sha256(path.read_bytes())
    module = sys.modules.get(name)
    same_file = module is not None and _is_of(module, path)
    if not same_file or getattr(module, _CODE_HASH, None) not in (
        None,  # imported by someone else
        digest.hexdigest(),
    ):
        module = _run(path, name)
    assert module is not None
    setattr(module, _CODE_HASH, digest.hexdigest())
    if not callable(getattr(module, "make_experiment", None)):
        raise UserError(f"{path} is no experiment: it has no make_experiment")
    if not dataclasses.is_dataclass(getattr(module, "Config", None)):
        raise UserError(f"{path} is no experiment: it has no dataclass Config")
    return module


def _is_of(module: ModuleType, path: Path) -> bool:
    return Path(module.__file__ or "").resolve() == path.resolve()


def _run(path: Path, name: str) -> ModuleType:
    """The module of a file of the user's. Raises UserError for what it raises."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # where get_type_hints looks for a section's names
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code: whatever it raises is theirs
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        if isinstance(error, SyntaxError):
            raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
        raise UserError(f"{path} cannot be run: {_said(error)}") from error
    return module


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# --- completion -----------------------------------------------------------------------


def complete(stated: Mapping[str, Any], beside: Path | None = None) -> ConfigDict:
    """All fields of a config, nested: the stated values, and defaults for the others.

    beside: of `find_experiment`. Raises UserError for what is not as its section says.
    """
    check(stated, beside)
    config = _as_config_dict(described(stated, beside))
    config.lock()
    return config


def described(stated: Mapping[str, Any], beside: Path | None = None) -> dict[str, Any]:
    """{name: Field} of a config, nested; the defaults are the stated values."""
    common, own = _parts(stated, beside)
    found = fields.complete(Common, {k: v for k, v in stated.items() if k in common})
    return found | fields.complete(
        own, {k: stated[k] for k in stated if k not in common}
    )


def check(stated: Mapping[str, Any], beside: Path | None = None) -> tuple[Common, Any]:
    """(the common sections, the experiment's Config), every value checked."""
    if not isinstance(stated.get("experiment"), str):
        raise UserError(
            "the config does not say its experiment: experiment='ddpm', say"
        )
    common, own = _parts(stated, beside)
    mine = {name: value for name, value in stated.items() if name in common}
    theirs = {name: value for name, value in stated.items() if name not in common}
    unknown = [name for name in theirs if name not in fields.fields_of(own)]
    if unknown:
        sections = [*common, *fields.fields_of(own)]
        hint = nearest(unknown[0], sections) or f"; there are {', '.join(sections)}"
        raise UserError(f"unknown config section {unknown[0]}{hint}")
    read = fields.read(Common, mine), fields.read(own, theirs)
    _check_together(*read)
    return read


def check_used(
    config: ConfigDict, names: Iterable[str], beside: Path | None = None
) -> None:
    """Raises UserError for a field, "likelihood.draws" say, that would change nothing.

    names: of the fields that the user asks for. A section names those that its other
    fields rule out by a property `ignored`.
    """
    for part in check(config.to_dict(), beside):
        for section in dataclasses.fields(part):
            ignored = getattr(getattr(part, section.name), "ignored", {})
            for name in names:
                home, _, field = name.partition(".")
                if home == section.name and field in ignored:
                    raise UserError(
                        f"config.{name} {ignored[field]}: leave it out, or choose "
                        f"another {home}.method"
                    )


def make_experiment(
    config: ConfigDict, spec: DataSpec, beside: Path | None = None
) -> Experiment:
    """The experiment of a config. Raises UserError where it does not fit the data."""
    common, own = check(config.to_dict(), beside)
    return find_experiment(common.experiment, beside).make_experiment(own, spec)


def _parts(
    stated: Mapping[str, Any], beside: Path | None
) -> tuple[Mapping[str, Field], type]:
    own = find_experiment(stated["experiment"], beside).Config
    return fields.fields_of(Common), own


def _check_together(common: Common, own: Any) -> None:
    """What concerns a common section and one of the experiment's."""
    snapshot = getattr(getattr(own, "optim", None), "snapshot_step", 0)
    if snapshot >= common.training.num_steps:
        raise UserError(
            f"config.optim.snapshot_step={snapshot} must lie before the last step, "
            f"training.num_steps={common.training.num_steps}; 0 keeps none"
        )


def _as_config_dict(described: Mapping[str, Any]) -> ConfigDict:
    config = ConfigDict()
    for name, field in described.items():
        if isinstance(field, Mapping):
            config[name] = _as_config_dict(field)
            continue
        plain, value = fields.plain_type(field.kind), field.default
        if value is None:
            config[name] = None if plain is None else placeholder(plain)
        else:
            config[name] = float(value) if plain is float else value
    return config


def merged(base: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """base, changed as the others say in turn, section by section."""
    result = dict(base)
    for other in others:
        for name, value in other.items():
            below = result.get(name)
            if isinstance(value, Mapping) and isinstance(below, Mapping):
                value = merged(below, value)
            result[name] = value
    return result


# --- words ----------------------------------------------------------------------------


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"optim": {"learning_rate": 1e-4}} of {"optim.learning_rate": 1e-4}."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        for part in reversed(name.split(".")):
            value = {part: value}
        found = merged(found, value)
    return found


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """{"optim.learning_rate": 1e-4, ...} of a nested config."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def show(config: ConfigDict, beside: Path | None = None) -> str:
    """Every field: its value, its default, what it may be and its meaning."""
    stated = config.to_dict()
    now = flatten(described(stated, beside))
    lines = []
    required = {"experiment": stated["experiment"]}
    if "model" in stated and "backbone" in stated["model"]:
        required["model"] = {"backbone": stated["model"]["backbone"]}
    before = flatten(described(required, beside))
    for name, field in now.items():
        default = before[name].default if name in before else fields.REQUIRED
        differs = default is not fields.REQUIRED and default != field.default
        words = [f"{name} = {field.default!r}"]
        words += [f"(default {default!r})"] if differs else []
        known = fields.choices_of(field.kind)
        meaning = "; ".join(filter(None, [field.meaning, known]))
        lines.append(f"{' '.join(words):<44} {meaning}".rstrip())
    return "\n".join(lines)
