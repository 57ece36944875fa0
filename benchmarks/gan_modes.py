"""Which modes GANs find of a grid or a ring of Gaussians, over several seeds.

    python benchmarks/gan_modes.py --data=gaussians25 --seeds=10 --out=gan_modes.json
    python benchmarks/gan_modes.py --methods=WGAN-GP --set optim.learning_rate=1e-4

Each method is a variant of configs/gan_grid25.py; for each seed another start, another
order of the data, other noise. The last row of the table are exact
samples of the density, and beside each method stands what PacGAN (Lin et al. 2018,
arXiv:1712.04086) gives for it: larger networks, 400,000 steps, the mean of 10 runs.

On an accelerator the seeds train side by side under vmap, on a CPU one after the other:
there the batched products of vmap take twice as long (measured with 4 seeds).
"""

import argparse
import ast
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genjax import configs
from genjax.data import toy
from genjax.data.datasets import load
from genjax.evaluation.density_modes import Modes, mode_kl_floor, mode_metrics
from genjax.experiment import Experiment
from genjax.typing import Array, Key

METHODS = {  # variants of the config
    "GAN": ":plain",
    "PacGAN4": ":pacgan4",
    "WGAN-GP": ":wgan_gp",
    "RpGAN+R1+R2": "",
}
PUBLISHED = {
    "gaussians25": {
        "GAN": "17.3 ± 0.8; 0.948; 0.70",
        "PacGAN4": "24.8 ± 0.2; 0.936; 0.04",
    },
    "gaussians8": {"GAN": "6.3 ± 0.5", "PacGAN4": "7.8"},
}
POINT_SCALES = {"gaussians25": 2.8, "gaussians8": 1.4}  # standard deviations
NUM_SAMPLES = 2500


def setting(
    method: str,
    *,
    data: str,
    steps: int | None = None,
    width: int | None = None,
    changes: Sequence[str] = (),
) -> ConfigDict:
    """The config of a method; None: steps and widths as they are there.

    changes: "section.field=value" each, after those of the variant. A critic that makes
    several steps sees as many whole batches, and a batch counts packs, as PacGAN's do.
    """
    config = configs.load(f"gan_grid25{METHODS[method]}")
    config.data.name = data
    config.inputs.point_scale = POINT_SCALES[data]
    config.training.batch_size //= config.method.critic_steps * config.method.packing
    if steps is not None:
        config.training.num_steps = steps
    for schedule in (config.optim, config.method.penalty):
        if schedule.decay_steps is not None:
            schedule.decay_steps = config.training.num_steps
    if width is not None:
        config.model.g_widths = (width,) * len(config.model.g_widths)
        config.model.d_widths = (width,) * len(config.model.d_widths)
    for change in changes:
        field, _, value = change.partition("=")
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pass  # a word
        config.update_from_flattened_dict({field: value})
    config.training.batch_size *= config.method.critic_steps * config.method.packing
    return config


def train(
    experiment: Experiment, data: dict[str, Array], config: ConfigDict, keys: Key
) -> tuple[Any, Array]:
    """(states, largest loss) after training.num_steps from each of the keys."""
    num_steps, batch_size = config.training.num_steps, config.training.batch_size

    def of_seed(key: Key) -> tuple[Any, Array]:
        init_key, row_key, step_key = jax.random.split(key, 3)

        def step(carry: tuple[Any, Array], i: Array) -> tuple[tuple[Any, Array], None]:
            state, worst = carry
            rows = jax.random.randint(
                jax.random.fold_in(row_key, i), (batch_size,), 0, len(data["image"])
            )
            batch = {name: values[rows] for name, values in data.items()}
            state, metrics = experiment.train_step(
                state, batch, jax.random.fold_in(step_key, i)
            )
            # NaN stays: the largest of a NaN and a number is NaN
            return (state, jnp.maximum(worst, jnp.abs(metrics["loss"]))), None

        start = experiment.init(init_key), jnp.zeros(())
        return jax.lax.scan(step, start, jnp.arange(num_steps))[0]

    at_once = 1 if jax.default_backend() == "cpu" else len(keys)
    return jax.jit(lambda keys: jax.lax.map(of_seed, keys, batch_size=at_once))(keys)


def scores(samples: Array, modes: Modes) -> dict[str, list[float]]:
    """{metric: its value for each seed} of (seeds, num, 2)."""
    rows = [mode_metrics(points, modes) for points in np.asarray(samples)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def measure(method: str, flags: argparse.Namespace) -> dict[str, Any]:
    """Trains a method and counts; what is written of it."""
    config = setting(
        method,
        data=flags.data,
        steps=flags.steps,
        width=flags.width,
        changes=flags.set,
    )
    dataset = load(flags.data, num_train=config.data.num_train)
    assert dataset.train.arrays is not None
    experiment = configs.make_experiment(config, dataset.spec)
    assert experiment.sample is not None
    train_key, sample_key = jax.random.split(jax.random.key(flags.seed))
    began = time.perf_counter()
    states, worst = train(
        experiment,
        jax.tree.map(jnp.asarray, dict(dataset.train.arrays)),
        config,
        jax.random.split(train_key, flags.seeds),
    )
    if not np.isfinite(np.asarray(worst)).all():
        raise FloatingPointError(f"{method}: a loss was not finite: {worst}")
    minutes = (time.perf_counter() - began) / 60
    samples = jax.jit(jax.vmap(lambda s, k: experiment.sample(s, k, NUM_SAMPLES)))(
        states, jax.random.split(sample_key, flags.seeds)
    )
    found = scores(samples, known_modes(flags.data))
    return {"scores": found, "minutes": minutes, "config": config.to_dict()}


def exact(flags: argparse.Namespace) -> dict[str, Any]:
    """Samples of the density itself in the place of a model's."""
    keys = jax.random.split(jax.random.key(flags.seed + 1), flags.seeds)
    density = toy.density(flags.data)
    samples = jnp.stack([density.sample(key, NUM_SAMPLES) for key in keys])
    return {"scores": scores(samples, known_modes(flags.data)), "minutes": 0.0}


def known_modes(data: str) -> Modes:
    density = toy.density(data)
    assert density.centers is not None and density.sigma is not None
    return Modes(density.centers, density.sigma)


def row(name: str, result: dict[str, Any], published: str) -> str:
    """A line of the table: mean ± standard deviation over the seeds."""
    cells = [name]
    for metric, form in [("modes", ".1f"), ("high_quality", ".3f"), ("mode_kl", ".4f")]:
        values = result["scores"][metric]
        deviation = np.std(values, ddof=1) if len(values) > 1 else math.nan
        cells.append(f"{np.mean(values):{form}} ± {deviation:{form}}")
    return "| " + " | ".join([*cells, f"{result['minutes']:.1f}", published]) + " |"


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Counts the modes that GANs find.")
    parser.add_argument("--data", choices=[*PUBLISHED], default="gaussians25")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--seeds", type=int, default=10, help="runs of each method")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--steps", type=int, help="of training; the config's")
    parser.add_argument("--width", type=int, help="of all layers; the config's")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="SECTION.FIELD=VALUE", help="of config"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for all numbers")
    flags = parser.parse_args(args)

    num_modes = len(known_modes(flags.data).centers)
    floor = mode_kl_floor(num_modes, NUM_SAMPLES)
    print(
        f"{flags.data}: {num_modes} modes, {flags.seeds} seeds, {NUM_SAMPLES} samples"
    )
    print(f"a seed; exact samples have a KL of {floor:.4f} on average\n")
    print("| | modes | high quality | KL, nats | minutes | PacGAN's table |")
    print("|---|---|---|---|---|---|")
    results = {}
    for method in flags.methods:
        results[method] = measure(method, flags)
        published = PUBLISHED[flags.data].get(method, "")
        print(row(method, results[method], published), flush=True)
    results["exact samples"] = exact(flags)
    print(row("exact samples", results["exact samples"], ""))
    if flags.out is not None:
        flags.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
