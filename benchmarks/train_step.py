"""Times DDPM's training step three ways, in turn, in one process on one device.

    python benchmarks/train_step.py --size=cifar --batch=8 --rounds=5

ours       experiments/ddpm.py through `compile_experiment`, which alone also guards
           against non-finite steps; once more, started from a filled compilation cache
flax       that experiment with flax's Conv and GroupNorm + swish for ours, and a plain
           `jax.jit` that donates the state: no options for the compiler
diffusers  UNet2DModel in PyTorch, channels_last, fused Adam; on a GPU `torch.compile`

Each step: mirrored images (cifar), forward, backward, clipping, Adam, moving average.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # room for torch

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from genjax import configs
from genjax.models import traced, unet
from genjax.nn import attention
from genjax.nn.norms import num_groups
from genjax.training.compile import compile_experiment
from genjax.training.sharding import make_mesh
from genjax.typing import DataSpec

CONFIGS = {"cifar": "ddpm_cifar", "mnist": "ddpm_mnist", "small": "ddpm_digits"}
SHAPES = {"cifar": (32, 32, 3), "mnist": (28, 28, 1), "small": (8, 8, 1)}
Call = Callable[[], float]  # a step on each batch; the last loss, once it is there


def setting(size: str, dtype: str = "float32") -> tuple[ConfigDict, DataSpec]:
    config = configs.load(CONFIGS[size])
    config.model.dtype = dtype
    rest = {"num_levels": 256, "num_train": 0, "num_eval": 0, "num_classes": 0}
    return config, DataSpec(name=size, shape=SHAPES[size], dtype="uint8", **rest)


def ours(config: ConfigDict, spec: DataSpec, images: np.ndarray) -> tuple[int, Call]:
    mesh = make_mesh(devices=jax.devices()[:1])
    compiled = compile_experiment(configs.make_experiment(config, spec), mesh)
    state, health = compiled.init(seed=0), compiled.healthy()
    feed = {"image": jax.device_put(images)}

    def call() -> float:
        nonlocal state, health
        state, health, metrics, _ = compiled.run(state, health, {}, feed, 0, seed=0)
        return float(metrics["loss"][-1])

    return sum(leaf.size for leaf in jax.tree.leaves(state.params)), call


def flax(config: ConfigDict, spec: DataSpec, images: np.ndarray) -> tuple[int, Call]:
    experiment = configs.make_experiment(config, spec)
    key = jax.random.key(0)
    step = jax.jit(with_flax_layers(experiment.train_step), donate_argnums=0)
    batches = [{"image": jax.device_put(batch)} for batch in images]
    state, metrics = jax.jit(with_flax_layers(experiment.init))(key), {}

    def call() -> float:
        nonlocal state, metrics
        for batch in batches:
            state, metrics = step(state, batch, key)
        return float(metrics["loss"])

    return sum(leaf.size for leaf in jax.tree.leaves(state.params)), call


def with_flax_layers(function: Callable) -> Callable:
    """The function, whose networks are traced with flax's layers; same parameters."""

    def conv(width, dtype, name, *, stride=1, init=unet.uniform_init) -> nn.Conv:
        return nn.Conv(width, (3, 3), stride, kernel_init=init, dtype=dtype, name=name)

    def norm(groups: int | None = None, *, silu: bool = False, name: str | None = None):
        def apply(x: jax.Array) -> jax.Array:
            count = groups or num_groups(x.shape[-1])
            y = nn.GroupNorm(count, dtype=x.dtype, name=name)(x)
            return nn.swish(y) if silu else y

        return apply

    def anew(*inputs: Any) -> Any:
        traced.apply.clear_cache()  # what was traced with other layers
        try:
            return function(*inputs)
        finally:
            traced.apply.clear_cache()

    patched = mock.patch.object(attention, "GroupNorm", norm)(anew)
    return mock.patch.multiple(unet, _conv=conv, GroupNorm=norm)(patched)


def diffusers(
    config: ConfigDict, spec: DataSpec, images: np.ndarray
) -> tuple[int, Call]:
    torch, hf = import_module("torch"), import_module("diffusers")
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as jax
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
        x0 = batch.float() / 127.5 - 1
        if config.inputs.flip:
            x0 = torch.where(torch.rand_like(x0[:, :1, :1, :1]) < 0.5, x0.flip(3), x0)
        i = torch.randint(method.num_timesteps, (len(x0),), device=device)
        eps = torch.randn_like(x0)
        with torch.autocast(device, torch.bfloat16, model.dtype == "bfloat16"):
            eps_hat = forward(path.add_noise(x0, eps, i), i).sample
        loss = torch.nn.functional.mse_loss(eps_hat.float(), eps)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, optim.clip)
        adam.step()
        torch._foreach_lerp_(ema_params, [p.data for p in params], 1 - optim.ema_decay)
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
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (steps, flags.batch, *SHAPES[flags.size]), np.uint8)

    counts, calls, starts = {}, {}, {}
    ways = {"ours": ours, "ours, cached": ours, "flax": flax, "diffusers": diffusers}
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        for name, make in ways.items():
            work, began = setting(flags.size, flags.dtype), time.perf_counter()
            try:
                counts[name], calls[name] = make(*work, images)
                made = time.perf_counter()
                calls[name]()
                starts[name] = f"{made - began:.1f} + {time.perf_counter() - made:.1f}"
            except ImportError as error:
                print(f"{name} is left out: {error}")
            if name == "ours":
                jax.clear_caches()  # the next finds its program on the disk alone
    assert len(set(counts.values())) == 1, counts

    times = {name: [] for name in calls}
    for name in [n for _ in range(flags.rounds) for n in draws.permutation([*calls])]:
        time.sleep(0.3)  # until the threads of the one before have gone to sleep
        began = time.perf_counter()
        assert np.isfinite(calls[name]()), name
        times[name].append((time.perf_counter() - began) / steps)

    device = jax.devices()[0].device_kind
    if device == "cpu" and (info := Path("/proc/cpuinfo")).exists():
        device = info.read_text().partition("model name\t: ")[2].partition("\n")[0]
    where = f"{len(os.sched_getaffinity(0))} threads, load {os.getloadavg()[0]:.1f}"
    used = [m for m in ("jax", "flax", "torch", "diffusers") if m in sys.modules]
    print(flags.size, f"batch {flags.batch}", flags.dtype, counts["ours"], "parameters")
    print(device, where, *(f"{m} {metadata.version(m)}" for m in used), sep=", ")
    print("\n| | s/step, median (min) | images/s | / ours | s to init + first call |")
    print("|---|---|---|---|---|")
    for name, values in times.items():
        median = np.median(values)
        speed = f"{median:.3g} ({min(values):.3g}) | {flags.batch / median:.3g}"
        print(f"| {name} | {speed} | {median / np.median(times['ours']):.2f}", end="")
        print(f" | {starts[name]} |")


if __name__ == "__main__":
    main()
