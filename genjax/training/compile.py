"""The one place where jit lives: from an Experiment to a compiled train call.

`compile_experiment` is all that a loop of one's own needs:

    compiled = compile_experiment(experiment, make_mesh())
    state, health = compiled.init(seed), compiled.healthy()
    for i in range(1000):
        state, health, metrics, status = compiled.run(
            state, health, {}, feed, i, seed=seed
        )

Global-view jit: batch statistics are global and random draws do not depend on the
number of devices. The state is donated: the arrays passed in are gone afterwards.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.interpreters import partial_eval
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.experiment import Experiment
from genjax.screen import Say, silent
from genjax.streams import Stream, stream_key
from genjax.training.sharding import replicated, state_shardings
from genjax.typing import Array, Batch, Key, Metrics, UserError


class Health(NamedTuple):
    """Counts of discarded steps, int32 scalars on device."""

    skipped: Array  # since the run began
    streak: Array  # in a row, up to now
    first_bad: Array  # the step that began the current streak, -1 without one


class Status(NamedTuple):
    """What the host reads after a call: int32 scalars."""

    stop: Array  # > 0 if any process was asked to stop when the call began
    streak: Array
    skipped: Array
    first_bad: Array


@dataclasses.dataclass(frozen=True)
class CompiledExperiment:
    """An experiment laid out on a mesh. Calls of each length are compiled once."""

    experiment: Experiment
    mesh: Mesh
    gather: Callable[[Mapping[str, Array], Batch], Batch]
    abstract_state: Any  # jax.ShapeDtypeStruct leaves that carry their shardings
    say: Say = silent  # is told before a call is compiled
    _executables: dict[int, Any] = dataclasses.field(default_factory=dict)
    _lowered: dict[int, Any] = dataclasses.field(default_factory=dict)
    _loop_speed: dict[str, bool] = dataclasses.field(default_factory=dict)

    def init(self, seed: int) -> Any:
        """The state before step 0, laid out on the mesh."""
        key = stream_key(seed, Stream.INIT)
        state = evaluate_lazily(self.experiment.init, key)
        return place(state, self.abstract_state)

    def healthy(self, skipped: int = 0) -> Health:
        """The counters before the first call. skipped: before this process began."""
        counts = [jnp.int32(skipped), jnp.int32(0), jnp.int32(-1)]
        return Health(*jax.device_put(counts, replicated(self.mesh)))

    def run(
        self,
        state: Any,
        health: Health,
        resident: Mapping[str, Array],
        feed: Batch,
        first_step: int,
        *,
        seed: int,
        stop: bool = False,
    ) -> tuple[Any, Health, Metrics, Status]:
        """Trains on all steps of `feed`, whose leaves are (steps, batch, ...).

        resident: arrays on device from which `gather` builds a batch.
        stop: this process's wish; any process's wish sets status.stop everywhere.
        Returns the new state, the counters, metrics of shape (steps,), the status.
        """
        calls = []
        for part in self._parts(state, health, resident, feed):
            fixed = np.int32(first_step), np.uint32(seed), self._flag(stop)
            arguments = state, health, dict(resident), part, *fixed
            calls.append(self._executable(arguments)(*arguments))
            state, health, *_ = calls[-1]
            first_step += _num_steps(part)
        metrics = calls[0][2]
        if len(calls) > 1:
            metrics = jax.tree.map(
                lambda *m: jnp.concatenate(m), *[c[2] for c in calls]
            )
        return state, health, metrics, calls[-1][3]

    def prepare(
        self, state: Any, health: Any, resident: Mapping[str, Any], feed: Any
    ) -> None:
        """Compiles what `run` would call with arrays like these.

        jax.ShapeDtypeStructs do as well, the feed's for a single step.
        """
        part = self._parts(state, health, resident, feed)[0]
        fixed = np.int32(0), np.uint32(0), self._flag(False)
        self._executable((state, health, dict(resident), part, *fixed))

    def _parts(self, state, health, resident, feed) -> list[Any]:
        """The feed of each call that `run` makes of one."""
        if _num_steps(feed) == 1:
            return [dict(feed)]
        parts = list(_split(feed))
        fixed = np.int32(0), np.uint32(0), self._flag(False)
        one = state, health, dict(resident), parts[0], *fixed
        return parts if self._loops_slowly(one) else [dict(feed)]

    def _executable(self, arguments: tuple) -> Any:
        """The compiled call for arguments of these shapes."""
        num_steps = _num_steps(arguments[3])
        if num_steps not in self._executables:
            self.say(f"compiling the training step, {num_steps} in a call")
            lowered = self._lowered.pop(num_steps, None)
            lowered = lowered or self._jitted.lower(*arguments)
            self._executables[num_steps] = lowered.compile(train_compiler_options())
        return self._executables[num_steps]

    def temporary_bytes(self) -> int:
        """What one call needs on a device beside the state; 0 before the first call."""
        analyses = [call.memory_analysis() for call in self._executables.values()]
        return max((a.temp_size_in_bytes for a in analyses if a), default=0)

    def _loops_slowly(self, arguments: tuple) -> bool:
        """Whether steps are better called one by one: convolutions on a CPU.

        XLA:CPU brings convolutions into the form that its fast kernels take only in
        the entry computation; inside a loop their gradients are some 50 times slower.
        """
        if "slow" not in self._loop_speed:
            self._loop_speed["slow"] = (
                jax.default_backend() == "cpu" and self._convolves(arguments)
            )
        return self._loop_speed["slow"]

    def _convolves(self, arguments: tuple) -> bool:
        """Whether the call has convolutions; if so it is kept as lowered."""
        self.say("tracing the training step")
        lowered = self._jitted.lower(*arguments)
        found = "stablehlo.convolution" in lowered.as_text()
        if found:  # then it is this call that will be made
            self._lowered[_num_steps(arguments[3])] = lowered
        return found

    @functools.cached_property
    def _jitted(self):
        whole = replicated(self.mesh)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
        return jax.jit(
            functools.partial(_call, self.experiment.train_step, self.gather),
            donate_argnums=(0, 1),
            out_shardings=(shardings, whole, whole, whole),
        )

    def _flag(self, stop: bool) -> Array:
        # on all axes: no two devices hold the same flag, of different processes perhaps
        sharding = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        count = len(sharding.addressable_devices)
        flags = np.full((count,), stop, np.int32)
        return jax.make_array_from_process_local_data(sharding, flags)


def compile_experiment(
    experiment: Experiment,
    mesh: Mesh,
    *,
    gather: Callable[[Mapping[str, Array], Batch], Batch] = lambda resident, row: row,
    say: Say = silent,
) -> CompiledExperiment:
    """Lays the experiment's state out on the mesh; nothing is compiled yet.

    gather: (resident arrays, one step's slice of the feed) -> batch, traced.
    Raises UserError if the mesh splits layers that the experiment cannot split so.
    """
    check_tensor(experiment, mesh.shape.get("tensor", 1))
    shapes = jax.eval_shape(experiment.init, jax.random.key(0))
    shardings = state_shardings(shapes, mesh, experiment.sharding_rules)
    abstract_state = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        shapes,
        shardings,
    )
    return CompiledExperiment(experiment, mesh, gather, abstract_state, say)


def check_tensor(experiment: Experiment, tensor: int) -> None:
    """Raises UserError unless the layers can be split over `tensor` devices."""
    parts = experiment.tensor_parts
    if parts % tensor == 0:
        return
    if parts == 1:
        raise UserError(
            f"config.mesh.tensor={tensor} splits the layers of a transformer, and this "
            "model is none: set it to 1, or choose model.backbone='dit' where there is "
            "one"
        )
    raise UserError(
        f"config.mesh.tensor={tensor} must divide the {parts} heads of the transformer"
    )


def _num_steps(feed: Mapping[str, Any]) -> int:
    return next(iter(feed.values())).shape[0]


def _split(feed: Batch) -> Iterator[Batch]:
    for i in range(_num_steps(feed)):
        yield {name: value[i : i + 1] for name, value in feed.items()}


def _call(train_step, gather, state, health, resident, feed, first_step, seed, stop):
    """The traced call: all steps of the feed, each guarded, then the status."""
    key = stream_key(seed, Stream.TRAIN)

    def one(carry, inputs):
        (state, health), (step, row) = carry, inputs
        batch = gather(resident, row)
        return _guarded_step(train_step, state, health, batch, key, step)

    num_steps = _num_steps(feed)
    steps = first_step + jnp.arange(num_steps, dtype=jnp.int32)
    if num_steps == 1:  # no loop to compile
        only = jax.tree.map(lambda leaf: leaf[0], (steps, feed))
        (state, health), metrics = one((state, health), only)
        metrics = jax.tree.map(lambda leaf: leaf[None], metrics)
    else:
        (state, health), metrics = jax.lax.scan(one, (state, health), (steps, feed))
    status = Status(jnp.max(stop), health.streak, health.skipped, health.first_bad)
    return state, health, metrics, status


def _guarded_step(
    train_step, state, health: Health, batch: Batch, key: Key, step: Array
):
    """One step, whose whole change is discarded if any metric is not finite.

    The metrics decide, and not the new state, so that the selection fuses into the
    update and no second copy of the state is held.
    """
    new_state, metrics = train_step(state, batch, jax.random.fold_in(key, step))
    finite = jnp.all(jnp.stack([jnp.isfinite(m) for m in jax.tree.leaves(metrics)]))
    state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new_state, state)
    bad = 1 - finite.astype(jnp.int32)
    streak = bad * (health.streak + 1)
    began = jnp.where(health.streak == 0, step, health.first_bad)
    health = Health(
        skipped=health.skipped + bad,
        streak=streak,
        first_bad=jnp.where(finite, -1, began),
    )
    return (state, health), metrics


def use_persistent_cache() -> None:
    """Keeps compiled programs on disk, so that the second start takes seconds.

    In JAX_COMPILATION_CACHE_DIR where that is set, else in ~/.cache/genjax/xla.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = os.path.expanduser("~/.cache/genjax/xla")
        jax.config.update("jax_compilation_cache_dir", folder)


@functools.cache
def train_compiler_options() -> dict[str, str | bool] | None:
    """XLA options for a train step on this backend; None where none are known.

    On CPU: leave convolutions out of YNN fusion, which makes their filter gradients
    three to four times faster; and let barriers stand, without which XLA:CPU finds
    that `model.remat` computes the same again, and keeps it after all. The options are
    experimental, so where this jaxlib does not know one they are dropped.
    """
    if jax.default_backend() != "cpu":
        return None
    kinds = ("INDIVIDUAL_DOT", "REDUCE")
    value = ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in kinds)
    options: dict[str, str | bool] = {
        "xla_cpu_experimental_ynn_fusion_type": value,
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }
    try:
        jax.jit(lambda x: x).lower(np.float32(0)).compile(options)
    except jax.errors.JaxRuntimeError:
        return None
    return options


def evaluate_lazily(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, computing only what the outputs need, op by op.

    A network's init traces its forward pass but uses its shapes alone. Dropping the
    dead part and running the rest without a jit around it starts DDPM's U-Net in
    seconds; compiling `jit(init)` takes half a minute.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    used = [True] * len(closed.jaxpr.outvars)
    live, needed = partial_eval.dce_jaxpr(closed.jaxpr, used)
    inputs = [
        x for x, keep in zip(jax.tree.leaves(arguments), needed, strict=True) if keep
    ]
    outputs = jaxpr_as_fun(closed.replace(jaxpr=live))(*inputs)
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


def place(state: Any, abstract_state: Any) -> Any:
    """The state with each leaf on the devices that its abstract leaf's sharding names.

    Works under several processes, each of which holds the same whole values.
    """

    def put(leaf, abstract) -> Array:
        value = np.asarray(leaf)
        return jax.make_array_from_callback(
            value.shape, abstract.sharding, lambda part: value[part]
        )

    return jax.tree.map(put, state, abstract_state)
