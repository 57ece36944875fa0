"""Where arrays live: one ("data", "fsdp") mesh, the batch over both axes.

Parameters and optimizer state are replicated along "data". Along "fsdp" each large leaf
is split on its largest divisible axis, so that with fsdp = n a device holds 1/n of them
(ZeRO stage 3, arXiv:1910.02054; XLA inserts the gathers). fsdp = 1 is plain data
parallelism.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax.typing import UserError

BATCH_AXES = ("data", "fsdp")
MIN_SHARDED_SIZE = 2**14  # smaller leaves cost more to gather than to keep


def make_mesh(fsdp: int = 1) -> Mesh:
    """All devices of all processes as (devices / fsdp, fsdp), named ("data", "fsdp").

    Raises UserError if fsdp does not divide the number of devices.
    """
    count = jax.device_count()
    if fsdp < 1 or count % fsdp:
        raise UserError(
            f"mesh.fsdp must divide the number of devices, {count}, but is {fsdp}"
        )
    # Auto: linen's Dropout raises under make_mesh's own default, Explicit.
    return jax.make_mesh(
        (count // fsdp, fsdp), BATCH_AXES, axis_types=(AxisType.Auto, AxisType.Auto)
    )


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
        the first that matches wins over the default layout of this module.
    Raises UserError if a rule's spec does not fit the leaf that it matches.
    """

    def layout(path, leaf) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, spec in rules:
            if re.search(pattern, name):
                _check_fit(name, leaf.shape, spec, mesh)
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, _default_spec(leaf.shape, mesh.shape["fsdp"]))

    return jax.tree_util.tree_map_with_path(layout, abstract_state)


def _default_spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    divisible = [size if size % fsdp == 0 else 0 for size in shape]
    if fsdp == 1 or np.prod(shape) < MIN_SHARDED_SIZE or not any(divisible):
        return PartitionSpec()
    axis = int(np.argmax(divisible))
    return PartitionSpec(*(["fsdp" if i == axis else None for i in range(axis + 1)]))


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
