"""The command line: flags, a config, and one sentence for a mistake.

    python launch.py --config=FILE[:variant] --mode=MODE --config.section.field=value

The config's fields and the flags of a mode are both sections (`genjax.fields`), and a
text is read as the field that it is for. All of it is checked before data, devices or
the run folder are touched.
"""

import ast
import dataclasses
import hashlib
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genjax import configs, fields, sources
from genjax.choices import nearest
from genjax.data import datasets
from genjax.export import folder as export
from genjax.fields import Count, Field, LocalPath, NonNegative, PlacePath, Steps
from genjax.modes.mode import Mode
from genjax.modes.table import MODES, find_mode
from genjax.places import place
from genjax.run import Run, check_trained
from genjax.screen import say
from genjax.training import compile, distributed
from genjax.training import workdir as folder
from genjax.training.stop import StopRequest
from genjax.typing import UserError

EXAMPLE = "python launch.py --config=configs/ddpm_digits.py"
HELP = ("--help", "-h", "-help")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of every mode, beside --config.section.field."""

    config: LocalPath | None = None  # FILE[:variant], or a name like ddpm_digits:tiny
    workdir: PlacePath | None = (
        None  # of a run or exported model, or trained/<name>; default runs/<config>
    )
    mode: str = "train"  # what to do
    override_config: bool = False  # go on where the stored config or data differ
    max_seconds: NonNegative | None = None  # stop, save and exit with 75 after so long
    coordinator: str | None = None  # several processes, by hand: host:port of the first
    num_processes: Count | None = None  # several processes, by hand: how many
    process_id: Steps | None = None  # several processes, by hand: this one's, from 0
    join_seconds: Count = 50  # several processes: how long to wait until all are there


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandLine:
    """A checked command line. options: of the mode. beside: the config's file.

    place: where a trained model is read, `workdir` but for one of the package's.
    """

    config: ConfigDict
    workdir: Path
    place: Path
    mode: Mode
    options: Any
    flags: Flags
    beside: Path | None = None

    def start(self) -> None:
        """Does it, alone or together with other processes."""
        flags = self.flags
        with distributed.joined(
            flags.coordinator,
            flags.num_processes,
            flags.process_id,
            join_seconds=flags.join_seconds,
        ) as agreement:
            if agreement is not None:
                agreement.on("command", self.facts())
                if not self.mode.trained:  # it makes the folder
                    agreement.on_folder(self.workdir)
            compile.use_persistent_cache()
            with StopRequest(flags.max_seconds) as stop:
                self.mode.start(self.open(stop), self.options)

    def facts(self) -> dict[str, Any]:
        """What all processes of a run must have in common."""
        stored = self.place / "config.json"
        digest = (
            hashlib.sha256(stored.read_bytes()).hexdigest() if stored.exists() else None
        )
        config = configs.flatten(self.config.to_dict())
        experiment = configs.code_of(str(self.config.experiment), self.beside)
        code = {**sources.library_hashes(), **experiment}
        options = fields.fields_of(type(self.options))
        return {
            "--mode": self.mode.name,
            **{f"config.{name}": value for name, value in config.items()},
            "--override_config": self.flags.override_config,
            **{f"--{name}": getattr(self.options, name) for name in options},
            **sources.versions(),
            **{f"the code of {name}": text[:12] for name, text in code.items()},
            "config.json in the workdir": digest,
        }

    def open(self, stop: Callable[[], bool] = lambda: False) -> Run:
        """The run; of a mode that looks at a checkpoint, one that was trained.

        Raises UserError if there is none, or if its config is another.
        """
        spec, exported = None, None
        if self.mode.trained:
            check_trained(self.place)
            exported = export.read(self.place)
            if not self.flags.override_config:
                stored = folder.read_run(self.place)
                before = configs.complete(stored.config, stored.config_file).to_dict()
                config = self.config.to_dict()
                folder.check_same_config(
                    self.place, config, stored=before, to_train=False
                )
                spec = stored.spec
        return Run(
            self.workdir,
            self.config,
            beside=self.beside,
            spec=spec,
            step=getattr(self.options, "step", None),
            stop=stop,
            say=say,
            override_config=self.flags.override_config,
            exported=exported,
        )


def parse(argv: Sequence[str]) -> CommandLine:
    """The command line without the program's name.

    Raises UserError, with the nearest valid name where there is one.
    """
    if not argv:
        raise UserError(
            f"say what to train, as in {EXAMPLE}; --list shows the configs, and --help "
            "what else there is"
        )
    given = list(words(argv))
    overrides = {n[7:]: text for n, text in given if n.startswith("config.")}
    texts = {n: text for n, text in given if not n.startswith("config.")}
    mode = find_mode(texts.get("mode") or "train")
    shared, own = fields.fields_of(Flags), fields.fields_of(mode.options)
    check_known(texts, mode, {**shared, **own})
    flags = read_flags(Flags, {n: t for n, t in texts.items() if n in shared})
    options = read_flags(
        mode.options, {n: t for n, t in texts.items() if n not in shared}
    )
    implied = mode.sets(options)
    config, beside = find(flags, mode, alone=bool(implied))
    for name in implied.keys() & overrides.keys():
        raise UserError(f"--config.{name} is set by another flag too: leave one out")
    overrides |= {name: str(value) for name, value in implied.items()}
    config = override(config, overrides, beside)
    place, workdir = places(flags, mode)
    return CommandLine(
        config=config,
        workdir=workdir,
        place=place,
        mode=mode,
        options=options,
        flags=flags,
        beside=beside,
    )


def words(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """(name, text) of --name=text and --name text; text None of --name alone.

    --noname is --name=false. Raises UserError for what is no flag.
    """
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        match = re.fullmatch(r"--?([A-Za-z][\w.]*)(?:=(.*))?", word, re.DOTALL)
        if match is None:
            raise UserError(
                f"{word!r} is not a flag; flags are written --name=value, as in "
                "--config=configs/ddpm_digits.py"
            )
        name, text = match[1], match[2]
        if text is None and name[:2] == "no" and is_switch(name[2:]):
            name, text = name[2:], "false"
        elif text is None and (name.startswith("config.") or not is_switch(name)):
            if rest and not re.match(r"--?[A-Za-z]", rest[0]):
                text = rest.pop(0)
        yield name, text


def is_switch(name: str) -> bool:
    """Whether --name and --noname may stand alone: of a field of the config too."""
    sections = (Flags, *(find_mode(mode).options for mode in MODES))
    known = {n: f for s in sections for n, f in fields.fields_of(s).items()}
    if name not in known:
        return name.startswith("config.")
    return fields.plain_type(known[name].kind) is bool


def check_known(
    texts: Mapping[str, Any], mode: Mode, known: Mapping[str, Field]
) -> None:
    """Raises UserError for a flag that the mode does not have."""
    for name in texts:
        if name in known:
            continue
        owners = [
            other
            for other in MODES
            if name in fields.fields_of(find_mode(other).options)
        ]
        if owners:
            raise UserError(
                f"--{name} is a flag of {' and '.join(f'--mode={o}' for o in owners)}, "
                f"not of --mode={mode.name}"
            )
        hint = nearest(name, known) or "; --help shows the flags"
        raise UserError(f"unknown flag --{name}{hint}")


def read_flags(section: type, texts: Mapping[str, str | None]) -> Any:
    """The section that these texts give. Raises UserError, which names the flag."""
    values, known = {}, fields.fields_of(section)
    for name, text in texts.items():
        values[name] = _value_of(known[name], f"--{name}", text)
    try:
        return fields.read(section, values)
    except UserError as error:  # a section's fields are flags here
        raise UserError(re.sub(r"\bconfig\.(?=\w)", "--", str(error))) from error


def _value_of(field: Field, name: str, text: str | None) -> Any:
    if text is None:
        if fields.plain_type(field.kind) is not bool:
            raise UserError(f"{name} needs a value: {name}=...")
        return True
    return fields.from_text(field.kind, text, name)


# --- the config -----------------------------------------------------------------------


def find(
    flags: Flags, mode: Mode, *, alone: bool = False
) -> tuple[ConfigDict, Path | None]:
    """(the config, its file) of --config, or else of the run in --workdir.

    alone: in training too.
    """
    if flags.config is not None:
        file, _, _ = flags.config.partition(":")
        return configs.load(flags.config), configs.find_config(file)
    makes_a_run = mode.name in ("train", "import")
    if (makes_a_run and not alone) or flags.workdir is None:
        instead = "" if makes_a_run else ", or a run by --workdir"
        raise UserError(
            "--config is missing: name a file, as in "
            f"--config=configs/ddpm_digits.py{instead}"
        )
    place = places(flags, mode)[0]
    if not place.exists() and place.name in export.shipped():
        check_trained(place)  # says where that model is
    stored = folder.read_run(place)
    return configs.complete(stored.config, stored.config_file), stored.config_file


def places(flags: Flags, mode: Mode) -> tuple[Path, Path]:
    """(where the run or model is read, where it writes): `genjax.export.folder.find`.

    Training and imports make a run where they are told to.
    """
    if flags.workdir is not None and mode.name not in ("train", "import"):
        return export.find(flags.workdir)
    return workdir_of(flags), workdir_of(flags)


def workdir_of(flags: Flags) -> Path:
    """--workdir, or runs/<config name>[_<variant>]."""
    if flags.workdir is not None:
        return place(flags.workdir, "--workdir")
    assert flags.config is not None
    file, _, variant = flags.config.partition(":")
    name = Path(file).stem + (f"_{variant}" if variant else "")
    return Path("runs", re.sub(r"[^\w.-]", "-", name)).absolute()


def override(
    config: ConfigDict, texts: Mapping[str, str | None], beside: Path | None
) -> ConfigDict:
    """The config with the fields changed that the command line names."""
    stated, values = for_data(config.to_dict(), texts), {}
    known = configs.flatten(configs.described(stated, beside))
    for again in (False, True):  # a network of another name has other fields
        for name, text in texts.items():
            if again:
                check_field(name, known)
            if name in known:
                values[name] = _value_of(known[name], f"--config.{name}", text)
        changed = configs.merged(stated, configs.nested(values))
        known = configs.flatten(configs.described(changed, beside))
    kept = {n: v for n, v in configs.flatten(changed).items() if n in known}
    config = configs.complete(configs.nested(kept), beside)
    configs.check_used(config, texts, beside)
    return config


def for_data(
    stated: Mapping[str, Any], texts: Mapping[str, str | None]
) -> Mapping[str, Any]:
    """The config without what it says of its own data set, if another is asked for.

    Fields that the other one has too, and those that the command line names, stay.
    """
    name, data = texts.get("data.name"), stated["data"]
    if name in (None, data["name"]):
        return stated
    kept = {"name", *datasets.options_of(name)}
    kept |= {text.split(".")[1] for text in texts if text.startswith("data.")}
    return {**stated, "data": {k: v for k, v in data.items() if k in kept}}


def check_field(name: str, known: Mapping[str, Any]) -> None:
    """Raises UserError unless the config has a field of that name."""
    if name in known:
        return
    inside = [field for field in known if field.startswith(f"{name}.")]
    if inside:
        raise UserError(
            f"config.{name} is a section, not a field; it has {', '.join(inside)}"
        )
    section = name.rpartition(".")[0]
    beside = [field for field in known if section and field.startswith(f"{section}.")]
    shown = f"; {section} has {', '.join(beside)}" if beside else ""
    hint = nearest(name, known, cutoff=0.8) or shown or nearest(name, known)
    raise UserError(f"unknown config field {name}{hint}")


# --- help -----------------------------------------------------------------------------


def answer(argv: Sequence[str]) -> str | None:
    """What --help, --help with --mode, or --list prints; None without them."""
    if "--list" in argv:
        return list_configs()
    if not any(word in argv for word in HELP):
        return None
    given = list(words([word for word in argv if word not in HELP]))
    name = dict(given).get("mode")
    return help_of_all() if name is None else help_of(find_mode(name))


def help_of_all() -> str:
    """What can be done, mode by mode, and all flags."""
    lines = [
        "Trains, evaluates, samples or looks into an experiment, chosen by a config.",
        "",
        f"    {EXAMPLE}",
        f"    {EXAMPLE}:tiny --config.optim.learning_rate=1e-3",
        "    python launch.py --workdir=runs/ddpm_digits --mode=sample",
        "    python launch.py --workdir=trained/ddpm_digits --mode=sample",
        "",
        "trained/... are models that come with genjax. --list shows the configs,",
        "--mode=show every field of one, --mode=M --help the flags of a mode. A config",
        "is Python and is run: use only those you trust.",
        "",
        *_flag_lines(Flags),
    ]
    for mode in map(find_mode, MODES):
        own = ", ".join(f"--{name}" for name in fields.fields_of(mode.options))
        lines += ["", f"--mode={mode.name}: {mode.summary}", f"    {mode.example}"]
        lines += textwrap.wrap(own, 88, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def help_of(mode: Mode) -> str:
    """What a mode does, and its flags."""
    lines = [f"--mode={mode.name}: {mode.summary}", f"    {mode.example}", ""]
    return "\n".join([*lines, *_flag_lines(mode.options), "", *_flag_lines(Flags)])


def _flag_lines(section: type) -> list[str]:
    lines = []
    for name, field in fields.fields_of(section).items():
        default = "" if field.default in (None, False) else f"={_shown(field.default)}"
        known = fields.choices_of(field.kind).replace(" or None", "")
        known = "" if known == "None" else known
        if name == "mode":
            known = ", ".join(MODES)
        words = "; ".join(filter(None, [field.meaning, known]))
        lines += textwrap.wrap(
            f"{f'--{name}{default}':<24} {words}", 88, subsequent_indent=" " * 25
        )
    return lines


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def list_configs() -> str:
    """A line for each config: its data, how long training takes, and what it is.

    The time is what its file states as TIME, where it was measured.
    """
    folders = {Path("configs").absolute(), configs.INSTALLED / "configs"}
    found = {p.stem: p for home in folders for p in sorted(home.glob("[!_]*.py"))}
    lines = [f"{'config':<27} {'data':<20} {'training took':<19} what it is"]
    for name in sorted(found):
        tree = ast.parse(found[name].read_text())
        said = (ast.get_docstring(tree) or "").partition("\n")[0]
        time = next(filter(None, map(_stated_time, tree.body)), "")
        data = _data_of(found[name])
        lines.append(f"{name:<27} {data:<20} {time:<19} {said}".rstrip())
    return "\n".join(lines)


def _stated_time(node: ast.stmt) -> str:
    match node:
        case ast.Assign(
            targets=[ast.Name(id="TIME")], value=ast.Constant(value=str(time))
        ):
            return time
    return ""


def _data_of(file: Path) -> str:
    """The name of a config's data, of both domains where there are two."""
    try:
        data: Any = configs.load(str(file)).data
    except UserError:  # it says so when it is used
        return "?"
    if data.name != "domains":
        return data.name
    names = (data.a.name, data.known_map or data.b.name)
    return ", ".join(dict.fromkeys(n.rpartition("/")[2] for n in names if n))
