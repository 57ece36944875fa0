"""Where arrays live: a ("data", "fsdp", "tensor") mesh, the batch over the first two.

Parameters and optimizer state are replicated along "data". Along "fsdp" each large leaf
is split on its largest divisible axis, so that with fsdp = n a device holds 1/n of them
(ZeRO stage 3, arXiv:1910.02054; XLA inserts the gathers). fsdp = 1 is plain data
parallelism.

Along "tensor" the layers themselves are split, where an experiment has rules for them:
each device computes its share of a layer for the same examples (arXiv:1909.08053).
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax.typing import BATCH_AXES, UserError

AXES = (*BATCH_AXES, "tensor")
WHOLE = PartitionSpec()
MIN_SHARDED_SIZE = 2**14  # smaller leaves cost more to gather than to keep


def make_mesh(
    fsdp: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None
) -> Mesh:
    """The devices as (devices / (fsdp * tensor), fsdp, tensor), named as `AXES`.

    devices: jax.Device each; None: all of all processes. Raises UserError if fsdp and
    tensor do not divide their number, or if a layer would be split between processes.
    """
    devices = jax.devices() if devices is None else devices
    for name, size, of in [
        ("fsdp", fsdp, len(devices)),
        ("tensor", tensor, len(devices) // max(fsdp, 1)),
    ]:
        if size < 1 or of % size:
            per = f" over fsdp={fsdp}" if of < len(devices) else ""
            raise UserError(
                f"mesh.{name} must divide the number of devices{per}, {of}, but is "
                f"{size}"
            )
    shape = (len(devices) // (fsdp * tensor), fsdp, tensor)
    # Auto: linen's Dropout raises under make_mesh's own default, Explicit.
    auto = (AxisType.Auto,) * len(AXES)
    mesh = jax.make_mesh(shape, AXES, axis_types=auto, devices=devices)
    for group in mesh.devices.reshape(-1, tensor):
        if len({device.process_index for device in group}) > 1:
            raise UserError(
                f"mesh.tensor={tensor} splits layers between processes, whose network "
                "is too slow for that: choose at most the devices of one process"
            )
    return mesh


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: axis 0 over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def state_shardings(
    abstract_state: Any,
    mesh: Mesh,
    rules: Sequence[tuple[str, PartitionSpec]] = (),
) -> Any:
    """A tree of NamedSharding for a tree of shapes.

    rules: (regular expression on the leaf's path, like "params/dense/kernel", spec);
        the first that matches wins over the default layout of this module. One on
        "tensor" leaves the other axes of the leaf to "fsdp".
    Raises UserError if a rule's spec does not fit the leaf that it matches.
    """

    def layout(path, leaf) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, spec in rules:
            if re.search(pattern, name):
                _check_fit(name, leaf.shape, spec, mesh)
                if "tensor" in spec:
                    spec = _with_fsdp(leaf.shape, mesh.shape["fsdp"], spec)
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, _with_fsdp(leaf.shape, mesh.shape["fsdp"]))

    return jax.tree_util.tree_map_with_path(layout, abstract_state)


def _with_fsdp(
    shape: tuple[int, ...], fsdp: int, spec: PartitionSpec = WHOLE
) -> PartitionSpec:
    """spec, and the largest divisible axis that it leaves free on "fsdp"."""
    axes = [*spec, *[None] * (len(shape) - len(spec))]
    sizes = zip(shape, axes, strict=True)
    divisible = [size if size % fsdp == 0 and not axis else 0 for size, axis in sizes]
    if fsdp == 1 or np.prod(shape) < MIN_SHARDED_SIZE or not any(divisible):
        return spec
    axes[int(np.argmax(divisible))] = "fsdp"
    while axes[-1] is None:
        axes.pop()
    return PartitionSpec(*axes)


def _check_fit(name, shape, spec: PartitionSpec, mesh: Mesh) -> None:
    for axis, names in enumerate(spec):
        if names is None:
            continue
        parts = np.prod([mesh.shape[n] for n in np.atleast_1d(names)])
        if axis >= len(shape) or shape[axis] % parts:
            raise UserError(
                f"sharding rule {spec} splits axis {axis} of {name} in {parts} parts, "
                f"but its shape is {shape}"
            )
