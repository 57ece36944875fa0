"""The variants of a config file, and what the variant "tiny" of every config does."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

TINY = {
    "training.num_steps": 4,
    "training.batch_size": 8,
    "training.log_every": 2,
    "training.save_every": 2,
    "training.sample_every": 4,
    "training.eval_every": 4,
    "training.steps_per_call": 2,
    "evaluation.batch_size": 16,
    "evaluation.num_samples": 16,
    "evaluation.limit": 32,
    "sampler.num_steps": 4,
    "likelihood.importance_samples": 7,
}
"""What "tiny" makes of every config, where it has the field."""

TINY_BACKBONES = {
    "unet": {
        "model.channels": 8,
        "model.channel_multipliers": (1, 1),
        "model.num_res_blocks": 1,
        "model.attention_resolutions": (),
        "model.dropout": 0.0,
        "likelihood.draws": 4,
        "likelihood.tolerance": 1e-2,
    },
    "dcgan": {"model.latent_dim": 8, "model.g_channels": 8, "model.d_channels": 8},
    "sngan": {"model.latent_dim": 8, "model.g_channels": 8, "model.d_channels": 8},
    "r3gan": {"model.latent_dim": 8, "model.widths": (8, 8), "model.blocks": (1, 1)},
}
"""What "tiny" makes of a network: one that compiles in seconds."""

TINY_DATA = {
    "gaussians8": {
        "model.width": 64,
        "model.depth": 2,
        "optim.learning_rate": 2e-3,
        "optim.ema_decay": 0.995,
        "training.num_steps": 4000,
        "training.batch_size": 128,
        "training.log_every": 1000,
        "training.save_every": 2000,
        "training.sample_every": 2000,
        "training.eval_every": 4000,
        "training.steps_per_call": 500,
        "evaluation.batch_size": 100,
        "evaluation.num_samples": 1000,
        "evaluation.limit": 1000,
    },
}
"""Points in the plane are learned in seconds, so here "tiny" learns them."""

SCHEDULES = ("warmup_steps", "constant_steps", "decay_steps")


def with_variants(
    config: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[..., ConfigDict]:
    """get_config(variant="") -> the config, changed as the variant says.

    It raises ValueError for a variant that does not exist. What "tiny" of every config
    has in common is added by `genjax.configs.load`.
    """

    def get_config(variant: str = "") -> ConfigDict:
        known = {"tiny": {}, **(variants or {})}
        if variant and variant not in known:
            names = ", ".join(repr(name) for name in known)
            raise ValueError(f"there is no variant {variant!r}; there are {names}")
        chosen = ConfigDict(config)
        chosen.update(known.get(variant, {}))
        return chosen

    return get_config


def tiny(config: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of "tiny" to a config of {"optim.learning_rate": 1e-4, ...}.

    The few steps and examples of `TINY`, the small networks of `TINY_BACKBONES`, and
    schedules as much shorter as the training is.
    """
    wanted = TINY | TINY_BACKBONES.get(config.get("model.backbone", ""), {})
    wanted |= TINY_DATA.get(config["data.name"], {})
    if config.get("evaluation.num_samples") == 0:  # none are drawn from this model
        del wanted["evaluation.num_samples"]
    shorter = wanted["training.num_steps"] / config["training.num_steps"]
    schedules = {
        name: max(1, round(steps * shorter))
        for name, steps in config.items()
        if name.endswith(SCHEDULES) and steps
    }
    return schedules | {name: new for name, new in wanted.items() if name in config}
