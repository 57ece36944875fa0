"""The run of --beside: another model, trained on the same data."""

import dataclasses
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from genjax.commandline import check_config
from genjax.experiment import MakeExperiment
from genjax.run_setup import Setup, load_trained
from genjax.train import workdir as folder
from genjax.train.stop import StopRequest
from genjax.typing import UserError


def load_beside(
    setup: Setup,
    find_experiment: Callable[[str], MakeExperiment],
    stop: StopRequest,
) -> tuple[Setup, Any, int] | None:
    """(setup, state, step) of the newest checkpoint in --beside, None without the flag.

    Raises UserError if there is no trained run, or it is of other data.
    """
    options = setup.options
    if options.beside is None:
        return None
    if not (options.beside / "checkpoints").is_dir():
        raise UserError(
            f"--beside: there is no trained run in {options.beside}; name the run "
            "folder of another model"
        )
    theirs = dataclasses.replace(
        options,
        config=config_beside(setup),
        workdir=options.beside,
        step=None,
        weights=None,
    )
    make_experiment = find_experiment(theirs.config.experiment)
    other, state, step = load_trained(theirs, make_experiment, stop)
    if other.dataset.fingerprint != setup.dataset.fingerprint:
        raise UserError(
            f"--beside: the run in {options.beside} is of {other.dataset.spec.name} "
            f"({other.dataset.fingerprint}), this one of {setup.dataset.spec.name} "
            f"({setup.dataset.fingerprint}); only the same data can be compared"
        )
    return other, state, step


def config_beside(setup: Setup) -> ConfigDict:
    """The config that the other run was started with, on this one's test examples."""
    assert setup.options.beside is not None
    stored = with_tuples(folder.read_config(setup.options.beside))
    own = setup.config.to_dict()
    try:
        stored["eval"] |= {k: own["eval"][k] for k in ("batch_size", "limit")}
        stored["data"]["dir"] = own["data"].get("dir")
    except KeyError as error:
        raise UserError(f"--beside: its config lacks {error}") from error
    config = ConfigDict(stored | {"mesh": own["mesh"]})
    check_config(config)
    return config


def with_tuples(value: Any) -> Any:
    """As a config file gives it: JSON has turned tuples into lists."""
    if isinstance(value, dict):
        return {name: with_tuples(item) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(with_tuples(item) for item in value)
    return value
