"""The progress of a run: a bar on a terminal, plain lines in a log file."""

import datetime
import io
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm


class Progress:
    """Progress of a run up to `total` steps; a context manager.

    On a terminal: one bar with steps/s, time left, images/s and the loss. Elsewhere: a
    line at most every `every` seconds, and at the last step, so that a log file stays
    readable.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        *,
        images_per_step: int,
        every: float = 10.0,
        metric: str = "loss",
        stream: io.TextIOBase | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """start: steps done before. metric: the one to show. stream: None is stderr.

        clock: in seconds, for the plain lines.
        """
        self._total = total
        self._images_per_step = images_per_step
        self._every = every
        self._metric = metric
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._step, self._time = start, clock()  # of the last line
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=start,
                unit="step",
                dynamic_ncols=True,
                file=self._stream,
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def update(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Shows that `step` steps are done. metrics: theirs; the mean of one is shown.

        Numbers, or arrays on a device, of which only that one is fetched, and only
        where it is shown.
        """
        if self._bar is not None:
            self._update_bar(step, self._shown(metrics))
        elif step >= self._total or self._clock() - self._time >= self._every:
            self._print_line(step, self._shown(metrics))

    def _shown(self, metrics: Mapping[str, Any]) -> dict[str, str]:
        if self._metric not in metrics:
            return {}
        return {self._metric: f"{np.mean(np.asarray(metrics[self._metric])):.4g}"}

    def stood_still(self, seconds: float) -> None:
        """For so long no step was made, so it does not count in the rate."""
        self._time += seconds
        if self._bar is not None:
            self._bar.unpause()

    def say(self, message: str) -> None:
        """Prints a message: above the bar, or as a line."""
        if self._bar is not None:
            self._bar.write(message, file=self._stream)
        else:
            print(message, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _update_bar(self, step: int, shown: dict[str, str]) -> None:
        assert self._bar is not None
        self._bar.update(step - self._bar.n)
        bar = self._bar.format_dict
        # tqdm smooths its rate, and has none at first.
        rate = bar["rate"] or (bar["n"] - bar["initial"]) / max(bar["elapsed"], 1e-9)
        images = f"{rate * self._images_per_step:,.0f}"
        self._bar.set_postfix({"images/s": images} | shown)

    def _print_line(self, step: int, shown: dict[str, str]) -> None:
        """The rate is that since the line before, so compilation is in the first."""
        seconds = self._clock() - self._time
        parts = [f"step {step:,}/{self._total:,}"]
        parts += [f"{name} {value}" for name, value in shown.items()]
        if seconds > 0 and step > self._step:
            rate = (step - self._step) / seconds
            left = datetime.timedelta(seconds=round((self._total - step) / rate))
            parts += [
                f"{rate:.3g} steps/s",
                f"{rate * self._images_per_step:,.0f} images/s",
            ]
            parts += [f"{left} left"]
        self.say("  ".join(parts))
        self._step, self._time = step, self._clock()
