"""The folder of an exported model.

weights.safetensors    arrays by name (`genjax.export.parts`)
config.json            as a run's, and {"exported": {"step", "weights", "sha256"}}
README.md              the model card (`genjax.export.card`)

`sha256` is that of the weights' file. Nothing in the folder is code, or can run code.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy

import genjax
from genjax.disk import write_atomically
from genjax.evaluation import weights as files
from genjax.places import place
from genjax.training import workdir as run_folder
from genjax.training.workdir import Stored
from genjax.typing import UserError

WEIGHTS, CARD = "weights.safetensors", "README.md"
SHIPPED = Path(genjax.__file__).parent / "trained"
"""Exported models that come with the package, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """An exported model: where it lies, and what config.json says of it."""

    folder: Path
    step: int  # of training
    weights: Literal["ema", "raw"]  # which of the run's
    sha256: str  # of the weights' file
    stored: Stored

    @property
    def is_shipped(self) -> bool:
        """Whether it comes with the package."""
        return self.folder.parent == SHIPPED

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights. Raises UserError if they are not those that were exported."""
        path = self.folder / WEIGHTS
        arrays, content = files.read(path)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise UserError(
                f"{path} is not the file that was exported (its SHA-256 is another): "
                "copy the folder anew, or export the run again"
            )
        return arrays


def find(workdir: str | os.PathLike[str]) -> tuple[Path, Path]:
    """(the folder of a run or an exported model, where its results are written).

    The same, but for "trained/<name>", a model that comes with the package: unless
    there is such a folder here, its results go to runs/trained/<name>.
    """
    whole, path = place(workdir, "workdir"), Path(workdir).expanduser()
    if path.parts[:-1] == ("trained",) and not path.exists():
        if path.name in shipped():
            return SHIPPED / path.name, Path("runs", path).absolute()
        raise UserError(
            f"there is no folder {path}, and no such model comes with genjax; there "
            f"are {', '.join(f'trained/{name}' for name in shipped())}"
        )
    return whole, whole


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{WEIGHTS}"))


def write(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    card: str,
    *,
    step: int,
    weights: str,
    **stored: Any,
) -> None:
    """Writes the three files. stored: the arguments of `Stored` beside config.

    Raises SaveError, UserError.
    """
    about = {"step": step, "weights": weights}
    said = {"genjax": genjax.__version__, **{k: str(v) for k, v in about.items()}}
    in_order = {name: np.asarray(x, order="C") for name, x in arrays.items()}
    content = safetensors.numpy.save(in_order, said)
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / CARD, card.encode())
    about["sha256"] = hashlib.sha256(content).hexdigest()
    run_folder.write_config(folder, config, exported=about, **stored)


def read(folder: Path) -> Export | None:
    """The exported model in a folder; None if it holds none.

    Raises UserError if it is damaged.
    """
    if not (folder / WEIGHTS).is_file():
        return None
    stored = run_folder.read_run(folder)
    about = stored.exported
    try:
        step, weights, sha256 = (about[k] for k in ("step", "weights", "sha256"))
    except KeyError as error:
        raise _damaged(folder) from error
    fine = type(step) is int and step >= 0 and weights in ("ema", "raw")
    if not (fine and isinstance(sha256, str)):
        raise _damaged(folder)
    return Export(
        folder=folder, step=step, weights=weights, sha256=sha256, stored=stored
    )


def _damaged(folder: Path) -> UserError:
    return UserError(
        f"{folder / 'config.json'} is damaged: it does not say what {WEIGHTS} beside "
        "it is; export the run again"
    )


def same_export(folder: Path, config: Mapping[str, Any], about: Mapping) -> bool:
    """Whether the folder holds that export already: it may be written again."""
    try:
        record = json.loads((folder / "config.json").read_text())
        found = record["exported"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    same = record.get("config_hash") == run_folder.config_hash(config)
    return same and all(found.get(name) == value for name, value in about.items())
