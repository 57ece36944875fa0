"""--mode=show: every field of a config, with its default and its meaning."""

import dataclasses

from genjax import configs
from genjax.modes.mode import Mode
from genjax.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """No flags."""


def show(run: Run, options: Options) -> None:
    """Prints the config. It needs no data and no devices."""
    print(configs.show(run.config, run.beside))


MODE = Mode(
    name="show",
    summary="print every field of the config: value, default, meaning",
    example="python launch.py --config=configs/ddpm_digits.py --mode=show",
    options=Options,
    trained=False,
    run=show,
)
