"""The program: `genjax`, `python -m genjax`, and in a clone `python launch.py`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import genjax
from genjax.screen import without_a_reader  # this and the next import no JAX
from genjax.training.stop import leaving_on_a_signal

EXIT_NO_READER = 141  # as of a program that SIGPIPE ends
LAUNCH = "python launch.py"  # as examples are written


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit code.

    argv: without the program's name; None: that of this process.
    """
    argv = sys.argv[1:] if argv is None else argv
    with leaving_on_a_signal(), without_a_reader():
        if "jax" not in sys.modules:  # first words before the imports, which take long
            print(f"genjax {genjax.__version__}: starting", file=sys.stderr, flush=True)
        return run(argv)


def run(argv: Sequence[str]) -> int:
    """`main`, once signals and closed pipes are taken care of."""
    from genjax import commandline, disk
    from genjax.typing import DivergedError, LostProcess, SaveError, Stopped, UserError

    try:
        text = commandline.answer(argv)
        if text is not None:
            print(_as_called(text))
        else:
            commandline.parse(argv).start()
        sys.stdout.flush()
    except (UserError, DivergedError, SaveError, LostProcess) as error:
        return _say(error, error.exit_code)
    except Stopped as place:
        return _say(f"stopped {place}; the same command goes on", place.exit_code)
    except BrokenPipeError:  # the reader of the output has had enough, like `head`
        disk.drop_output()
        return EXIT_NO_READER
    return 0


def _say(message: object, code: int) -> int:
    print(_as_called(f"genjax: {message}"), file=sys.stderr)
    return code


def _as_called(text: str) -> str:
    """The text with its examples as this process was called: they can be typed."""
    program = Path(sys.argv[0])
    if program.name == "genjax":  # the console script
        return text.replace(LAUNCH, "genjax")
    if program.absolute() == Path(__file__).absolute():
        return text.replace(LAUNCH, "python -m genjax")
    return text


if __name__ == "__main__":
    sys.exit(main())
