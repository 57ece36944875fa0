"""The U-Net of DDPM as the library diffusers stores it (UNet2DModel), by our names.

A folder like google/ddpm-cifar10-32 holds config.json, scheduler_config.json and
diffusion_pytorch_model.safetensors. Every array has one place in
`genjax.models.unet.UNet`; convolutions and matrices change the order of their axes. The
network there counts its steps from 0 (time_offset=1), has the same number of groups in
every norm, and pads before it halves on the right and below alone, as ours does.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genjax.evaluation import weights as files
from genjax.typing import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")

# (name there, name here); {i} is the level counted from the image
PLACES = [
    (r"conv_in", "in"),
    (r"time_embedding\.linear_1", "time0"),
    (r"time_embedding\.linear_2", "time1"),
    (r"down_blocks\.(?P<i>\d+)\.resnets\.(?P<j>\d+)\.(?P<layer>\w+)", "down{i}_{j}/"),
    (
        r"down_blocks\.(?P<i>\d+)\.attentions\.(?P<j>\d+)\.(?P<layer>[\w.]+)",
        "down{i}_{j}_attention/",
    ),
    (r"down_blocks\.(?P<i>\d+)\.downsamplers\.0\.conv", "down{i}"),
    (r"mid_block\.resnets\.(?P<j>[01])\.(?P<layer>\w+)", "middle_{j}/"),
    (r"mid_block\.attentions\.0\.(?P<layer>[\w.]+)", "middle_attention/"),
    (r"up_blocks\.(?P<up>\d+)\.resnets\.(?P<j>\d+)\.(?P<layer>\w+)", "up{i}_{j}/"),
    (
        r"up_blocks\.(?P<up>\d+)\.attentions\.(?P<j>\d+)\.(?P<layer>[\w.]+)",
        "up{i}_{j}_attention/",
    ),
    (r"up_blocks\.(?P<up>\d+)\.upsamplers\.0\.conv", "up{i}"),
    (r"conv_norm_out", "norm_out"),
    (r"conv_out", "out"),
]
LAYERS = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time_emb_proj": "time",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "shortcut",
    "group_norm": "norm",
    # of attention: as they are called now, and as the first published files call them
    "to_q": "query",
    "to_k": "key",
    "to_v": "value",
    "to_out.0": "out",
    "query": "query",
    "key": "key",
    "value": "value",
    "proj_attn": "out",
}
WANTED = {  # options of UNet2DModel: (what ours does, the default there)
    "flip_sin_to_cos": (False, True),
    "freq_shift": (1, 0),
    "downsample_padding": (0, 1),
    "norm_eps": (1e-6, 1e-5),
    "mid_block_scale_factor": (1, 1),
    "center_input_sample": (False, False),
    "time_embedding_type": ("positional", "positional"),
    "resnet_time_scale_shift": ("default", "default"),
    "downsample_type": ("conv", "conv"),
    "upsample_type": ("conv", "conv"),
    "add_attention": (True, True),
    "class_embed_type": (None, None),
    "time_embedding_dim": (None, None),
    "attn_norm_num_groups": (None, None),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights of elsewhere.

    arrays: {"params/...": float32}. changes: of a config, to what they were trained
    with. shape: of an image, if the folder says it.
    """

    file: Path
    arrays: dict[str, np.ndarray]
    changes: dict[str, Any]
    shape: tuple[int, ...] | None


def read(path: Path) -> Pretrained:
    """The weights in a folder, or in a .safetensors file.

    config.json and scheduler_config.json beside them are read where they are. Raises
    UserError for a pickle, a damaged file, and a network that ours cannot be.
    """
    file = find(path)
    arrays, _ = files.read(file)
    levels = {int(m[1]) for n in arrays if (m := re.match(r"up_blocks\.(\d+)\.", n))}
    named: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        ours, value = translated(name, array, num_levels=len(levels))
        named[f"params/{ours}"] = value
    about = _json(file.parent / "config.json")
    scheduler = _json(file.parent / "scheduler_config.json") or _json(
        file.parent.parent / "scheduler" / "scheduler_config.json"
    )
    changes: dict[str, Any] = {"model": {"num_groups": 32, "time_offset": 1.0}}
    shape = None
    try:
        if about is not None:
            changes, shape = {"model": model_of(about)}, shape_of(about)
        if scheduler is not None:
            changes["method"] = method_of(scheduler)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{file.parent / 'config.json'} is not as diffusers writes it "
            f"({type(error).__name__}: {error})"
        ) from error
    return Pretrained(file=file, arrays=named, changes=changes, shape=shape)


def find(path: Path) -> Path:
    """The file of a folder, or the file itself. Raises UserError without one."""
    refuse_pickle(path)
    if path.is_file():
        return path
    for place in (path / WEIGHTS, path / "unet" / WEIGHTS):
        if place.is_file():
            return place
    for found in (*path.glob("*"), *path.glob("unet/*")):
        refuse_pickle(found)
    raise UserError(f"there is no {WEIGHTS} in {path}, nor in its folder unet")


def refuse_pickle(path: Path) -> None:
    """Raises UserError for a file whose name says that it is a pickle."""
    if path.suffix in PICKLES:
        raise UserError(
            f"{path} is a pickle, which can run any code when it is read; take the "
            ".safetensors file of the same model, or write one where you trust the "
            "pickle: safetensors.torch.save_file(model.state_dict(), "
            "'model.safetensors')"
        )


# --- names ----------------------------------------------------------------------------


def translated(
    name: str, array: np.ndarray, *, num_levels: int
) -> tuple[str, np.ndarray]:
    """(our name, our array) of one of theirs. Raises UserError for an unknown name."""
    module, _, kind = name.rpartition(".")
    for pattern, ours in PLACES:
        match = re.fullmatch(pattern, module)
        if match is None:
            continue
        found = match.groupdict()
        if "up" in found:
            found["i"] = str(num_levels - 1 - int(found["up"]))
        layer = found.get("layer")
        if layer is not None and layer not in LAYERS:
            break
        place = ours.format(**found) + (LAYERS[layer] if layer else "")
        return _leaf(place, kind, array.astype(np.float32, copy=False))
    raise UserError(f"{name!r} is no weight of DDPM's U-Net in diffusers' UNet2DModel")


def _leaf(place: str, kind: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    if kind == "bias" or array.ndim == 1:
        return f"{place}/{'bias' if kind == 'bias' else 'scale'}", array
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)  # to height, width, in, out
        if place.endswith("/shortcut"):
            array = array[0, 0]  # of 1x1: a matrix here
        return f"{place}/kernel", array
    return f"{place}/kernel", array.T


# --- configs --------------------------------------------------------------------------


def model_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """config.model of a UNet2DModel's config. Raises UserError where ours differs."""
    if about.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise UserError(f"the weights are of {about['_class_name']}, not UNet2DModel")
    for option, (wanted, default) in WANTED.items():
        if about.get(option, default) != wanted:
            raise UserError(
                f"the model has {option}={about.get(option, default)!r}, and only "
                f"{wanted!r}, as in google/ddpm-cifar10-32, can be read"
            )
    if about.get("act_fn", "silu") not in ("silu", "swish"):
        raise UserError(f"the model has act_fn={about['act_fn']!r}, and ours 'silu'")
    channels = [int(c) for c in about["block_out_channels"]]
    if any(c % channels[0] for c in channels):
        raise UserError(f"block_out_channels={channels} are no multiples of the first")
    down = [kind.startswith("Attn") for kind in about["down_block_types"]]
    up = [kind.startswith("Attn") for kind in about["up_block_types"]]
    if up[::-1] != down:
        raise UserError("up_block_types are not down_block_types in reverse")
    heads = {
        width // about["attention_head_dim"] if about.get("attention_head_dim") else 1
        for width, attends in zip([*channels, channels[-1]], [*down, True], strict=True)
        if attends
    }
    if len(heads) > 1:
        raise UserError(
            f"attention_head_dim={about['attention_head_dim']} gives another number of "
            "heads at each resolution, and ours has the same at all"
        )
    size = int(about["sample_size"])
    return {
        "backbone": "unet",
        "channels": channels[0],
        "channel_multipliers": tuple(c // channels[0] for c in channels),
        "num_res_blocks": int(about["layers_per_block"]),
        "attention_resolutions": tuple(
            size // 2**i for i, attends in enumerate(down) if attends
        ),
        "num_heads": heads.pop(),
        "num_classes": 0,
        "num_groups": int(about.get("norm_num_groups") or 32),
        "time_offset": 1.0,
    }


def shape_of(about: Mapping[str, Any]) -> tuple[int, int, int]:
    """(height, width, channels) of the images."""
    size, channels = int(about["sample_size"]), int(about["in_channels"])
    if about["out_channels"] != channels:
        raise UserError(
            f"the model has {about['out_channels']} outputs of {channels} channels: "
            "learned variances cannot be read"
        )
    return size, size, channels


def method_of(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """config.method of a scheduler's config."""
    schedules = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
    predictions = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
    schedule = scheduler.get("beta_schedule", "linear")
    prediction = scheduler.get("prediction_type", "epsilon")
    if schedule not in schedules or prediction not in predictions:
        raise UserError(
            f"the model's scheduler has beta_schedule={schedule!r} and "
            f"prediction_type={prediction!r}; known are {', '.join(schedules)} and "
            f"{', '.join(predictions)}"
        )
    method = {
        "num_timesteps": int(scheduler.get("num_train_timesteps", 1000)),
        "schedule": schedules[schedule],
        "prediction": predictions[prediction],
        "variance": "fixed",
    }
    if method["schedule"] == "linear":
        method["beta_start"] = float(scheduler.get("beta_start", 1e-4))
        method["beta_end"] = float(scheduler.get("beta_end", 0.02))
    return method


def _json(path: Path) -> dict[str, Any] | None:
    """The file's content; None where there is no such file."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it is no table of options")
    return content
