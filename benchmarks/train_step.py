"""Times DDPM's training step three ways, in turn, in one process on one device.

    python benchmarks/train_step.py --size=cifar --batch=8 --rounds=5

ours       experiments/ddpm.py through `compile_experiment`; again with the program from
           the compilation cache
flax       that experiment with flax's Conv and GroupNorm + swish for ours, and a plain
           `jax.jit` that donates the state: no options for the compiler
diffusers  UNet2DModel in PyTorch, channels_last, fused Adam; on a GPU `torch.compile`

Each step: mirrored images where the config says so, forward, backward, clipping, Adam,
moving average. Ours alone also guards against a non-finite step.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # room for torch

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from configs import ddpm_cifar, ddpm_digits, ddpm_mnist
from experiments.ddpm import make_experiment
from genjax.models import unet
from genjax.nn import attention
from genjax.nn.norms import num_groups
from genjax.train.compile import compile_experiment
from genjax.train.sharding import BATCH_AXES
from genjax.typing import DataSpec

CONFIGS = {"cifar": ddpm_cifar, "mnist": ddpm_mnist, "small": ddpm_digits}
SHAPES = {"cifar": (32, 32, 3), "mnist": (28, 28, 1), "small": (8, 8, 1)}
NUM_THREADS = len(os.sched_getaffinity(0))  # what jax takes

Call = Callable[[], float]  # one step for each batch; the last loss, once it is there


def setting(size: str, dtype: str = "float32") -> tuple[ConfigDict, DataSpec]:
    config, shape = CONFIGS[size].get_config(), SHAPES[size]
    config.model.dtype = dtype
    counts = {"num_levels": 256, "num_train": 0, "num_eval": 0, "num_classes": 0}
    return config, DataSpec(name=size, shape=shape, dtype="uint8", **counts)


def ours(config: ConfigDict, spec: DataSpec, images: np.ndarray) -> tuple[int, Call]:
    kinds = 2 * (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((1, 1), BATCH_AXES, kinds, devices=jax.devices()[:1])
    compiled = compile_experiment(make_experiment(config, spec), mesh)
    state, health = compiled.init(seed=0), compiled.healthy()
    feed = {"image": jax.device_put(images)}

    def call() -> float:
        nonlocal state, health
        state, health, metrics, _ = compiled.run(state, health, {}, feed, 0, seed=0)
        return float(metrics["loss"][-1])

    return sum(leaf.size for leaf in jax.tree.leaves(state.params)), call


def flax(config: ConfigDict, spec: DataSpec, images: np.ndarray) -> tuple[int, Call]:
    experiment, key = make_experiment(config, spec), jax.random.key(0)
    step = jax.jit(experiment.train_step, donate_argnums=0)
    batches = [{"image": jax.device_put(batch)} for batch in images]
    with flax_layers():
        state = jax.jit(experiment.init)(key)

    def call() -> float:
        nonlocal state
        metrics = {}
        with flax_layers():  # for the first call, which traces
            for batch in batches:
                state, metrics = step(state, batch, key)
        return float(metrics["loss"])

    return sum(leaf.size for leaf in jax.tree.leaves(state.params)), call


@contextlib.contextmanager
def flax_layers() -> Iterator[None]:
    """Networks traced inside have flax's layers, and the same tree of parameters."""

    def norm(silu: bool = False, name: str | None = None):
        def apply(x: jax.Array) -> jax.Array:
            y = nn.GroupNorm(num_groups(x.shape[-1]), dtype=x.dtype, name=name)(x)
            return nn.swish(y) if silu else y

        return apply

    with mock.patch.multiple(unet, Conv=nn.Conv, GroupNorm=norm):
        with mock.patch.object(attention, "GroupNorm", norm):
            yield


def diffusers(config: ConfigDict, spec: DataSpec, images: np.ndarray):
    import diffusers as hf  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(NUM_THREADS)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as jax has it
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, method, optim = config.model, config.method, config.optim
    heights = [spec.shape[0] >> i for i in range(len(model.channel_multipliers))]
    kinds = ["Attn" * (height in model.attention_resolutions) for height in heights]
    network = hf.UNet2DModel(
        in_channels=spec.shape[-1],
        out_channels=spec.shape[-1],
        block_out_channels=[model.channels * m for m in model.channel_multipliers],
        layers_per_block=model.num_res_blocks,
        down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
        up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)],
        norm_num_groups=num_groups(model.channels),
        attention_head_dim=None,  # one head
        dropout=model.dropout,
    ).to(device, memory_format=torch.channels_last)
    params = list(network.parameters())
    ema_params = [param.detach().clone() for param in params]
    adam = torch.optim.Adam(params, lr=optim.learning_rate, fused=True)
    forward = torch.compile(network) if device == "cuda" else network
    path = hf.DDPMScheduler(method.num_timesteps, method.beta_start, method.beta_end)
    batches = torch.from_numpy(images).to(device).permute(0, 1, 4, 2, 3)

    def step(batch):
        x0, size = batch.float() / 127.5 - 1, len(batch)
        if method.flip:
            heads = torch.rand((size, 1, 1, 1), device=device) < 0.5
            x0 = torch.where(heads, x0.flip(3), x0)
        i = torch.randint(method.num_timesteps, (size,), device=device)
        eps = torch.randn_like(x0)
        with torch.autocast(device, torch.bfloat16, model.dtype == "bfloat16"):
            eps_hat = forward(path.add_noise(x0, eps, i), i).sample
        loss = torch.nn.functional.mse_loss(eps_hat.float(), eps)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, optim.clip)
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(ema_params, params, 1 - optim.ema_decay)
        return loss.detach()

    def call() -> float:
        return [step(batch) for batch in batches][-1].item()

    return sum(param.numel() for param in params), call


def main() -> None:
    parser = argparse.ArgumentParser(description="Times DDPM's training step.")
    parser.add_argument("--size", choices=CONFIGS, default="cifar")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    steps = 1 if jax.default_backend() == "cpu" else 20  # in a round
    shape = (steps, flags.batch, *SHAPES[flags.size])
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    counts, calls, starts, times = {}, {}, {}, {}
    ways = {"ours": ours, "ours, cached": ours, "flax": flax, "diffusers": diffusers}
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        for name, make in ways.items():
            work, began = setting(flags.size, flags.dtype), time.perf_counter()
            try:
                counts[name], calls[name] = make(*work, images)
            except ImportError as error:
                print(f"{name} is left out: {error}")
                continue
            made = time.perf_counter()
            calls[name]()
            starts[name] = f"{made - began:.1f} + {time.perf_counter() - made:.1f}"
            if name == "ours":
                jax.clear_caches()  # the next finds its program on the disk alone
    assert len(set(counts.values())) == 1, counts

    for name in flags.rounds * list(calls):
        time.sleep(0.3)  # until the threads of the one before have gone to sleep
        began = time.perf_counter()
        assert np.isfinite(calls[name]()), name
        times.setdefault(name, []).append((time.perf_counter() - began) / steps)

    device = jax.devices()[0].device_kind
    if device == "cpu" and (info := Path("/proc/cpuinfo")).exists():
        device = info.read_text().partition("model name\t: ")[2].partition("\n")[0]
    names = [m for m in ("jax", "flax", "torch", "diffusers") if m in sys.modules]
    print(
        f"{flags.size}, batch {flags.batch}, {flags.dtype}, {counts['ours']:,} weights"
    )
    print(f"{device}, {NUM_THREADS} threads, load {os.getloadavg()[0]:.1f}")
    print(", ".join(f"{name} {metadata.version(name)}" for name in names))
    print("| | s a step, median (min) | images/s | / ours | s to init + first call |")
    print("|---|---|---|---|---|")
    for name, values in times.items():
        median, unit = statistics.median(values), statistics.median(times["ours"])
        speed = f"{median:.3g} ({min(values):.3g}) | {flags.batch / median:.3g}"
        print(f"| {name} | {speed} | {median / unit:.2f} | {starts[name]} |")


if __name__ == "__main__":
    main()
