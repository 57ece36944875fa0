"""Trains, evaluates, samples or looks into an experiment, chosen by a config file.

python launch.py --config=configs/ddpm_digits.py
python launch.py --workdir=runs/ddpm_digits --mode=sample --num_samples=100

From here to the maths: the config names an experiment, experiments/<name>.py holds the
method, and what that imports from genjax holds the formulas. genjax/run.py puts the
experiment and its data together, and genjax/modes/ does what --mode says.
"""

import os
import sys
from collections.abc import Sequence

import genjax

EXIT_USER, EXIT_STOPPED, EXIT_DIVERGED, EXIT_NOT_SAVED = 2, 75, 77, 78
EXIT_NO_READER = 141  # as of a program that SIGPIPE ends


def main(argv: Sequence[str]) -> int:
    """Runs one command line, without the program's name; returns the exit code."""
    if "jax" not in sys.modules:  # first words before the imports, which take seconds
        print(f"genjax {genjax.__version__}: starting", file=sys.stderr, flush=True)
    from genjax import commandline
    from genjax.typing import DivergedError, SaveError, Stopped, UserError

    try:
        text = commandline.answer(argv)
        if text is not None:
            print(text)
        else:
            commandline.parse(argv).start()
        sys.stdout.flush()
    except UserError as error:
        return _say(error, EXIT_USER)
    except Stopped as place:
        return _say(f"stopped {place}; the same command goes on", EXIT_STOPPED)
    except DivergedError as error:
        return _say(error, EXIT_DIVERGED)
    except SaveError as error:
        return _say(error, EXIT_NOT_SAVED)
    except BrokenPipeError:  # the reader of the output has had enough, like `head`
        # what is still in the buffer would fail once more at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO_READER
    return 0


def _say(message: object, code: int) -> int:
    print(f"genjax: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
