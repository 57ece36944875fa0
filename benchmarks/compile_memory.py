"""Compile time and memory of DiT's training step, which is compiled but never run.

    python benchmarks/compile_memory.py --sizes=B,L,XL --batch=32 --out=FILE.json

The DiTs of the paper (`genjax.models.dit`), 256 tokens of 32x32x4 latents, 1000
classes, trained by experiments/flow_matching.py with Adam and a moving average, on one
device of this machine's backend. All arrays are shapes alone, so that a network which
does not fit the machine can be measured on it. Blocks are unrolled or one loop
(model.scan), and kept or computed again for the gradient (model.remat).

trace    seconds until XLA has the program: Python's share
compile  seconds of XLA
state    parameters, their average and Adam's moments
work     what the step needs beside the state, as XLA lays it out
"""

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp

from genjax import configs
from genjax.training.compile import Health, compile_experiment
from genjax.training.sharding import make_mesh
from genjax.typing import DataSpec

SIZES = {  # width, depth, heads; tiny: for tests
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "XL": (1152, 28, 16),
    "tiny": (16, 4, 2),
}
LATENTS, CLASSES = (32, 32, 4), 1000
XLA_SECONDS = "/jax/core/compile/backend_compile_duration"
GIB = 2**30


def measure(size: str, *, scan: bool, remat: bool, batch: int, dtype: str) -> dict:
    """A row: size, scan, remat, parameters, seconds and bytes."""
    width, depth, heads = SIZES[size]
    options = {"width": width, "depth": depth, "num_heads": heads, "dtype": dtype}
    config = configs.complete(
        {
            "experiment": "flow_matching",
            "model": {
                "backbone": "dit",
                "num_classes": CLASSES,
                "scan": scan,
                "remat": remat,
                **options,
            },
            "optim": {"ema_decay": 0.9999},
        }
    )
    spec = DataSpec(
        name="latents",
        shape=LATENTS,
        dtype="uint8",
        num_levels=256,
        num_train=batch,
        num_eval=batch,
        num_classes=CLASSES,
    )
    seconds = []

    def note(event: str, duration: float, **_: Any) -> None:
        if event == XLA_SECONDS:
            seconds.append(duration)

    jax.clear_caches()
    experiment = configs.make_experiment(config, spec)
    compiled = compile_experiment(experiment, make_mesh(devices=jax.devices()[:1]))
    number = jax.ShapeDtypeStruct((), jnp.int32)
    feed = {
        "image": jax.ShapeDtypeStruct((1, batch, *LATENTS), jnp.uint8),
        "label": jax.ShapeDtypeStruct((1, batch), jnp.int32),
        "index": jax.ShapeDtypeStruct((1, batch), jnp.int32),
    }
    jax.monitoring.register_event_duration_secs_listener(note)
    began = time.perf_counter()
    compiled.prepare(compiled.abstract_state, Health(*[number] * 3), {}, feed)
    total = time.perf_counter() - began
    jax.monitoring.unregister_event_duration_listener(note)
    leaves = jax.tree.leaves(compiled.abstract_state)
    return {
        "size": size,
        "scan": scan,
        "remat": remat,
        "parameters": sum(
            leaf.size for leaf in jax.tree.leaves(compiled.abstract_state.params)
        ),
        "trace_s": total - sum(seconds),
        "compile_s": sum(seconds),
        "state_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
        "work_bytes": compiled.temporary_bytes(),
    }


def table(rows: Sequence[dict]) -> str:
    """The rows in Markdown."""
    lines = [
        "| DiT | parameters | blocks | remat | trace s | compile s | state GiB "
        "| work GiB | together |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        state, work = row["state_bytes"] / GIB, row["work_bytes"] / GIB
        blocks, remat = "loop" if row["scan"] else "unrolled", "-x"[row["remat"]]
        lines.append(
            f"| {row['size']} | {row['parameters'] / 1e6:.1f} M | {blocks} | {remat} "
            f"| {row['trace_s']:.1f} | {row['compile_s']:.1f} "
            f"| {state:.2f} | {work:.2f} | {state + work:.2f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Where this was measured."""
    device = jax.devices()[0].device_kind
    if device == "cpu" and (info := Path("/proc/cpuinfo")).exists():
        device = info.read_text().partition("model name\t: ")[2].partition("\n")[0]
    load = f"{len(os.sched_getaffinity(0))} threads, load {os.getloadavg()[0]:.1f}"
    used = [f"{m} {metadata.version(m)}" for m in ("jax", "flax")]
    return ", ".join([device, load, *used, f"Python {platform.python_version()}"])


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table; a row goes to --out as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="B,L,XL", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows")
    flags = parser.parse_args(argv)
    names = flags.sizes.split(",")
    if unknown := [name for name in names if name not in SIZES]:
        parser.error(f"no size {unknown[0]}; there are {', '.join(SIZES)}")
    jax.config.update("jax_compilation_cache_dir", None)  # times are of compiling
    rows: list[dict] = []
    protocol = {"machine": machine(), "batch": flags.batch, "dtype": flags.dtype}
    for size, scan, remat in itertools.product(names, (False, True), (False, True)):
        row = measure(
            size, scan=scan, remat=remat, batch=flags.batch, dtype=flags.dtype
        )
        rows.append(row)
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
        if flags.out is not None:
            flags.out.write_text(json.dumps({**protocol, "rows": rows}, indent=1))
    print(f"{machine()}; batch {flags.batch}, {flags.dtype}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
