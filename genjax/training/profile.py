"""--profile: what some training steps do on the devices and on the host, as a trace."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from genjax.screen import Say
from genjax.training.compile import CompiledExperiment, Health, Status
from genjax.typing import Array, Batch, Metrics


class Profiled:
    """A compiled experiment, `num_steps` of whose steps leave a trace in the folder.

    The trace begins after the first call, when everything is compiled and in place.
    What falls between its steps (saving, pictures) is in it too. Each process has its
    own.
    """

    def __init__(
        self, compiled: CompiledExperiment, folder: Path, num_steps: int, *, say: Say
    ):
        self._compiled, self._folder, self._say = compiled, folder, say
        self._left, self._calls = num_steps, 0
        self._traced: tuple[int, int] | None = None  # the first step, and the next
        self._tracing = False

    def healthy(self, skipped: int = 0) -> Health:
        """As `CompiledExperiment.healthy`."""
        return self._compiled.healthy(skipped)

    def temporary_bytes(self) -> int:
        """As `CompiledExperiment.temporary_bytes`."""
        return self._compiled.temporary_bytes()

    def run(
        self,
        state: Any,
        health: Health,
        resident: Mapping[str, Array],
        feed: Batch,
        first_step: int,
        **more: Any,
    ) -> tuple[Any, Health, Metrics, Status]:
        """As `CompiledExperiment.run`, in two calls where the trace ends in between."""
        self._calls += 1
        if self._calls == 1 or not self._left:
            run = self._compiled.run
            return run(state, health, resident, feed, first_step, **more)
        num_steps = len(next(iter(feed.values())))
        inside = min(num_steps, self._left)
        parts = [{k: v[:inside] for k, v in feed.items()}]
        if inside < num_steps:
            parts.append({k: v[inside:] for k, v in feed.items()})
        if not self._tracing:
            self._begin(state, health, resident, feed, first_step)
        done = self._compiled.run(state, health, resident, parts[0], first_step, **more)
        self._count(done, first_step + inside, inside)
        if len(parts) == 1:
            return done
        state, health, metrics, _ = done
        state, health, later, status = self._compiled.run(
            state, health, resident, parts[1], first_step + inside, **more
        )
        metrics = jax.tree.map(lambda *m: jnp.concatenate(m), metrics, later)
        return state, health, metrics, status

    def _begin(
        self, state: Any, health: Health, resident: Any, feed: Batch, step: int
    ) -> None:
        """Compiles all calls, as far as they are as long as this one; then starts."""
        whole = len(next(iter(feed.values())))
        last = self._left % whole  # of the last call in the trace, if it is cut
        for length in {min(whole, self._left), last, whole - last} - {0}:
            part = {k: v[:length] for k, v in feed.items()}
            self._compiled.prepare(state, health, resident, part)
        jax.block_until_ready(state)  # nothing of the steps before is in the trace
        jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
        self._tracing, self._traced = True, (step, step)

    def _count(self, done: Any, next_step: int, num_steps: int) -> None:
        assert self._traced is not None
        self._traced = self._traced[0], next_step
        self._left -= num_steps
        if not self._left:
            jax.block_until_ready(done)
            self._end()

    def _end(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()

    def close(self) -> None:
        """Ends the trace if training ended first; says where it is."""
        self._end()
        if self._traced is None:
            self._say(
                "--profile: nothing was traced, as training ended with its first call, "
                "which compiles: train longer, or set training.steps_per_call lower"
            )
            return
        first, after = self._traced
        files = sorted(self._folder.rglob("*.json.gz"), key=lambda p: p.stat().st_mtime)
        self._say(
            f"profile of steps {first} ... {after - 1}: open {files[-1]} in "
            f"https://ui.perfetto.dev, or pip install xprof and xprof {self._folder}"
        )
