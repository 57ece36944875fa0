"""The command line: absl flags and a config file, with one sentence for a mistake.

Everything is checked before data, devices or the run folder are touched.
"""

import dataclasses
import importlib.util
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from absl import flags
from ml_collections import ConfigDict, config_flags

from genjax.choices import nearest
from genjax.typing import Config, Direction, UserError

Weights = Literal["ema", "raw"]
MODES = (
    "train",
    "evaluate",
    "sample",
    "latents",
    "classify",
    "solvers",
    "trajectories",
    "implicit",
    "translate",
)
SECTIONS = ("data", "model", "optim", "training", "sampler", "eval", "mesh")

CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="FILE[:variant], a Python file with get_config(variant); it is run, so "
    "use only files you trust. Override any field by --config.section.field=value.",
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "run folder; default runs/<config name>[_<variant>]"
)
MODE = flags.DEFINE_enum("mode", "train", MODES, "what to do")
OVERRIDE_CONFIG = flags.DEFINE_bool(
    "override_config",
    False,
    "go on in a workdir whose stored config or data differ from the given ones",
)
MAX_SECONDS = flags.DEFINE_float(
    "max_seconds", None, "stop, save and exit with 75 after so long", lower_bound=0.0
)
STEP = flags.DEFINE_integer(
    "step", None, "all but train: checkpoint to use; default the newest"
)
WEIGHTS = flags.DEFINE_enum(
    "weights",
    None,
    ["ema", "raw", "both"],
    "all but train: the moving average of the weights, or the weights themselves; "
    "default the average where there is one; evaluate also takes both, in turn",
)
NUM_SAMPLES = flags.DEFINE_integer("num_samples", 64, "sample: how many", lower_bound=1)
LABELS = flags.DEFINE_list(
    "labels",
    None,
    "sample, evaluate, trajectories: class numbers, repeated in turn, like 3 or 0,1",
)
EXTRACTOR = flags.DEFINE_string(
    "extractor",
    None,
    "evaluate: a network in whose features samples are compared as well, and which "
    "reads the labels of samples; translate: which reads the labels of translations of "
    "the test images: mnist_lenet512_v1, fashion_mnist_lenet512_v1, "
    "cifar10_resnet18_v1, cifar10_jpeg75_resnet18_v1, inception:FILE or "
    "inception_tf1:FILE with weights of your own, or MODULE:FUNCTION, a function of "
    "your own",
)
SEED = flags.DEFINE_integer(
    "seed", 0, "all but train: random seed", lower_bound=0, upper_bound=2**32 - 1
)
OUT = flags.DEFINE_string(
    "out",
    None,
    "sample, translate: output folder; default <workdir>/generated, "
    "<workdir>/translated",
)
INPUT = flags.DEFINE_string(
    "input", None, "translate: a picture, or a folder of pictures to any depth"
)
DIRECTION = flags.DEFINE_enum(
    "direction", None, ["a_to_b", "b_to_a"], "translate: from which domain to which"
)
NUM_IMAGES = flags.DEFINE_integer(
    "num_images",
    11,
    "latents, trajectories: images in a row of their pictures",
    lower_bound=2,
)
PAIRS = flags.DEFINE_string(
    "pairs",
    None,
    'latents: test rows to interpolate between, like "3,17;5,8"; default the first of '
    "two classes each",
)
BESIDE = flags.DEFINE_string(
    "beside",
    None,
    "latents, implicit: run folder of another model, to show its codes, its curves",
)
SOLVERS = flags.DEFINE_list(
    "solvers", None, "solvers: which to compare, like ddim,heun; default all"
)
EVALUATIONS = flags.DEFINE_list(
    "evaluations",
    ["5", "10", "20", "50"],
    "solvers: how often each may evaluate the model for a sample",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "several processes, by hand: host:port of process 0"
)
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "several processes, by hand: how many"
)
PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "several processes, by hand: the number of this one, from 0"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """A checked command line; the flags above say what the fields mean."""

    config: Config
    workdir: Path
    mode: str = "train"
    override_config: bool = False
    max_seconds: float | None = None
    step: int | None = None
    weights: Weights | None = None
    both_weights: bool = False
    num_samples: int = 64
    labels: tuple[int, ...] | None = None
    extractor: str | None = None
    seed: int = 0
    out: Path | None = None
    input: Path | None = None
    direction: Direction | None = None
    num_images: int = 11
    pairs: tuple[tuple[int, int], ...] | None = None
    beside: Path | None = None
    solvers: tuple[str, ...] | None = None
    evaluations: tuple[int, ...] = (5, 10, 20, 50)
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def parse(argv: Sequence[str]) -> Options:
    """The options that argv gives.

    Raises UserError, with the nearest valid name where there is one.
    """
    location = _config_location(argv)
    if location is not None:
        _check_overrides(argv, load_config(location))
    try:
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        known = [*_own_flags(), "config"]
        raise UserError(
            f"unknown flag --{error.flagname}{nearest(error.flagname, known)}"
        ) from error
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"a config field of the wrong type: {error}") from error
    if len(rest) > 1:
        raise UserError(
            f"{rest[1]!r} is not a flag; flags are written --name=value, as in "
            "--config=configs/ddpm_digits.py"
        )
    if location is None:
        raise UserError(
            "--config is missing: name a file, as in --config=configs/ddpm_digits.py"
        )
    check_config(CONFIG.value)
    both = WEIGHTS.value == "both"
    if both and MODE.value != "evaluate":
        raise UserError(
            f"--weights=both is for --mode=evaluate; --mode={MODE.value} takes ema "
            "or raw"
        )
    return Options(
        config=CONFIG.value,
        workdir=_absolute(WORKDIR.value or _default_workdir(location)),
        mode=MODE.value,
        override_config=OVERRIDE_CONFIG.value,
        max_seconds=MAX_SECONDS.value,
        step=STEP.value,
        # DEFINE_enum holds it
        weights=None if both else cast(Weights | None, WEIGHTS.value),
        both_weights=both,
        num_samples=NUM_SAMPLES.value,
        labels=_parse_labels(LABELS.value),
        extractor=EXTRACTOR.value,
        seed=SEED.value,
        out=_absolute(OUT.value) if OUT.value else None,
        input=_absolute(INPUT.value) if INPUT.value else None,
        direction=cast(Direction | None, DIRECTION.value),  # DEFINE_enum holds it
        num_images=NUM_IMAGES.value,
        pairs=_parse_pairs(PAIRS.value),
        beside=_absolute(BESIDE.value) if BESIDE.value else None,
        solvers=tuple(name.strip() for name in SOLVERS.value or ()) or None,
        evaluations=_parse_evaluations(EVALUATIONS.value),
        coordinator=COORDINATOR.value,
        num_processes=NUM_PROCESSES.value,
        process_id=PROCESS_ID.value,
    )


def load_config(location: str) -> Config:
    """The config that FILE[:variant] gives. Raises UserError if it does not."""
    file, variant = _split(location)
    path = Path(file)
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path("configs")
        near = nearest(path.name, [p.name for p in folder.glob("*.py")])
        raise UserError(f"there is no config file {file}{near}")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        raise UserError(
            f"{file} is not a Python file: a config is one, with get_config"
        )
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        return module.get_config(variant) if variant else module.get_config()
    except SyntaxError as error:
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from error
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"{file} gives no config: {error}") from error


def check_config(config: Config) -> None:
    """Raises UserError that names every field whose value cannot be right."""
    missing = [name for name in ("experiment", "seed", *SECTIONS) if name not in config]
    if missing:
        raise UserError(f"the config lacks {', '.join(missing)}")
    positive = [
        f"training.{name}"
        for name in (
            "num_steps",
            "batch_size",
            "log_every",
            "save_every",
            "sample_every",
            "eval_every",
            "steps_per_call",
        )
    ] + ["optim.learning_rate", "eval.batch_size", "mesh.fsdp"]
    fields = flatten(config)
    problems = [
        f"{name} must be above 0, got {fields.get(name)}"
        for name in positive
        if not (isinstance(fields.get(name), int | float) and fields[name] > 0)
    ]
    problems += [
        f"{name} must be finite, got {value}"
        for name, value in fields.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if not 0 <= config.seed < 2**32:
        problems.append(f"seed must lie in 0 ... 2**32 - 1, got {config.seed}")
    if problems:
        raise UserError("; ".join(problems))


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """{"optim.learning_rate": 1e-4, ...} of a nested config."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | dict):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _default_workdir(location: str) -> str:
    """runs/<config name>[_<variant>]."""
    file, variant = _split(location)
    name = Path(file).stem + (f"_{variant}" if variant else "")
    return "runs/" + re.sub(r"[^\w.-]", "-", name)


def _parse_labels(labels: list[str] | None) -> tuple[int, ...] | None:
    if not labels:
        return None
    if not all(label.strip().isdecimal() for label in labels):
        raise UserError(
            f"--labels takes class numbers, like 3 or 0,1,2, not {','.join(labels)!r}"
        )
    return tuple(int(label) for label in labels)


def _parse_evaluations(numbers: list[str]) -> tuple[int, ...]:
    if not all(n.strip().isdecimal() and int(n) > 0 for n in numbers) or not numbers:
        raise UserError(
            "--evaluations takes numbers above 0, like 5,10,20, not "
            f"{','.join(numbers)!r}"
        )
    return tuple(int(n) for n in numbers)


def _parse_pairs(pairs: str | None) -> tuple[tuple[int, int], ...] | None:
    if not pairs:
        return None
    parsed = []
    for pair in pairs.rstrip(";").split(";"):
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", pair)
        if not match:
            raise UserError(
                f'--pairs takes pairs of test rows, like "3,17;5,8", not {pairs!r}'
            )
        parsed.append((int(match[1]), int(match[2])))
    return tuple(parsed)


def _split(location: str) -> tuple[str, str | None]:
    file, _, variant = location.partition(":")
    return file, variant or None


def _config_location(argv: Sequence[str]) -> str | None:
    """The value of --config=FILE or --config FILE."""
    for position, argument in enumerate(argv[1:], start=1):
        match = re.fullmatch(r"--?config=(.+)", argument)
        if match:
            return match[1]
        if argument in ("--config", "-config") and position + 1 < len(argv):
            return argv[position + 1]
    return None


def _check_overrides(argv: Sequence[str], config: Config) -> None:
    fields = flatten(config)
    for argument in argv[1:]:
        match = re.match(r"--?(?:no)?config\.([\w.]+)(=|$)", argument)
        if not match:
            continue
        name = match[1]
        if name in fields:
            continue
        if any(field.startswith(name + ".") for field in fields):
            raise UserError(
                f"config.{name} is a section, not a field; it has "
                + ", ".join(f for f in fields if f.startswith(name + "."))
            )
        section = name.rpartition(".")[0]
        inside = [f for f in fields if section and f.startswith(section + ".")]
        known = f"; {section} has {', '.join(inside)}" if inside else ""
        hint = nearest(name, fields, cutoff=0.8) or known or nearest(name, fields)
        raise UserError(f"unknown config field {name}{hint}")


def _own_flags() -> list[str]:
    module = flags.FLAGS.flags_by_module_dict().get(__name__, [])
    return [flag.name for flag in module]
