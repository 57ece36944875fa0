"""Trains, evaluates, samples or looks into an experiment, chosen by a config file.

python launch.py --config=configs/ddpm_digits.py
python launch.py --config=configs/ddpm_digits.py --mode=sample --num_samples=100

The way to the maths: the config names an experiment, experiments/<name>.py holds the
method, and what that imports from genjax holds the formulas. genjax/modes.py puts the
experiment, its data and the loop together.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genjax import commandline
from genjax.choices import nearest
from genjax.typing import DivergedError, SaveError, Stopped, UserError

if TYPE_CHECKING:
    from genjax.experiment import MakeExperiment

EXIT_USER, EXIT_STOPPED, EXIT_DIVERGED, EXIT_NOT_SAVED = 2, 75, 77, 78
EXPERIMENTS = Path(__file__).parent / "experiments"


def main(argv: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        options = commandline.parse(argv)
        make_experiment = find_experiment(options.config.experiment)
        # Late: a mistake on the command line is answered before all this is loaded.
        from genjax import modes

        modes.run(options, make_experiment, find_experiment)
    except UserError as error:
        return _say(error, EXIT_USER)
    except Stopped as place:
        return _say(f"stopped {place}; the same command goes on", EXIT_STOPPED)
    except DivergedError as error:
        return _say(error, EXIT_DIVERGED)
    except SaveError as error:
        return _say(error, EXIT_NOT_SAVED)
    return 0


def find_experiment(name: str) -> "MakeExperiment":
    """`make_experiment` of experiments/<name>.py. Raises UserError if there is none."""
    known = sorted(p.stem for p in EXPERIMENTS.glob("*.py") if p.stem[0] != "_")
    if name not in known:
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise UserError(f"there is no experiments/{name}.py{hint}")
    return importlib.import_module(f"experiments.{name}").make_experiment


def _say(message: object, code: int) -> int:
    print(f"genjax: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
