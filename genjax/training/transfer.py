"""A new run that begins with the weights of another one, as far as they fit."""

import re
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genjax.state import TrainState
from genjax.typing import Array

MAX_LISTED = 40


class Transfer(NamedTuple):
    """What became of each array of weights, by its path in the state.

    taken: {path: elements}. left: {path: why it is as initialised}. unused: of the
    other run.
    """

    taken: dict[str, int]
    left: dict[str, str]
    unused: list[str]

    def __str__(self) -> str:
        modules = dict.fromkeys(path.rpartition("/")[0] for path in self.taken)
        lines = [
            f"{len(self.taken)} of {len(self.taken) + len(self.left)} arrays taken, "
            f"{sum(self.taken.values()):,} numbers: {', '.join(modules)}"
        ]
        lines = textwrap.wrap(lines[0], 88, subsequent_indent="  ")
        left = [f"  left as initialised: {p} {why}" for p, why in self.left.items()]
        unused = [f"  not used: {path}" for path in self.unused]
        rest = left + unused
        if len(rest) > MAX_LISTED:
            rest = [*rest[:MAX_LISTED], f"  and {len(rest) - MAX_LISTED} more"]
        return "\n".join(lines + rest)


def weights_of(state: Any) -> dict[str, Array]:
    """{path: array} of every TrainState in a state: the averages where it keeps them.

    The paths are those of `params` and `stats`, without what flax wraps them in.
    """
    found: dict[str, Array] = {}
    for path, part in _parts(state):
        if isinstance(part, TrainState):
            params, stats = part.averaged
            for name, tree in {"params": params, "stats": stats}.items():
                found |= {
                    _name(path, name, inner): leaf
                    for inner, leaf in jax.tree_util.tree_leaves_with_path(tree)
                }
    return found


def with_weights(state: Any, source: Mapping[str, Array]) -> tuple[Any, Transfer]:
    """(the state with the arrays of `source` that have its paths and shapes, how).

    state: as initialised. Both its weights and their averages begin with them; the
    optimizers begin anew. Blocks that one of the two keeps in one array, and the other
    one by one, are the same blocks.
    """
    done, source = Transfer({}, {}, []), laid_out(source, weights_of(state))

    def fitting(name: str, own: Array) -> Array:
        other = source.get(name)
        if other is None or other.shape != own.shape:
            there = "not there" if other is None else f"there {other.shape}"
            done.left[name] = f"{own.shape}, {there}"
            return own
        done.taken[name] = own.size
        return jax.device_put(jnp.asarray(other, own.dtype), own.sharding)

    def begun(path: Any, part: Any) -> Any:
        if not isinstance(part, TrainState):
            return part
        params, stats = (
            jax.tree_util.tree_map_with_path(
                lambda inner, leaf, name=name: fitting(_name(path, name, inner), leaf),
                tree,
            )
            for name, tree in {"params": part.params, "stats": part.stats}.items()
        )

        def copied(kept: Any, new: Any) -> Any:
            # no two leaves may share memory: the state is donated
            return None if kept is None else jax.tree.map(jnp.copy, new)

        return part._replace(
            params=params,
            stats=stats,
            ema_params=copied(part.ema_params, params),
            ema_stats=copied(part.ema_stats, stats),
            early_params=copied(part.early_params, params),
        )

    state = jax.tree_util.tree_map_with_path(begun, state, is_leaf=_is_part)
    done.unused.extend(name for name in source if name not in done.taken)
    return state, done


def laid_out(source: Mapping[str, Array], own: Mapping[str, Array]) -> dict[str, Array]:
    """The source, whose blocks are stacked, or one by one, as `own` has them.

    .../blocks/x is the stack of .../block0/x, .../block1/x, ... (`model.scan`).
    """
    found = dict(source)
    for name, array in own.items():
        alone = re.fullmatch(r"((?:.*/)?block)(\d+)(/.*)", name)
        if name.startswith("blocks/") or "/blocks/" in name:
            path = re.sub(r"(^|/)blocks/", r"\1block{}/", name)
            names = [path.format(i) for i in range(len(array))]
            if all(n in source for n in names):
                found[name] = jnp.stack([found.pop(n) for n in names])
        elif alone is not None:
            stack, i = source.get(f"{alone[1]}s{alone[3]}"), int(alone[2])
            if stack is not None and i < len(stack):
                found[name] = stack[i]
                found.pop(f"{alone[1]}s{alone[3]}", None)
    return found


def _is_part(part: Any) -> bool:
    return isinstance(part, TrainState)


def _parts(state: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(state, is_leaf=_is_part)


def _name(path: Any, kind: str, inner: Any) -> str:
    outer, name = (
        jax.tree_util.keystr(p, simple=True, separator="/") for p in (path, inner)
    )
    name = name.removeprefix("params/")
    parts = (outer, "" if kind == "params" else kind, name)
    return "/".join(part for part in parts if part)
