"""The run of --beside: another model, trained on the same data."""

from pathlib import Path

from genjax.run import Run, load
from genjax.typing import UserError


def load_beside(run: Run, beside: Path) -> Run:
    """The newest checkpoint in the folder `beside`, on the test examples of `run`.

    Raises UserError if there is no trained run, or it is of other data.
    """
    own = run.config.to_dict()
    same = {
        "evaluation": {k: own["evaluation"][k] for k in ("batch_size", "limit")},
        "data": {"dir": own["data"]["dir"]},
        "mesh": own["mesh"],
    }
    try:
        other = load(beside, same, stop=run.stop)
    except UserError as error:
        raise UserError(f"--beside: {error}") from error
    if other.dataset.fingerprint != run.dataset.fingerprint:
        raise UserError(
            f"--beside: the run in {beside} is of {other.spec.name} "
            f"({other.dataset.fingerprint}), this one of {run.spec.name} "
            f"({run.dataset.fingerprint}); only the same data can be compared"
        )
    return other
