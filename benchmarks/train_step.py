"""Times DDPM's training step three ways, in turn, in one process on one device.

    python benchmarks/train_step.py --size=cifar --batch=8 --rounds=5

ours       experiments/ddpm.py through `compile_experiment`, as the loop runs it
flax       the same experiment with flax's own Conv and GroupNorm + swish for ours, and
           a plain `jax.jit` that donates the state: no options for the compiler
diffusers  UNet2DModel in PyTorch, channels_last, fused Adam; left out where torch or
           diffusers is not installed

A step of each: uint8 images on the device, mirrored or not; a time and noise for each;
forward, backward, clipping by the global norm, Adam, moving average of the weights. The
networks have the same number of parameters. Ours also guards against a step that is not
finite. bfloat16 is that of the arithmetic: the weights stay float32.
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
from typing import NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # room for torch

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs import ddpm_digits
from experiments.ddpm import make_experiment
from genjax.models import unet
from genjax.nn import attention
from genjax.nn.norms import num_groups
from genjax.train.compile import compile_experiment
from genjax.train.sharding import BATCH_AXES
from genjax.typing import DataSpec

SIZES = {  # side, colours, channels, multipliers, blocks, where attention is
    "cifar": (32, 3, 128, (1, 2, 2, 2), 2, (16,)),  # Ho et al. 2020: 35.7 M parameters
    "mnist": (28, 1, 64, (1, 2, 2), 2, (14,)),
    "small": (8, 1, 32, (1, 2), 1, (4,)),
}


class Entrant(NamedTuple):
    """One way to train, its state made."""

    num_parameters: int
    call: Callable[[], float]  # trains some steps; the last loss, once it is there


def setting(size: str, dtype: str) -> tuple[ConfigDict, DataSpec]:
    """The experiment's config, and what it is told of the images."""
    config, (side, colours, *network) = ddpm_digits.get_config(), SIZES[size]
    names = "channels channel_multipliers num_res_blocks attention_resolutions".split()
    config.model.update(zip(names, network, strict=True), dtype=dtype)
    config.method.flip = True
    levels = {"dtype": "uint8", "num_levels": 256, "num_classes": 0}
    counts = {"num_train": 60_000, "num_eval": 10_000}
    return config, DataSpec(name=size, shape=(side, side, colours), **levels, **counts)


# --- the three ways -------------------------------------------------------------------


def ours(config: ConfigDict, spec: DataSpec, images: np.ndarray, steps: int) -> Entrant:
    axis_types = (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh((1, 1), BATCH_AXES, axis_types, devices=jax.devices()[:1])
    compiled = compile_experiment(make_experiment(config, spec), mesh)
    state, health = compiled.init(seed=0), compiled.healthy()
    sharding = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES))
    feed = {"image": jax.device_put(np.stack([images] * steps), sharding)}

    def call() -> float:
        nonlocal state, health
        state, health, metrics, _ = compiled.run(state, health, {}, feed, 0, seed=0)
        return float(metrics["loss"][-1])

    return Entrant(count(state.params), call)


def flax_defaults(
    config: ConfigDict, spec: DataSpec, images: np.ndarray, steps: int
) -> Entrant:
    experiment, key = make_experiment(config, spec), jax.random.key(0)
    with flax_layers():
        state = jax.jit(experiment.init)(key)
    step = jax.jit(experiment.train_step, donate_argnums=0)
    batch = {"image": jax.device_put(images)}

    def call() -> float:
        nonlocal state
        metrics = {}
        with flax_layers():  # the first call traces
            for i in range(steps):
                state, metrics = step(state, batch, jax.random.fold_in(key, i))
        return float(metrics["loss"])

    return Entrant(count(state.params), call)


@contextlib.contextmanager
def flax_layers() -> Iterator[None]:
    """Networks traced inside have flax's layers, and the same tree of parameters."""

    def norm(silu: bool = False, name: str | None = None):
        def apply(x: jax.Array) -> jax.Array:
            groups = num_groups(x.shape[-1])
            y = nn.GroupNorm(groups, epsilon=1e-6, dtype=x.dtype, name=name)(x)
            return nn.swish(y) if silu else y

        return apply

    with (
        mock.patch.object(unet, "Conv", nn.Conv),
        mock.patch.object(unet, "GroupNorm", norm),
        mock.patch.object(attention, "GroupNorm", norm),
    ):
        yield


def diffusers(
    config: ConfigDict, spec: DataSpec, images: np.ndarray, steps: int, compiled: bool
) -> Entrant:
    import torch  # pyright: ignore[reportMissingImports]
    from diffusers import UNet2DModel  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as jax has it
    model, method, optim = config.model, config.method, config.optim
    heights = [spec.shape[0] >> i for i in range(len(model.channel_multipliers))]
    kinds = ["Attn" * (height in model.attention_resolutions) for height in heights]
    network = UNet2DModel(
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
    forward = torch.compile(network) if compiled else network
    rows = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)  # channels_last
    each = (len(rows), 1, 1, 1)
    ends = (method.beta_start, method.beta_end, method.num_timesteps)
    alpha_squared = torch.cumprod(1 - torch.linspace(*ends, device=device), 0)

    def step():
        x0 = rows.float() / 127.5 - 1
        x0 = torch.where(torch.rand(each, device=device) < 0.5, x0.flip(3), x0)
        i = torch.randint(method.num_timesteps, (len(x0),), device=device)
        eps, a2 = torch.randn_like(x0), alpha_squared[i].reshape(each)
        xt = a2.sqrt() * x0 + (1 - a2).sqrt() * eps
        with torch.autocast(device, torch.bfloat16, model.dtype == "bfloat16"):
            eps_hat = forward(xt, i).sample
        loss = torch.nn.functional.mse_loss(eps_hat.float(), eps)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, optim.clip)
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(ema_params, params, 1 - optim.ema_decay)
        return loss.detach()

    def call() -> float:
        return [step() for _ in range(steps)][-1].item()

    return Entrant(sum(param.numel() for param in params), call)


# --- the measurement ------------------------------------------------------------------


def count(params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
