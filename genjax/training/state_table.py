"""What the state holds and what it costs, as the lines a run begins with."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

MIB = 2**20


def state_table(abstract_state: Any, max_rows: int = 40) -> str:
    """A table of the state: elements and MiB of each part and of each module of params.

    abstract_state: leaves with shape, dtype and sharding.
    """
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_state):
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        for depth in _depths(names):
            entry = sizes["/".join(names[:depth])]
            entry[0] += leaf.size
            entry[1] += leaf.size * leaf.dtype.itemsize
    rows = [(name, n, b / MIB) for name, (n, b) in sizes.items()]
    if len(rows) > max_rows:
        rows = [row for row in rows if "/" not in row[0]]
    total = [
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract_state)
    ]
    lines = [f"{'part of the state':<44}{'elements':>14}{'MiB':>10}"]
    for name, count, mib in rows:
        label = "  " * name.count("/") + name.rpartition("/")[2]
        lines.append(f"{label:<44}{count:>14,}{mib:>10.1f}")
    device = bytes_per_device(jax.tree.leaves(abstract_state)) / MIB
    lines.append(
        f"{'in all':<44}{'':>14}{sum(total) / MIB:>10.1f}   ({device:.1f} a device)"
    )
    return "\n".join(lines)


def bytes_per_device(leaves: Iterable[Any]) -> int:
    """Bytes that one device holds of these leaves, by their shardings."""
    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
        for leaf in leaves
    )


def _depths(names: list[str]) -> tuple[int, ...]:
    """Parts by their first name; the trained parameters also by module."""
    trained = names[0].endswith("params") and not names[0].startswith("ema")
    # flax wraps its variables in {"params": ...}: look one level deeper.
    module = 3 if len(names) > 2 and names[1] == "params" else 2
    return (1, module) if trained and len(names) > module else (1,)
